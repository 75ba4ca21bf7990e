"""Finished trials on the disk, a line of JSON each, so that a ladder that was stopped goes on where it was."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esa_pytest import __version__
from esa_pytest.drift.rules import Rules
from esa_pytest.records import Record, TokenScores
from esa_pytest.selftest.ladder import Instrument
from esa_pytest.selftest.trial import Harmless, Trial

# Raised when a trial of an older release would say something else.
_LAYOUT = 2


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    done: Annotated[Trial | Harmless, Field(discriminator="kind")]


def key_of(clean: Record, promise: Mapping[Instrument, float], rules: Rules) -> str:
    """What trials depend on, as a short hash: the clean run's bits, the promise, the rules, our own version."""
    assert isinstance(clean.scores, TokenScores)  # noqa: S101  (a run of this process)
    digest = hashlib.sha256(clean.scores.nll.tobytes())
    if clean.probe is not None:
        digest.update(clean.probe.nll.tobytes())
    question = {
        "layout": _LAYOUT,
        "version": __version__,
        "baseline": clean.baseline,
        "promise": {str(instrument): size for instrument, size in promise.items()},
        "rate": rules.false_alarm_rate,
        "tolerances": dict(rules.tolerances),
    }
    digest.update(json.dumps(question, sort_keys=True).encode())
    return digest.hexdigest()[:16]


class TrialStore:
    """A file of finished trials.

    Attributes:
        trials: by instrument, multiple and seed.
        harmless: by whether the probe alone was judged, and the change.
    """

    def __init__(self, path: Path, key: str) -> None:
        """Read what earlier calls finished; a line that was cut short, or of another question, is passed over.

        Args:
            path: the file, which need not exist.
            key: of the question that is asked now.
        """
        self._path, self._key = path, key
        self.trials: dict[tuple[Instrument, float, int], Trial] = {}
        self.harmless: dict[tuple[bool, str], Harmless] = {}
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:
                continue
            if line.key == key:
                self._keep(line.done)

    def add(self, done: Trial | Harmless) -> None:
        """Keep a finished trial; it is on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = _Line(key=self._key, done=done).model_dump_json() + "\n"
        with self._path.open("ab+") as file:
            # A killed writer may have left half a line, which must not swallow this one.
            if file.tell() and not _ends_a_line(file):
                text = "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self._keep(done)

    def _keep(self, done: Trial | Harmless) -> None:
        if isinstance(done, Trial):
            self.trials[done.instrument, done.multiple, done.seed] = done
        else:
            self.harmless[done.probe_alone, done.what] = done


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
