"""What of a process's variables belongs to the environment of a run."""

import os

import pytest

from esa_pytest.golden.environment import missing_package_notes, variables, versions


@pytest.mark.parametrize(
    "name",
    ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "OMP_NUM_THREADS", "KMP_AFFINITY", "CUBLAS_LOGINFO_DBG"],
)
def test_a_variable_that_may_change_bits_belongs_to_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {name: "chosen"})
    assert variables() == {f"env.{name}": "chosen"}


# The first two are set by importing scikit-learn, the third by the determinism of a run itself.
@pytest.mark.parametrize("name", ["KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "CUBLAS_WORKSPACE_CONFIG", "HOME"])
def test_a_variable_that_changes_none_does_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {name: "True"})
    assert variables() == {}


def test_a_package_of_the_users_that_is_not_here_is_told() -> None:
    assert missing_package_notes(("numpy", "no-such-kernels")) == (
        (
            "'no-such-kernels' of [tool.esa] packages is not installed here, so no version of it is recorded; correct "
            "its name, or install it."
        ),
    )
    assert "version.no-such-kernels" not in versions(("no-such-kernels",))
