"""The baselines of this repository: every entry of `[tool.esa.matrix]` against its golden."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # collecting loads no torch
    from esa_pytest.check.guarded import GuardedBaseline


def test_baseline(esa_baseline: "GuardedBaseline") -> None:
    esa_baseline.check()
