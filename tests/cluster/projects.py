"""A project of three baselines whose tests tell where they run, and can be held, and what a run of it left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tests.plugin.conftest import Project

NAMES = ("tiny", "second", "third")
FOLDERS = tuple(f"{name}__smoke" for name in NAMES)
MORE = """
[tool.esa.models.second]
path = "{path}"

[tool.esa.models.third]
path = "{path}"
"""
TEST = """
import os
import time
from pathlib import Path

def test_baseline(esa_baseline):
    name, here = esa_baseline.baseline.model_name, Path({folder!r})
    # Whole or not at all: somebody is waiting for it.
    here.joinpath(f"begun-{{name}}").write_text(node_id())
    here.joinpath(f"begun-{{name}}").rename(here / f"started-{{name}}-{{os.getpid()}}")
    while here.joinpath(f"hold-{{name}}").exists():
        time.sleep(0.05)
    if here.joinpath(f"hungry-{{name}}").exists():
        eaten = [bytearray(b"x" * 2**26) for _ in range(64)]
        time.sleep(60)
        assert eaten
    esa_baseline.check()

def test_of_no_baseline():
    here = Path({folder!r})
    here.joinpath(f"local-{{os.getpid()}}").touch()

def node_id():
    try:
        import ray
        return ray.get_runtime_context().get_node_id()
    except Exception:
        return "none"
"""
# What differs between two runs of the same, hashes over it included, and what does not say what was computed.
_OF_THE_RUN = ("provenance", "resources", "resources_judged", "seconds", "arrays", "judged_sha256")
_RECORD = "record-cpu-bfloat16"
# The member that repeats the document, what is of the run included.
_SEALED = "judged_json"
WAIT_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Three:
    """The project, and how runs of it are looked at."""

    project: Project
    processes: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.project.pytester.path

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs/baselines"

    def run(self, *arguments: str) -> "Done":
        """A whole run in a process of its own."""
        return self.finish(self.start(*arguments))

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:timeout",
            "-p",
            "no:cacheprovider",
            "--junit-xml=junit.xml",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """End what a test that failed has left running: it would hold a node against the next one."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def finish(self, process: "subprocess.Popen[str]") -> "Done":
        output, _ = process.communicate(timeout=4 * WAIT_SECONDS)
        return Done(status=process.returncode, output=output, outcomes=_outcomes(self.folder / "junit.xml"))

    def touch(self, *names: str) -> None:
        for name in names:
            (self.folder / name).touch()

    def remove(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink()

    def started(self, name: str) -> dict[int, str]:
        """The processes that began with a baseline, and their nodes."""
        found = self.folder.glob(f"started-{name}-*")
        return {int(path.name.rpartition("-")[2]): path.read_text(encoding="utf-8") for path in found}

    def marks(self) -> set[str]:
        return {path.parent.name for path in self.outputs.glob("*/judged-*.json")}

    def manifest(self, folder: str) -> dict[str, Any]:
        content = json.loads((self.outputs / folder / "manifest.json").read_text(encoding="utf-8"))
        assert isinstance(content, dict)
        return content

    def computed(self) -> dict[str, Any]:
        """What a run left of each baseline, without what belongs to the run and its time."""
        return {folder: _computed(self.outputs / folder) for folder in FOLDERS}


@dataclass(frozen=True, kw_only=True)
class Done:
    """A run that has ended; `outcomes` are lists, so that a test reported twice shows."""

    status: int
    output: str
    outcomes: Mapping[str, list[str]]


def wait_until(happened: Callable[[], object], what: str, process: "subprocess.Popen[str] | None" = None) -> None:
    """Look until something is so; a run that ends before is told with what it printed."""
    end = time.monotonic() + WAIT_SECONDS
    while not happened():
        if process is not None and process.poll() is not None:
            assert process.stdout is not None
            raise AssertionError(f"the run ended before {what}:\n{process.stdout.read()}")
        assert time.monotonic() < end, f"waited {WAIT_SECONDS:g} seconds until {what}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")


def interrupt(process: "subprocess.Popen[str]") -> None:
    """As Ctrl-C does."""
    os.killpg(process.pid, signal.SIGINT)


def _outcomes(junit: Path) -> dict[str, list[str]]:
    if not junit.exists():
        return {}
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(junit).getroot().iter("testcase"):  # noqa: S314  (written by our own pytest)
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found.setdefault(case.attrib["name"], []).append(kinds[0] if kinds else "passed")
    return found


def _computed(folder: Path) -> Any:
    manifest, summary, record = (
        _without_run(json.loads((folder / name).read_text(encoding="utf-8")))
        for name in ("manifest.json", "results_summary.json", f"{_RECORD}.json")
    )
    manifest["verdict"] = _without_run(manifest["verdict"])
    with np.load(folder / f"{_RECORD}.npz", allow_pickle=False) as arrays:
        bits = {name: arrays[name].tobytes() for name in arrays if name != _SEALED}
    return manifest, summary, record, bits


def _without_run(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _OF_THE_RUN}
