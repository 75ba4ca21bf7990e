"""Two ranks of torchrun judge one model together on the CPU (gloo): the first speaks, all end with its exit status."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from esa_pytest.exit_status import Status
from tests.plugin.conftest import TEXT, Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
TELLING = """
import os
from pathlib import Path

kept = []

def pytest_sessionstart(session):
    kept.append(session)

def pytest_unconfigure(config):
    # A usage error ends a rank before its session begins.
    for session in kept:
        Path(f"status-{os.environ.get('RANK', 'none')}").write_text(str(int(session.exitstatus)))
"""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The project with a model that is split over two ranks."""

    project: Project

    @property
    def folder(self) -> Path:
        return self.project.pytester.path

    def run(self, *arguments: str) -> tuple[str, list[int]]:
        """What the ranks printed together, and their exit statuses."""
        done = self.launch(*arguments)
        statuses = [int((self.folder / f"status-{rank}").read_text(encoding="ascii")) for rank in range(2)]
        assert (done.returncode == 0) == (statuses == [0, 0]), done.stdout
        return done.stdout, statuses

    def launch(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        launch = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
        launch += ["--master-addr=127.0.0.1", f"--master-port={_free_port()}"]
        return subprocess.run(
            [sys.executable, *launch, "-m", "pytest", "-p", "no:timeout", "-p", "no:cacheprovider", *arguments],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
            | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def split(project: Project) -> Split:
    project.add('bos = "none"', 'bos = "none"\ntensor_parallel = true\ngpus = 2')
    project.pytester.makeconftest(TELLING)
    return Split(project=project)


def test_a_model_split_over_two_ranks_is_recorded_judged_and_told_once(split: Split) -> None:
    golden = split.project.golden
    missing, statuses = split.run()
    assert statuses == [Status.BROKEN, Status.BROKEN]
    assert missing.count("There is no golden") >= 1, missing
    assert not golden.exists()

    recorded, statuses = split.run("--snapshot-update")
    assert statuses == [0, 0], recorded
    assert recorded.count("esa: judged 0 of 1, recorded 1") == 1
    assert len(golden.parents[1].joinpath("ledger.jsonl").read_bytes().splitlines()) == 1

    judged, statuses = split.run("--junit-xml=junit.xml")
    assert statuses == [0, 0], judged
    assert judged.count("  identical      256 of 256 token NLLs bit-equal") == 1
    assert judged.count("test session starts") == judged.count("esa: judged 1 of 1") == 1
    environment = split.project.manifest()["environment"]
    assert environment["placement"] == "cpu, tensor parallel over 2 ranks"

    split.project.write_text("Another text, as long. " * 60)
    drifted, statuses = split.run()
    assert statuses == [1, 1]
    assert len(re.findall(r"^esa: tiny-smoke is inputs-changed", drifted, re.MULTILINE)) == 1

    # The same model whole: other bits, and the environment says why.
    split.project.write_text(TEXT)
    split.project.add("tensor_parallel = true\n", "")
    whole = split.project.run_apart()
    whole.stdout.fnmatch_lines(["*placement *cpu, tensor parallel over 2 ranks -> cpu*"])


def test_ranks_and_model_must_fit_each_other(split: Split) -> None:
    alone = split.project.run_apart("-rs")
    assert alone.ret == Status.NOT_JUDGED
    alone.stdout.fnmatch_lines(
        ["*The model tiny is tensor_parallel and this is a single process; run it alone with torchrun *-k tiny."]
    )
    for option in ("--esa-resume", "--esa-ray=auto", "-n1"):
        refused = split.launch(option).stdout
        name = option.removesuffix("=auto").removesuffix("1")
        assert f"ERROR: {name} cannot be used under torchrun, whose ranks run every test together; leave it" in refused
    split.project.add("tensor_parallel = true\n", "")
    told, statuses = split.run("-rs")
    assert statuses == [Status.NOT_JUDGED, Status.NOT_JUDGED]
    assert (
        "The model tiny is not tensor_parallel, and 2 ranks of torchrun would each judge the whole of it; run it "
        "without torchrun, or set tensor_parallel in [tool.esa.models]."
    ) in told
