"""`esa selftest`: faults of known size in the user's own model, and what the gate says of each."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import (
    BrokenPromiseError,
    CheckpointMissingError,
    GoldenMissingError,
    SettingError,
    UnavailableError,
)
from esa_pytest.evaluation.cache import write_atomically
from esa_pytest.evaluation.reference import why_unsuited
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.perturbation import Guarded, guard
from esa_pytest.report.layout import labelled
from esa_pytest.selftest import lines
from esa_pytest.selftest.bench import Bench
from esa_pytest.selftest.document import document
from esa_pytest.selftest.harmless import Change
from esa_pytest.selftest.ladder import GROUPS, LEAST_SEEDS, SIZES, Instrument, Rung, promised_sizes, rungs_of
from esa_pytest.selftest.plot import PlotsMissingError, pictures
from esa_pytest.selftest.power import Point, Share, broken, curve, false_alarms
from esa_pytest.selftest.store import TrialStore, key_of
from esa_pytest.selftest.trial import Harmless, Trial
from esa_pytest.settings import Settings

DEFAULT_TYPE = "smoke"
NAME = "selftest"
# Runs of the probe that a trial costs, as measured: giving the fault its size takes one to three.
_PROBES, _SIZINGS = 2.5, 1.7


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `esa selftest` was asked.

    Attributes:
        baseline: its id; None for the first smoke baseline that can be guarded.
        instruments: a key of `GROUPS`.
        seeds: trials a rung.
        sizes: multiples of the promised size.
    """

    baseline: str | None = None
    instruments: str = "all"
    seeds: int = LEAST_SEEDS
    sizes: tuple[float, ...] = SIZES


def selftest_lines(settings: Settings, request: Request) -> Iterator[str]:
    """Run the ladder; every line as soon as it is known.

    Raises:
        BrokenPromiseError: the gate missed what it promised to find, or failed what is harmless.
        EsaError: there is no golden, its check fails, or the request cannot be run.
    """
    _refuse_senseless(request)
    shelf = ModelShelf(device=settings.device, rehash=settings.rehash)
    try:
        guarded = _guarded(settings, request.baseline, shelf)
        yield from _Selftest(guarded, settings, request).lines()
    finally:
        shelf.close()


class _Selftest:
    """The course of one selftest."""

    def __init__(self, guarded: Guarded, settings: Settings, request: Request) -> None:
        self._guarded = guarded
        self._request = request
        self._rules = settings.rules
        self._folder = settings.output_dir / guarded.baseline.folder
        # Before anything is perturbed, and never touched again.
        whole = promised_sizes(guarded.clean, settings.rules)
        self._promise = {name: size for name, size in whole.items() if name in GROUPS[request.instruments]}
        key = key_of(guarded.clean, whole, settings.rules)
        self._store = TrialStore(self._folder / f"{NAME}-trials.jsonl", key)
        self._bench = Bench(guarded)

    def lines(self) -> Iterator[str]:
        """Everything that is said, the closing sentence last."""
        yield from self._start_lines()
        if not self._promise:
            raise SettingError(
                f"The golden of {self._guarded.baseline.id} promises nothing of {self._request.instruments}; record "
                f"one with its noise (pytest -m {self._guarded.baseline.type_name} --snapshot-update)."
            )
        rungs = rungs_of(self._promise, self._request.sizes)
        probes, checks = self._harmless_changes()
        yield self._plan(rungs, probes, checks)
        with tqdm(
            total=len(rungs) * self._request.seeds + len(probes) + len(checks), unit="trial", disable=None, leave=False
        ) as bar:
            trials = self._trials(rungs, bar)
            changes = self._judged_changes(probes, checks, bar)
        points, alarms = curve(trials), false_alarms(changes)
        yield from lines.table_lines(points)
        if changes:
            yield lines.alarm_line(alarms, probes=len(probes))
        if widened := lines.widened_line(self._rules):
            yield widened
        yield from self._written(points, alarms, trials, changes)
        if clauses := broken(points, alarms):
            raise BrokenPromiseError(lines.broken_line(clauses, self._rules))
        yield lines.kept_line(points, alarms, seeds=self._request.seeds)

    def _start_lines(self) -> list[str]:
        guarded = self._guarded
        verdict = guarded.verdict
        assert verdict is not None  # noqa: S101  (the guard judged by a golden)
        said = f"{verdict.outcome}: {verdict.reason}"
        return lines.start_lines(
            guarded.baseline.id, self._golden_date(), said, self._promise, self._why_nothing_promised()
        )

    def _golden_date(self) -> str:
        return str(self._guarded.golden_utc)[:10]

    def _why_nothing_promised(self) -> dict[str, str]:
        """By instrument, where it was asked for."""
        clean = self._guarded.clean
        unsuited = why_unsuited(self._guarded.model.network) if clean.probe is None else None
        missing = [name for name in GROUPS[self._request.instruments] if name not in self._promise]
        return {
            name: "the golden has not proven its bits stable"
            if name is Instrument.BITS
            else f"{unsuited}, so that there is no float32 reference to measure a fault by"
            if unsuited
            else "the golden measured no noise, or too little"
            for name in missing
        }

    def _harmless_changes(self) -> tuple[list[Change], list[Change]]:
        """Changes of the probe alone, and of whole checks; of `bits` there are none, every bit counts."""
        number = self._request.seeds
        has_reference = Instrument.REFERENCE in self._promise
        has_rounding = bool(self._promise.keys() - {Instrument.REFERENCE, Instrument.BITS})
        probes = self._bench.harmless_probes(number) if has_reference else []
        checks = self._bench.harmless_checks(number) if has_rounding else []
        return probes, checks

    def _plan(self, rungs: Sequence[Rung], probes: Sequence[Change], checks: Sequence[Change]) -> str:
        """The line that says how long it takes, by the seconds of this process."""
        clean = self._guarded.clean
        assert clean.metrics is not None  # noqa: S101  (it passed its check)
        probe = self._bench.probe_seconds() if clean.probe is not None else 0.0
        throughput = float(clean.resources.get("throughput_tokens_per_second") or 1.0)
        check = clean.metrics.num_scored_tokens / throughput + probe
        whole = probe * clean.metrics.num_scored_tokens / max(1, 0 if clean.probe is None else clean.probe.nll.size)
        costs = {Instrument.REFERENCE: _PROBES * probe, Instrument.BITS: check}
        todo = [
            rung
            for rung in rungs
            for seed in range(self._request.seeds)
            if (rung.instrument, rung.multiple, seed) not in self._store.trials
        ]
        left = [change for change in probes if (True, change.what) not in self._store.harmless]
        left_checks = [change for change in checks if (False, change.what) not in self._store.harmless]
        seconds = sum(costs.get(rung.instrument, _SIZINGS * whole + check) for rung in todo)
        num_trials, num_harmless = len(rungs) * self._request.seeds, len(probes) + len(checks)
        return lines.plan_line(
            num_trials=num_trials,
            num_harmless=num_harmless,
            num_kept=num_trials + num_harmless - len(todo) - len(left) - len(left_checks),
            seconds=seconds + probe * len(left) + check * len(left_checks),
        )

    def _trials(self, rungs: Sequence[Rung], bar: Any) -> list[Trial]:
        done = []
        for rung in rungs:
            bar.set_description(f"{rung.instrument} x {rung.multiple:g}")
            for seed in range(self._request.seeds):
                trial = self._store.trials.get((rung.instrument, rung.multiple, seed))
                if trial is None:
                    trial = self._bench.trial(rung, seed)
                    self._store.add(trial)
                done.append(trial)
                bar.update()
        return done

    def _judged_changes(self, probes: Sequence[Change], checks: Sequence[Change], bar: Any) -> list[Harmless]:
        bar.set_description("harmless changes")
        done = []
        for change, alone in (*((change, True) for change in probes), *((change, False) for change in checks)):
            found = self._store.harmless.get((alone, change.what))
            if found is None:
                found = self._bench.harmless_probe(change) if alone else self._bench.harmless_check(change)
                self._store.add(found)
            done.append(found)
            bar.update()
        return done

    def _written(
        self, points: Sequence[Point], alarms: Share, trials: Sequence[Trial], changes: Sequence[Harmless]
    ) -> Iterator[str]:
        """Write the numbers and the picture; a line for each."""
        path = self._folder / f"{NAME}.json"
        content = document(self._guarded, self._promise, points, alarms, trials=trials, changes=changes)
        write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")
        yield labelled("numbers", str(path))
        try:
            found = pictures(f"esa selftest of {self._guarded.baseline.id}", points, self._promise, alarms)
        except PlotsMissingError as error:
            yield labelled("picture", str(error))
            return
        for suffix, picture in found.items():
            write_atomically(path.with_suffix(suffix), picture)
        if found:
            yield labelled("picture", " and ".join(str(path.with_suffix(suffix)) for suffix in found))


def _guarded(settings: Settings, name: str | None, shelf: ModelShelf) -> Guarded:
    """The baseline that was named, or the first smoke baseline with a golden whose model can be had."""
    if name is not None:
        found = {baseline.id: baseline for baseline in settings.baselines}
        if name not in found:
            raise SettingError(f"There is no baseline {name!r} in the matrix; it has {', '.join(found)}.")
        return guard(found[name], settings, shelf)
    refusals = []
    for baseline in _of_default_type(settings):
        try:
            return guard(baseline, settings, shelf)
        except (UnavailableError, CheckpointMissingError, GoldenMissingError) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    raise SettingError(f"The matrix has no {DEFAULT_TYPE} baseline; name the one to test: esa selftest BASELINE.")


def _of_default_type(settings: Settings) -> list[Baseline]:
    return [baseline for baseline in settings.baselines if baseline.type_name == DEFAULT_TYPE]


def _refuse_senseless(request: Request) -> None:
    if request.instruments not in GROUPS:
        raise SettingError(f"--instrument is {request.instruments!r}; it takes {', '.join(GROUPS)}.")
    if request.seeds < 1:
        raise SettingError(f"--seeds is {request.seeds}; it takes a whole number from 1 on, {LEAST_SEEDS} or more.")
    if not request.sizes or not all(1e-6 <= size <= 1e6 for size in request.sizes) or max(request.sizes) < 1:
        raise SettingError(
            f"--sizes is {' '.join(f'{size:g}' for size in request.sizes)}; it takes multiples of the promised size, "
            f"at least one of them 1 or more, since less was not promised."
        )
