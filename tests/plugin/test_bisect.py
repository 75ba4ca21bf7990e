"""`esa bisect` from end to end: kernels of the project's own moved the numbers, other packages did not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from esa_pytest.cli import main
from tests.plugin.conftest import Project
from tests.unit.wheels import install, write_wheel

# torch loads what is entered here whenever it is imported, as it does for kernels of other makers.
ENTRY = "[torch.backends]\nesa_kernels = esa_kernels:load\n"
OLD = "def load():\n    pass\n"
NEW = """
def load():
    import torch
    silu = torch.nn.functional.silu
    torch.nn.functional.silu = lambda states, inplace=False: silu(states, inplace) * 1.05
"""
PACKAGES = 'packages = ["esa_kernels", "esa-runtime", "esa-stranger"]'


def put(folder: Path, *, version: str, kernels: str, links: Path | None = None) -> Path:
    """A folder with the three packages; in `links`, the wheels of those that the package index has."""
    wheels = links or folder / "wheels"
    requires = [f"esa-runtime=={version}"]
    kept = {"esa_kernels.py": kernels}
    install(write_wheel(wheels, "esa-kernels", version, files=kept, requires=requires, entry_points=ENTRY), folder)
    install(write_wheel(wheels, "esa-runtime", version), folder)
    install(write_wheel(folder / "nowhere", "esa-stranger", version), folder)
    return folder


@pytest.fixture
def moved(
    project: Project, bits_taken_for_stable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """A project whose golden was recorded before three of its packages were upgraded."""
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    project.add("[tool.esa.matrix]", f"[tool.esa]\n{PACKAGES}\n\n[tool.esa.matrix]")
    with monkeypatch.context() as before:
        before.syspath_prepend(put(tmp_path / "before", version="1.0", kernels=OLD, links=tmp_path / "links"))
        project.record("--esa-device", "cpu")
    monkeypatch.syspath_prepend(put(tmp_path / "now", version="2.0", kernels=NEW))
    yield project
    sys.modules.pop("esa_kernels", None)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Status, lines and complaint of `esa bisect`."""
    capsys.readouterr()
    status = main(["bisect", *arguments, "--esa-device", "cpu"])
    output, complaint = capsys.readouterr()
    return status, output.splitlines(), complaint.strip()


def test_the_package_that_moved_the_numbers_is_named(
    moved: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, lines, complaint = said(capsys)
    assert (status, complaint) == (0, "")
    assert lines[1].startswith("  semantic-drift decided by tier 3: the model computes something else")
    assert "first module that moved is model.layers.0.mlp" in lines[1]
    assert lines[3:7] == [
        "  packages       3 differ, the likeliest first:",
        "    esa-kernels   1.0 -> 2.0",
        "    esa-runtime   1.0 -> 2.0",
        "    esa-stranger  1.0 -> 2.0",
    ]
    tried = [line.split("(")[0].split(None, 1)[1].strip() for line in lines if line.startswith("  tried")]
    assert tried == [
        "esa-kernels back at 1.0, with esa-runtime at 1.0: identical",
        "esa-runtime back at 1.0: semantic-drift",
        "esa-stranger back at 1.0: could not be tried: pip installs no wheel of esa-stranger==1.0",
    ]
    closing = (
        "esa: esa-kernels 1.0 -> 2.0, with esa-runtime 1.0 -> 2.0, is what moved the numbers: with esa-kernels back at "
        "1.0 all 256 token NLLs have the golden's bits."
    )
    assert lines[-1] == closing
    (folder,) = (tmp_path / "cache/bisect").iterdir()
    assert not (folder / "overlays").exists()

    status, lines, _ = said(capsys, "tiny-smoke", "--package", "esa_kernels", "esa-runtime")
    assert (status, lines[-1]) == (0, closing)
    assert sum("kept from an earlier call" in line for line in lines) == 3


def test_a_time_limit_ends_it_with_what_is_left(
    moved: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, lines, complaint = said(capsys, "--time-limit", "0.5", "--work-dir", str(tmp_path / "work"))
    (folder,) = (tmp_path / "work").iterdir()
    assert (status, lines) == (pytest.ExitCode.INTERRUPTED, [])
    assert complaint == (
        f"esa: The time limit of 0.5 s is up while the environment that is here was scored; every package is still to "
        f"be tried. What was measured is kept in {folder}: call esa bisect again to go on from there, with a longer "
        f"limit if one step, or all that broke together, takes longer than this one."
    )
    assert list((folder / "scratch").iterdir()) == []


def test_identical_numbers_end_it(
    project: Project, bits_taken_for_stable: None, capsys: pytest.CaptureFixture[str]
) -> None:
    project.record("--esa-device", "cpu")
    status, lines, _ = said(capsys)
    assert (status, lines[-1]) == (
        0,
        "esa: all 256 token NLLs have the golden's bits here; no package moved the numbers.",
    )


def test_a_package_that_does_not_differ_cannot_be_asked_for(moved: Project, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, complaint = said(capsys, "--package", "torch")
    assert (status, complaint) == (
        pytest.ExitCode.USAGE_ERROR,
        (
            "esa: --package torch names no package that can be moved back; those that differ from the golden's are "
            "esa-kernels, esa-runtime, esa-stranger."
        ),
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["other-smoke"], "esa: There is no baseline 'other-smoke' in the matrix; it has tiny-smoke."),
        (["--time-limit", "soon"], "esa: --time-limit is 'soon'; it takes a number of seconds above 0."),
        (["--time-limit", "0"], "esa: --time-limit is '0'; it takes a number of seconds above 0."),
    ],
)
def test_what_cannot_be_asked_is_told(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert said(capsys, *arguments) == (pytest.ExitCode.USAGE_ERROR, [], complaint)


@pytest.mark.parametrize(("name", "what"), [([], "smoke baseline"), (["tiny-smoke"], "baseline tiny-smoke")])
def test_without_a_golden_there_is_nothing_to_go_back_to(
    project: Project, capsys: pytest.CaptureFixture[str], name: list[str], what: str
) -> None:
    status, lines, complaint = said(capsys, *name)
    assert (status, lines) == (pytest.ExitCode.USAGE_ERROR, [])
    assert complaint == (
        f"esa: There is no golden of a {what} for cpu in {project.pytester.path / 'baselines_golden'}; a bisection "
        f"goes back to one, so record it where the numbers are right (pytest --snapshot-update), or name a baseline "
        f"that has one."
    )


def test_a_model_that_cannot_be_had_is_told(
    project: Project, bits_taken_for_stable: None, capsys: pytest.CaptureFixture[str]
) -> None:
    project.record("--esa-device", "cpu")
    project.add(str(project.checkpoint), "nowhere")
    status, _, complaint = said(capsys)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert complaint == (
        f"esa: tiny-smoke cannot be measured here: There is no checkpoint folder {project.pytester.path / 'nowhere'}; "
        f"correct the path of the model in [tool.esa.models]."
    )
