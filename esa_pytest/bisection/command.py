"""`esa bisect`: a golden was recorded in another environment, a run here drifts; which package did it?"""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from packaging.utils import canonicalize_name

from esa_pytest import __version__
from esa_pytest.baselines.catalog import Baseline
from esa_pytest.bisection import lines
from esa_pytest.bisection.bench import Bench
from esa_pytest.bisection.differences import Differences, Move, differences
from esa_pytest.bisection.limits import Deadline, TimeIsUpError
from esa_pytest.bisection.overlays import Overlays
from esa_pytest.bisection.search import Finding, Moved, Standing, search
from esa_pytest.bisection.store import TrialStore, folder_for
from esa_pytest.bisection.trial import Trial
from esa_pytest.drift.rules import without_resources
from esa_pytest.errors import EvaluationError, GoldenMissingError, SettingError, UnfinishedError
from esa_pytest.evaluation.cache import cache_root
from esa_pytest.evaluation.loading import DTYPE, device_class, resolve_device
from esa_pytest.golden.environment import PACKAGES, device_facts, variables, versions
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack
from esa_pytest.records import Record
from esa_pytest.settings import Settings

DEFAULT_TYPE = "smoke"
# What a release of a library may well change; all else of the identity is read from files.
_MOVED_BY_PACKAGES = ("model", "probe", "tokens", "windows")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `esa bisect` was asked.

    Attributes:
        baseline: its id; None for the first smoke baseline that has a golden.
        time_limit: in seconds; None for as long as it takes.
        work_dir: where trials are kept; None for the user's cache.
        packages: which alone to try; none for all that differ.
    """

    baseline: str | None = None
    time_limit: float | None = None
    work_dir: Path | None = None
    packages: tuple[str, ...] = ()


def bisect_lines(settings: Settings, request: Request) -> Iterator[str]:
    """Try environments until one explains the drift; every line as soon as it is known.

    Raises:
        EsaError: there is no golden, the model cannot be had here, or a package is named that does not differ.
        UnfinishedError: the time is up.
    """
    baseline, location, golden = _chosen(settings, request.baseline)
    folder = _folder(settings, request, baseline, golden)
    store = TrialStore(folder)
    deadline = Deadline.after(request.time_limit)
    bench = Bench(
        baseline=_once(baseline),
        golden=golden,
        location=location,
        device=settings.device,
        overlays=Overlays(store.overlays, deadline=deadline),
        scratch=store.scratch,
        deadline=deadline,
        # Packages are asked what moved the numbers, and not the speed.
        rules=without_resources(settings.rules),
    )
    with store.alone():
        course = _Bisection(bench=bench, store=store, request=request)
        try:
            yield from course.lines(str(golden.provenance.get("utc"))[:10])
        except TimeIsUpError:
            yield from lines.table_lines(course.trials) if course.trials else ()
            raise UnfinishedError(
                lines.unfinished_line(request.time_limit or 0.0, course.now, course.left(), str(folder))
            ) from None
        store.clear_overlays()


class _Bisection:
    """The course of one bisection."""

    def __init__(self, *, bench: Bench, store: TrialStore, request: Request) -> None:
        self.trials: list[Trial] = []
        self.now = "the environment that is here was scored"
        self._bench = bench
        self._store = store
        self._request = request
        self._moves: tuple[Move, ...] = ()

    def left(self) -> list[str] | None:
        """The packages that have not been tried alone; None where it is not known yet which differ."""
        if not self._moves:
            return None
        tried = {trial.names for trial in self.trials}
        return [move.package for move in self._moves if frozenset({move.package}) not in tried]

    def lines(self, golden_date: str) -> Iterator[str]:
        """Everything that is said, the closing sentence last."""
        here, reused = self._trial(())
        yield from lines.start_lines(self._bench.baseline.id, golden_date, here, reused=reused)
        if here.standing is Standing.BITS:
            yield lines.identical_line(here)
            return
        if files := [name for name in here.inputs if name.split(".")[0] not in _MOVED_BY_PACKAGES]:
            yield lines.other_inputs_line(files)
            return
        found = differences(here.changes, recorded=(*PACKAGES, *self._bench.baseline.packages))
        self._moves = _asked_for(found, self._request.packages)
        yield from lines.differences_lines(replace(found, moves=self._moves))
        if not self._moves:
            yield lines.no_package_line(found)
            return
        self._bench = self._bench.knowing({move.package: move.golden for move in found.moves})
        finding = yield from self._search(here)
        yield from lines.table_lines(self.trials)
        yield (
            lines.found_line(finding, self.trials)
            if finding.causes
            else lines.unexplained_line(self._moves, self.trials, found)
        )

    def _search(self, here: Trial) -> Generator[str, None, Finding]:
        asking = search([move.package for move in self._moves], start=here.standing)
        try:
            moved = next(asking)
            while True:
                self.now = f"{' and '.join(sorted(moved))} {'was' if len(moved) == 1 else 'were'} moved back"
                trial, reused = self._trial(self._moves_of(moved))
                yield lines.trial_line(trial, reused=reused)
                moved = asking.send(trial.standing)
        except StopIteration as stop:
            finding: Finding = stop.value
            return finding

    def _moves_of(self, moved: Moved) -> tuple[Move, ...]:
        return tuple(move for move in self._moves if move.package in moved)

    def _trial(self, moves: Sequence[Move]) -> tuple[Trial, bool]:
        """A trial of these moves, and whether it was kept from an earlier call."""
        kept = self._store.read(frozenset(move.package for move in moves))
        trial = self._bench.trial(moves) if kept is None else kept
        if not moves and trial.standing is Standing.BROKEN:
            raise EvaluationError(f"{self._bench.baseline.id} cannot be measured here: {trial.reason}.")
        if kept is None:
            self._store.write(trial)
        self.trials.append(trial)
        return trial, kept is not None


def _chosen(settings: Settings, name: str | None) -> tuple[Baseline, GoldenLocation, Record]:
    """The baseline that was named, or the first smoke baseline with a golden."""
    device = device_class(resolve_device(settings.device))
    ids = [baseline.id for baseline in settings.baselines]
    if name is not None and name not in ids:
        raise SettingError(f"There is no baseline {name!r} in the matrix; it has {', '.join(ids)}.")
    for baseline in settings.baselines:
        if baseline.id != name and (name is not None or baseline.type_name != DEFAULT_TYPE):
            continue
        location = GoldenLocation(
            root=settings.golden_dir,
            folder=baseline.folder,
            device=device,
            dtype=str(DTYPE).removeprefix("torch."),
        )
        golden = read_golden(location)
        if golden is not None:
            return baseline, location, golden
    what = f"{DEFAULT_TYPE} baseline" if name is None else f"baseline {name}"
    raise GoldenMissingError(
        f"There is no golden of a {what} for {device} in {settings.golden_dir}; a bisection goes back to one, so "
        f"record it where the numbers are right (pytest --snapshot-update), or name a baseline that has one."
    )


def _once(baseline: Baseline) -> Baseline:
    """The baseline measured once, without the repeats that its type may ask for; it is the same experiment."""
    kind = baseline.type.model_copy(update={"rounds": 1, "other_batch_shape": False, "fresh_process": False})
    return baseline.model_copy(update={"type": kind})


def _folder(settings: Settings, request: Request, baseline: Baseline, golden: Record) -> Path:
    root = request.work_dir or cache_root() / "bisect"
    digest = hashlib.sha256(pack(golden, npz_name="golden.npz")).hexdigest()
    here = facts_here(baseline, device=settings.device)
    return folder_for(root.resolve(), baseline, digest, here, settings.rules)


def facts_here(baseline: Baseline, *, device: str) -> dict[str, str]:
    """What an answer is an answer of: trials of other packages, variables or another machine are made again.

    Args:
        baseline: what is measured.
        device: as the settings name it.
    """
    return {
        **versions(baseline.packages),
        **variables(),
        **device_facts(resolve_device(device)),
        "esa_pytest": __version__,
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


def _asked_for(found: Differences, names: Sequence[str]) -> tuple[Move, ...]:
    """The moves that the user named, or all.

    Raises:
        SettingError: a name is none of them.
    """
    wanted = {canonicalize_name(name) for name in names}
    differing = [move.package for move in found.moves]
    if unknown := sorted(wanted - set(differing)):
        raise SettingError(
            f"--package {unknown[0]} names no package that can be moved back; those that differ from the golden's are "
            f"{', '.join(differing) or 'none'}."
        )
    return tuple(move for move in found.moves if not wanted or move.package in wanted)
