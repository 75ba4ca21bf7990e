"""A run that was ended by Ctrl-C, by the kernel, or by the loss of its machine is taken up where it stopped."""

import json
import signal
from pathlib import Path

import pytest

from tests.plugin.conftest import Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
SECOND = '\n[tool.esa.models.second]\npath = "{path}"\n'
RESUMED = "  resumed        judged at *, and nothing that decides has changed since"
# The second baseline's test ends its process in the middle, as Ctrl-C and the loss of a machine do.
ENDING = """
import os, signal
from pathlib import Path

def test_baseline(esa_baseline):
    esa_baseline.measure() if Path("end").exists() and esa_baseline.baseline.model_name == "second" else None
    if Path("end").exists() and esa_baseline.baseline.model_name == "second":
        os.kill(os.getpid(), {signal})
    esa_baseline.check()
"""


@pytest.fixture
def two(recorded: Project) -> Project:
    """A project of two baselines whose goldens are recorded."""
    recorded.configure(more=SECOND.format(path=recorded.checkpoint))
    recorded.add('smoke = ["tiny"]', 'smoke = ["tiny", "second"]')
    recorded.record()
    return recorded


def mark(project: Project, folder: str = "tiny__smoke") -> Path:
    (path,) = (project.pytester.path / "outputs/baselines" / folder).glob("judged-*.json")
    return path


def test_a_run_without_the_option_begins_anew(two: Project) -> None:
    two.run()
    two.run("-k", "second")
    mark(two).unlink()
    two.run("--collect-only")
    assert mark(two, "second__smoke").exists()
    result = two.run("--esa-resume")
    result.stdout.fnmatch_lines(["*tiny-smoke]", "  identical *", "*second-smoke]", "  identical *", RESUMED])


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGKILL], ids=lambda which: which.name)
def test_an_ended_run_is_taken_up_where_it_stopped(two: Project, ended: signal.Signals) -> None:
    two.write_test(ENDING.format(signal=int(ended)))
    end = two.pytester.path / "end"
    end.touch()
    broken = two.run_apart()
    assert broken.ret in (pytest.ExitCode.INTERRUPTED, -signal.SIGKILL)
    assert json.loads(mark(two).read_text(encoding="utf-8"))["nodeid"] == "test_it.py::test_baseline[tiny-smoke]"
    assert not [*(two.pytester.path / "outputs/baselines/second__smoke").glob("judged-*")]
    end.unlink()
    before = mark(two).stat().st_mtime_ns
    done = two.run_apart("--esa-resume")
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["*tiny-smoke]", "  identical *", RESUMED, "*second-smoke]", "esa: judged 2 of 2"])
    assert mark(two).stat().st_mtime_ns == before
    workers = two.run_apart("--esa-resume", "-n", "1", "--dist", "loadgroup")
    assert workers.ret == pytest.ExitCode.OK
    workers.assert_outcomes(passed=2)
    workers.stdout.fnmatch_lines([RESUMED, RESUMED, "esa: judged 2 of 2"])
