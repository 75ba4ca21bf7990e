"""Projects whose model is changed, what is accepted of that, and what the commands say of it."""

from pathlib import Path

import pytest

from esa_pytest.cli import main
from esa_pytest.golden.ledger import LedgerEntry
from esa_pytest.golden.ledger_files import read_ledger
from tests.plugin.conftest import Project

FAILED, OK, REFUSED = pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.OK, pytest.ExitCode.USAGE_ERROR
# Moves the loss by some thousandths of it, or by a few percent.
SMALL, LARGE = "layers[1].mlp.down_proj.weight.data[3, 5] = 0.5", "norm.weight.data *= 1.5"
PERTURBED = """
def test_baseline(esa_baseline, esa_model):
    esa_model.model.{perturbation}
    esa_baseline.check()
"""


def perturb(project: Project, perturbation: str) -> None:
    project.write_test(PERTURBED.format(perturbation=perturbation))


def goldens_of(project: Project) -> Path:
    return project.golden.parents[1]


def ledger_of(project: Project) -> list[LedgerEntry]:
    return read_ledger(goldens_of(project))


def record_of(project: Project) -> Path:
    return project.output / "record-cpu-bfloat16.json"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    """Exit status, lines and complaint of a command."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    output, complaint = capsys.readouterr()
    return status, output.splitlines(), complaint.strip()
