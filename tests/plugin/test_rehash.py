"""The hash of the weights is kept from run to run, and can be asked for anew."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from esa_pytest.evaluation import kept_hashes
from esa_pytest.evaluation.cache import cache_root
from tests.plugin.conftest import Project


def test_a_kept_hash_is_used_until_it_is_asked_for_anew(
    recorded: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path))
    # The checkpoint has been left alone for a while, and lies on a disk.
    monkeypatch.setattr(kept_hashes, "time_ns", lambda: time.time_ns() + 10**10)
    monkeypatch.setattr(kept_hashes, "_MOUNTS", Path(os.devnull))
    assert recorded.run().ret == pytest.ExitCode.OK
    for entry in (cache_root() / "hashes").glob("*.json"):
        entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": "0" * 64}))
    result = recorded.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*checkpoint.weights_sha256*"])
    assert recorded.run("--esa-rehash").ret == pytest.ExitCode.OK
    assert recorded.run().ret == pytest.ExitCode.OK


def test_without_a_cache_that_can_be_written_a_run_is_judged(
    recorded: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "a-file"
    cache.write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("ESA_CACHE", str(cache))
    result = recorded.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  identical      256 of 256 token NLLs bit-equal*"])
    shutil.rmtree(recorded.golden.parent)
    result = recorded.run("--snapshot-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*The folder {cache}/locks of the cache cannot be written (Not a directory); *"])
    result.stdout.no_fnmatch_line("*Traceback*")
