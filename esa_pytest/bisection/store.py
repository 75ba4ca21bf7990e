"""The trials of a bisection on the disk, so that a second call goes on where the first one stopped."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.bisection.search import Standing
from esa_pytest.bisection.trial import Trial
from esa_pytest.drift.rules import Rules
from esa_pytest.errors import EsaError
from esa_pytest.evaluation.cache import write_atomically

# Raised when a trial of an older release would say something else.
_LAYOUT = 3


def folder_for(root: Path, baseline: Baseline, golden_sha256: str, here: Mapping[str, str], rules: Rules) -> Path:
    """The folder of one question: what moved this baseline away from this golden in the environment that is here.

    Args:
        root: where all of them lie.
        baseline: what is measured.
        golden_sha256: of what the golden is judged by.
        here: whatever else a trial depends on.
        rules: how strictly it is judged.
    """
    question = {
        "layout": _LAYOUT,
        "baseline": baseline.model_dump(mode="json"),
        "files": _files_of(baseline),
        "golden": golden_sha256,
        "here": dict(here),
        "rate": rules.false_alarm_rate,
        "tolerances": dict(rules.tolerances),
    }
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    return root / f"{baseline.folder}-{digest[:16]}"


def _files_of(baseline: Baseline) -> list[tuple[str, int, int]]:
    """The user's own files that a baseline reads, with size and time: what is pinned cannot change, these can."""
    paths: list[Path] = []
    for source in (baseline.model, *baseline.corpora.values()):
        place: Any = getattr(source, "path", None) or getattr(source, "config", None)
        if isinstance(place, Path):
            paths += sorted(place.rglob("*")) if place.is_dir() else [place]
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]


class TrialStore:
    """The trials in a folder, a JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def overlays(self) -> Path:
        """Where the environments of the trials are built."""
        return self._folder / "overlays"

    @property
    def scratch(self) -> Path:
        """For what a running trial writes; what a killed one left in it goes with the next call."""
        return self._folder / "scratch"

    def read(self, moved: frozenset[str]) -> Trial | None:
        """The trial of these packages; None where there is none, or one that is no longer to be read."""
        try:
            trial = Trial.model_validate_json(self._path(moved).read_bytes())
        except (OSError, ValidationError):
            return None
        return trial if trial.names == moved else None

    def write(self, trial: Trial) -> None:
        """Keep a trial that was measured: pip may get the others tomorrow, or there may be memory enough for them."""
        if trial.standing > Standing.BROKEN:
            write_atomically(self._path(trial.names), trial.model_dump_json(indent=2).encode() + b"\n")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other bisections out of the folder.

        Raises:
            EsaError: another one is at work in it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._folder / "lock", timeout=0):
                shutil.rmtree(self.scratch, ignore_errors=True)
                self.scratch.mkdir()
                yield
        except Timeout:
            raise EsaError(
                f"Another esa bisect is at work in {self._folder}; wait for it, or give another folder with --work-dir."
            ) from None

    def clear_overlays(self) -> None:
        """Remove the environments, which are large; the trials stay."""
        shutil.rmtree(self.overlays, ignore_errors=True)

    def _path(self, moved: frozenset[str]) -> Path:
        name = "+".join(sorted(moved)) or "nothing-moved"
        # The names of many packages are too long for that of a file.
        return self._folder / "trials" / (f"{name}.json" if len(name) < 100 else f"{_digest(name)}.json")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
