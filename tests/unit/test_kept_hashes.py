"""A kept hash never lets a changed file pass."""

import hashlib
import json
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esa_pytest.evaluation import kept_hashes
from esa_pytest.evaluation.cache import cache_root
from esa_pytest.evaluation.kept_hashes import once_per_state

# No file system here has a coarser clock.
TICK_SECONDS = 0.012
FIELDS = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


class Hasher:
    """Hashes files, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, files: Sequence[Path]) -> str:
        self.calls += 1
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def of(self, *files: Path, anew: bool = False) -> str:
        return once_per_state(files, self, kind="test", anew=anew)


def clock(shift_seconds: float) -> Callable[[], int]:
    return lambda: time.time_ns() + int(shift_seconds * 1e9)


@pytest.fixture
def hasher() -> Hasher:
    return Hasher()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "weights"
    made.write_bytes(b"a" * 100)
    return made


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A while has gone by since the file was made, and wherever these tests run, it lies on a disk."""
    monkeypatch.setattr(kept_hashes, "time_ns", clock(10))
    monkeypatch.setattr(kept_hashes, "_MOUNTS", Path(os.devnull))


def kept() -> Iterator[Path]:
    return (cache_root() / "hashes").glob("*.json")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))


def test_an_unchanged_file_is_hashed_once(hasher: Hasher, path: Path, settled: None) -> None:
    assert hasher.of(path) == hasher.of(path)
    assert hasher.calls == 1


def test_a_young_file_is_hashed_each_time(hasher: Hasher, path: Path) -> None:
    assert hasher.of(path) == hasher.of(path)
    assert hasher.calls == 2
    assert list(kept()) == []


def test_how_old_a_file_must_be(hasher: Hasher, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_hashes, "_MOUNTS", Path(os.devnull))
    changed = path.stat().st_ctime_ns
    monkeypatch.setattr(kept_hashes, "time_ns", lambda: changed + kept_hashes.SETTLED_NS - 1)
    hasher.of(path)
    assert list(kept()) == []
    monkeypatch.setattr(kept_hashes, "time_ns", lambda: changed + kept_hashes.SETTLED_NS)
    hasher.of(path)
    assert len(list(kept())) == 1


def test_a_rewrite_of_equal_size_and_time_is_seen(hasher: Hasher, path: Path, settled: None) -> None:
    before, stat = hasher.of(path), path.stat()
    time.sleep(TICK_SECONDS)
    with path.open("r+b") as file:
        file.write(b"b")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    assert hasher.of(path) != before


@pytest.mark.parametrize("field", FIELDS)
def test_each_part_of_a_state_counts(
    field: str, hasher: Hasher, path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher.of(path)
    true_fstat = os.fstat

    def moved(file: int) -> SimpleNamespace:
        stat = true_fstat(file)
        every = {name: getattr(stat, name) for name in dir(stat) if name.startswith("st_")}
        return SimpleNamespace(**every | {field: every[field] + 1})

    monkeypatch.setattr(os, "fstat", moved)
    hasher.of(path)
    assert hasher.calls == 2


def test_a_file_under_another_name_is_hashed(hasher: Hasher, path: Path, settled: None) -> None:
    hasher.of(path)
    hasher.of(path.rename(path.with_name("other")))
    assert hasher.calls == 2


def test_a_hash_from_the_future_is_not_trusted(
    hasher: Hasher, path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An hour apart: writing to a busy disk may take seconds.
    monkeypatch.setattr(kept_hashes, "time_ns", clock(3600))
    hasher.of(path)
    monkeypatch.setattr(kept_hashes, "time_ns", clock(10))
    hasher.of(path)
    assert hasher.calls == 2


def test_a_file_from_the_future_is_hashed_each_time(hasher: Hasher, path: Path, settled: None) -> None:
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(path, ns=(ahead, ahead))
    hasher.of(path)
    hasher.of(path)
    assert hasher.calls == 2


def test_a_store_into_a_mapped_page_that_is_dirty_already_is_seen(
    hasher: Hasher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_hashes, "time_ns", clock(10))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"b"
        before = hasher.of(path)
        time.sleep(TICK_SECONDS)
        mapped[1:2] = b"b"
        assert hasher.of(path) != before


def test_a_file_in_memory_is_hashed_each_time(
    hasher: Hasher, path: Path, settled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 0:0 / /else rw shared:2 - ext4 /dev/vda rw\n"
        f"22 1 {os.major(device)}:{os.minor(device)} / /memory rw,nosuid - tmpfs tmpfs rw\n"
    )
    monkeypatch.setattr(kept_hashes, "_MOUNTS", mounts)
    hasher.of(path)
    hasher.of(path)
    assert hasher.calls == 2


def test_a_file_that_changes_while_it_is_hashed_is_not_kept(hasher: Hasher, path: Path, settled: None) -> None:
    def rewritten(files: Sequence[Path]) -> str:
        digest = hasher(files)
        time.sleep(TICK_SECONDS)
        path.write_bytes(b"b" * 100)
        return digest

    before = once_per_state([path], rewritten, kind="test")
    assert hasher.of(path) != before


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"state": [], "hashed_at": "soon", "sha256": ""}',
        b'{"state": null, "hashed_at": 0}',
    ],
)
def test_a_damaged_entry_is_replaced(damage: bytes, hasher: Hasher, path: Path, settled: None) -> None:
    digest = hasher.of(path)
    (entry,) = kept()
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    assert hasher.of(path) == digest
    assert json.loads(entry.read_bytes())["state"] == json.loads(whole)["state"]
    assert hasher.calls == 2


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64])
def test_what_is_no_hash_is_not_returned(digest: str, hasher: Hasher, path: Path, settled: None) -> None:
    true = hasher.of(path)
    (entry,) = kept()
    entry.write_text(json.dumps(json.loads(entry.read_bytes()) | {"sha256": digest}))
    assert hasher.of(path) == true


def test_what_is_kept_can_be_ignored_and_is_replaced(hasher: Hasher, path: Path, settled: None) -> None:
    digest = hasher.of(path)
    (entry,) = kept()
    entry.write_text(json.dumps(json.loads(entry.read_bytes()) | {"sha256": "0" * 64}))
    assert hasher.of(path) == "0" * 64
    assert hasher.of(path, anew=True) == digest
    assert hasher.of(path) == digest
    assert hasher.calls == 2


def test_several_at_once_hash_once(hasher: Hasher, path: Path, settled: None) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: hasher.of(path), range(8)))
    assert len(digests) == 1
    assert hasher.calls == 1


def test_one_changed_file_of_several_is_enough(hasher: Hasher, path: Path, settled: None) -> None:
    other = path.with_name("other")
    other.write_bytes(b"b")
    before = hasher.of(path, other)
    time.sleep(TICK_SECONDS)
    other.write_bytes(b"c")
    assert hasher.of(path, other) != before


def rewrite(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


def rewrite_and_hide(path: Path, content: bytes) -> None:
    stat = path.stat()
    rewrite(path, content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


def store(path: Path, content: bytes) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:] = content


CHANGES = st.tuples(
    st.sampled_from([rewrite, rewrite_and_hide, replace, store]), st.binary(min_size=8, max_size=8), st.booleans()
)


@settings(max_examples=25)
@given(changes=st.lists(CHANGES, min_size=1, max_size=4))
def test_what_is_returned_is_the_hash_of_what_is_there(
    changes: list[tuple[Callable[[Path, bytes], None], bytes, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("property") / "weights"
    path.write_bytes(b"a" * 8)
    hasher = Hasher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_hashes, "time_ns", clock(10))
        for change, content, asked_between in changes:
            change(path, content)
            if asked_between:
                hasher.of(path)
            assert hasher.of(path) == hashlib.sha256(content).hexdigest()
            time.sleep(TICK_SECONDS)
