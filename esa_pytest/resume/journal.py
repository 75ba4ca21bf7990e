"""The journal of one session: marks what is judged, and finds what an earlier run judged under the same key.

Loads no torch before a key is asked for: the check imports that in its own way, and tells how long it took.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import EsaError
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.resume.marks import Mark, forget_mark, standing_mark, write_mark
from esa_pytest.resume.states import golden_state, source_state
from esa_pytest.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One test as it is about to run.

    Attributes:
        baseline: what it judges.
        nodeid: without what a plugin put behind it.
        path: of its file.
        golden: the state of the baseline's goldens when it began.
        again: why an earlier verdict does not stand, as a clause; None where there is none, or nobody asked.
        earlier: the mark of the verdict that stands; the test then need not run.
    """

    baseline: Baseline
    nodeid: str
    path: Path
    golden: str
    again: str | None = None
    earlier: Mark | None = None


class Journal:
    """Marks and finds; knows neither pytest's items nor its hooks."""

    def __init__(self, settings: Settings, *, run: str, updates: Mapping[str, bool]) -> None:
        self._settings = settings
        self._run = run
        self._updates = dict(updates)
        self._hub = Hub()

    def begin(self, baseline: Baseline, *, nodeid: str, path: Path) -> Asked:
        """What is known before a test runs: whether an earlier verdict stands, and if not, why.

        A mark that does not stand is forgotten: the test replaces the documents that it vouches for.
        """
        folder = self._folder(baseline)
        golden = golden_state(self._settings.golden_dir / baseline.folder)
        asked = Asked(baseline=baseline, nodeid=nodeid, path=path, golden=golden)
        mark = standing_mark(folder, nodeid) if self._settings.resume else None
        again = None if mark is None else self._why_again(asked, mark)
        if mark is not None and again is None:
            return replace(asked, earlier=mark)
        forget_mark(folder, nodeid)
        return asked if mark is None else replace(asked, again=f"since {mark.utc}: {again}")

    def judged(
        self,
        asked: Asked,
        reports: tuple[dict[str, Any], ...],
        *,
        recorded: bool,
        checked: bool,
        loaded: Checkpoint | None,
    ) -> None:
        """Mark a test that has run to its end with a verdict.

        Args:
            asked: as `begin` gave it.
            reports: of its phases, serialised.
            recorded: whether it wrote its golden, which is then what the next run will find.
            checked: whether its baseline was checked by all rules.
            loaded: what its model was loaded from, where that is still known.
        """
        baseline = asked.baseline
        golden = golden_state(self._settings.golden_dir / baseline.folder) if recorded else asked.golden
        try:
            key = self._key(asked, loaded or self._located(baseline), golden=golden)
        except (EsaError, OSError):
            # What cannot be named cannot be compared later; the verdict itself stands.
            return
        utc = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
        mark = Mark(nodeid=asked.nodeid, run=self._run, utc=utc, key=key, reports=reports, checked=checked)
        write_mark(self._folder(baseline), mark)

    def forget(self, baseline: Baseline, *, nodeid: str) -> None:
        """A run that resumes nothing begins anew with the tests that it selects."""
        if not self._settings.resume:
            forget_mark(self._folder(baseline), nodeid, unless_of=self._run)

    def _why_again(self, asked: Asked, mark: Mark) -> str | None:
        from esa_pytest.resume.key import why_again

        try:
            return why_again(mark.key, self._key(asked, self._located(asked.baseline), golden=asked.golden))
        except (EsaError, OSError) as error:
            return str(error)

    def _located(self, baseline: Baseline) -> Checkpoint:
        return locate(baseline.model, hub=self._hub, rehash=self._settings.rehash)

    def _key(self, asked: Asked, checkpoint: Checkpoint, *, golden: str) -> dict[str, str]:
        from esa_pytest.resume.key import key_of

        return key_of(
            asked.baseline,
            self._settings,
            checkpoint=checkpoint,
            golden=golden,
            test=source_state(asked.path, self._settings.root),
            updates=self._updates,
        )

    def _folder(self, baseline: Baseline) -> Path:
        return self._settings.output_dir / baseline.folder
