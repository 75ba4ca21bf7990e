"""A node judges only the very project and code of the driver; what it tells names the driver's folders."""

import json
import sys
from pathlib import Path

import pytest

from esa_pytest.cluster.jobs import Answer, Job
from esa_pytest.cluster.node import run_job
from esa_pytest.cluster.ray_machines import checked_address
from esa_pytest.errors import ClusterError
from esa_pytest.resume.states import code_state, source_state

TEST = """
import os, sys
from pathlib import Path

def test_it(request, capsys):
    config = request.config
    golden_dir = Path(config.getoption("--esa-golden-dir"))
    assert (golden_dir / "tiny__smoke/cpu.json").read_bytes() == b"golden"
    assert (Path(config.getoption("--esa-output-dir")) / "tiny__smoke/judged-1.json").read_bytes() == b"{}"
    assert (os.environ["ESA_NOTE"], os.environ.get("OMP_NUM_THREADS")) == ("told", None)
    assert sys.argv == ["pytest", "-m", "smoke"]
    out = Path(config.getoption("--esa-output-dir")) / "tiny__smoke/manifest.json"
    assert out.read_bytes() == b"yesterday's"
    if "ESA_DONE" in os.environ:
        return
    out.write_text('{"golden_file": "' + str(golden_dir) + '/tiny__smoke/cpu.json"}')
    request.node.user_properties.append(("esa_report", f"see {golden_dir}/x"))
"""
LEAVING = """
import pytest

def test_it():
    pytest.exit("the GPU is gone")
"""
FULL_DISK = """
class Journal:
    def pytest_runtest_logreport(self, report):
        raise OSError("no space left")

def test_it(request):
    request.config.pluginmanager.register(Journal())
"""


def job(root: Path, test: str = TEST, /, **changes: object) -> Job:
    # Each under a module's name of its own: they are imported into this process.
    path = root / f"test_{root.name}.py"
    path.write_text(test, encoding="utf-8")
    fields: dict[str, object] = {
        "nodeid": f"{path.name}::test_it",
        "argument": f"{path}::test_it",
        "folder": "tiny__smoke",
        "root": str(root),
        "started_in": str(root),
        "options": ("-p", "no:cacheprovider", "-p", "no:benchmark"),
        "variables": {"ESA_NOTE": "told", "OMP_NUM_THREADS": None},
        "command": ("pytest", "-m", "smoke"),
        "import_path": tuple(sys.path),
        "code": code_state(),
        "source": source_state(path, root),
        "goldens": {"cpu.json": b"golden"},
        "earlier": {"judged-1.json": b"{}", "manifest.json": b"yesterday's"},
        "golden_shown": "baselines_golden",
    }
    return Job.model_validate(fields | changes)


def answered(asked: Job) -> Answer:
    return Answer.model_validate_json(run_job(asked.model_dump_json().encode()))


def test_a_job_runs_with_the_drivers_variables_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = (Path.cwd(), list(sys.path), list(sys.argv))
    answer = answered(job(tmp_path))
    assert answer.error is None
    assert [(report["when"], report["outcome"]) for report in answer.reports] == [
        ("setup", "passed"),
        ("call", "passed"),
        ("teardown", "passed"),
    ], answer.reports
    assert ["esa_report", "see baselines_golden/x"] in answer.reports[1]["user_properties"]
    assert json.loads(answer.outputs["manifest.json"]) == {"golden_file": "baselines_golden/tiny__smoke/cpu.json"}
    assert (answer.goldens, answer.ledger) == ({}, b"")
    assert (Path.cwd(), list(sys.path), list(sys.argv)) == before


def test_the_drivers_own_manifest_is_not_sent_back(tmp_path: Path) -> None:
    variables = {"ESA_NOTE": "told", "OMP_NUM_THREADS": None, "ESA_DONE": "1"}
    answer = answered(job(tmp_path, variables=variables))
    assert [report["outcome"] for report in answer.reports] == ["passed"] * 3
    assert answer.outputs == {"judged-1.json": b"{}"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"code": "0.0.9 abc"}, "has another esa-pytest ("),
        ({"source": "abc"}, "or of a conftest.py above it, than the driver; check out the same commit on every node."),
        ({"argument": "/nowhere/test_it.py::test_it"}, "has no file /nowhere/test_it.py; the project must lie at the"),
        ({"options": ("--no-such-option",)}, ", its test unfinished ("),
    ],
)
def test_what_would_judge_something_else_is_refused(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    answer = answered(job(tmp_path, **changes))
    assert answer.error is not None
    assert told in answer.error
    assert answer.reports == ()


@pytest.mark.parametrize(
    ("test", "told"),
    [(LEAVING, "the GPU is gone"), (FULL_DISK, "no space left")],
    ids=["it left", "it could not tell"],
)
def test_a_test_that_did_not_come_to_its_end_is_an_error(tmp_path: Path, test: str, told: str) -> None:
    answer = answered(job(tmp_path, test))
    assert answer.error is not None
    assert ", its test unfinished (" in answer.error
    assert told in answer.error
    assert answer.reports == ()


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:1", "[::1]:6379"])
def test_addresses_that_are_taken(address: str) -> None:
    assert checked_address(address) == address


@pytest.mark.parametrize("address", ["", "head", "ray://head:10001", "head:0", "head:70000", ":6379"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ClusterError, match="it takes HOST:PORT of a Ray cluster's head, or auto"):
        checked_address(address)
