"""Where faults are made and judged: the guarded model, its clean float32 scores, and the harmless noise beside."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from esa_pytest.drift.judge import judge
from esa_pytest.drift.reference import reference_drift
from esa_pytest.drift.seen import tiers_beyond
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.reference import probe
from esa_pytest.perturbation import Guarded, Perturbation, Perturbed
from esa_pytest.perturbation.run import perturbed_record
from esa_pytest.records import Outcome, Probe, Tier, TokenScores, Verdict
from esa_pytest.selftest import harmless
from esa_pytest.selftest.faults import Fault, fault_of
from esa_pytest.selftest.ladder import Instrument, Rung
from esa_pytest.selftest.material import material_of
from esa_pytest.selftest.trial import Harmless, Trial
from esa_pytest.selftest.tuning import tuned

Values = npt.NDArray[np.float64]
# So many faults are drawn for a trial before it is given up.
_MOST_DRAWS = 20
_STATISTICS: dict[Instrument, Callable[[Values], float]] = {
    Instrument.MEAN: lambda drift: float(abs(drift.mean())),
    Instrument.MAXIMUM: lambda drift: float(np.abs(drift).max()),
}


class Bench:
    """Runs trials on a guarded model, which is as it was after each of them.

    A fault's size is what it does to the float32 reference of the clean process: of the probe's tokens for
    `reference`, of all scored tokens for the instruments of tier 4, which judge other numbers (bf16) of a run that a
    harmless change moves as well.
    """

    def __init__(self, guarded: Guarded) -> None:
        """Nothing is measured yet.

        Args:
            guarded: the model, its clean run, and how strictly drift is judged.
        """
        self._guarded = guarded
        self._network = guarded.model.network
        self._clean: dict[bool, Values] = {}
        self._known: dict[tuple[Instrument, int, int], tuple[float, float]] = {}
        self._material = material_of(guarded)

    def probe_seconds(self) -> float:
        """How long the float32 reference of the probe's tokens takes."""
        begin = time.perf_counter()
        self._clean[False] = self._float32(whole=False)
        return time.perf_counter() - begin

    def trial(self, rung: Rung, seed: int) -> Trial:
        """Make the fault of a seed as large as the rung asks for, and judge it.

        Raises:
            EvaluationError: no fault that was drawn could be given its size.
        """
        for draw in range(_MOST_DRAWS):
            fault = fault_of(rung.instrument, seed, draw, self._material)
            if rung.instrument is Instrument.BITS:
                trial = self._flipped(rung, seed, draw, fault)
            else:
                trial = self._sized(rung, seed, draw, fault)
            if trial is not None:
                return trial
        raise EvaluationError(
            f"{_MOST_DRAWS} faults were drawn of {rung.multiple:g} times the promised {rung.instrument} size "
            f"({rung.wanted:.2g}) with seed {seed}, and none could be given it; leave this size out of --sizes."
        )

    def harmless_probes(self, number: int) -> list[harmless.Change]:
        """Harmless changes of the float32 reference."""
        return harmless.all_of_probe(self._network, number)

    def harmless_checks(self, number: int) -> list[harmless.Change]:
        """Harmless changes of a whole check."""
        return harmless.all_of_scores(self._network, self._guarded.prepared, number)

    def harmless_probe(self, change: harmless.Change) -> Harmless:
        """Judge the float32 reference under a harmless change."""
        within = self._reference_within(self._probe(change))
        outcome = Outcome.WITHIN_NOISE if within else Outcome.SEMANTIC_DRIFT
        return Harmless(what=change.what, probe_alone=True, outcome=outcome, alarm=not within)

    def harmless_check(self, change: harmless.Change) -> Harmless:
        """Judge a whole check under a harmless change."""
        verdict = self._judged(self._scored(change), self._probe(None), label=change.what)
        return Harmless(what=change.what, probe_alone=False, outcome=verdict.outcome, alarm=not verdict.outcome.passed)

    def _sized(self, rung: Rung, seed: int, draw: int, fault: Fault) -> Trial | None:
        """A trial of a fault of the rung's size; None where it could not be given that."""
        found = tuned(
            lambda strength: self._effect(fault.at(strength), rung.instrument),
            rung.bounds,
            start=self._start(rung, seed, draw, fault),
        )
        if found is None:
            return None
        strength, size = found
        self._known[rung.instrument, seed, draw] = found
        beside = harmless.of_probe(self._network, seed)
        if rung.instrument is Instrument.REFERENCE:
            with Perturbed(self._network, [fault.at(strength)]):
                within = self._reference_within(self._probe(beside))
            beyond: tuple[Tier, ...] = () if within else (Tier.REFERENCE,)
            statistics: tuple[str, ...] = ()
        else:
            of_scores = harmless.of_scores(self._network, seed)
            with Perturbed(self._network, [fault.at(strength)]):
                verdict = self._judged(self._scored(of_scores), self._probe(beside), label=fault.what)
            beyond, beside = tiers_beyond(verdict), of_scores
            statistics = () if verdict.paired is None else tuple(s.name for s in verdict.paired.beyond)
        return Trial(
            instrument=rung.instrument,
            multiple=rung.multiple,
            seed=seed,
            what=f"{fault.what}, strength {strength:.3g}",
            size=size,
            draws=draw + 1,
            beside=beside.what,
            beyond=beyond,
            statistics=statistics,
        )

    def _flipped(self, rung: Rung, seed: int, draw: int, fault: Fault) -> Trial | None:
        """A trial of one flipped bit in the golden's environment; None where it changed no score."""
        clean = self._guarded.clean
        with Perturbed(self._network, [fault.at(1.0)]):
            done = self._scored(None)
        assert isinstance(clean.scores, TokenScores)  # noqa: S101  (a run of this process)
        if bits_of(done.scores) == bits_of(clean.scores):
            return None
        record = replace(perturbed_record(self._guarded, done, None, label=""), environment=clean.environment)
        verdict = judge(clean, record, self._guarded.rules)
        seen = tiers_beyond(verdict) if verdict.outcome is Outcome.UNEXPLAINED_BITS else ()
        return Trial(
            instrument=rung.instrument,
            multiple=rung.multiple,
            seed=seed,
            what=fault.what,
            size=1.0,
            draws=draw + 1,
            beside="nothing",
            beyond=seen,
        )

    def _start(self, rung: Rung, seed: int, draw: int, fault: Fault) -> float:
        """A strength near the wanted one, by what is known of this fault."""
        known = self._known.get((rung.instrument, seed, draw))
        return fault.start if known is None else known[0] * sum(rung.bounds) / 2 / known[1]

    def _effect(self, perturbation: Perturbation, instrument: Instrument) -> float:
        """What a perturbation does to the clean process in float32, in the instrument's own statistic, nats."""
        whole = instrument is not Instrument.REFERENCE
        if whole not in self._clean:
            self._clean[whole] = self._float32(whole=whole)
        with Perturbed(self._network, [perturbation]):
            drift = self._float32(whole=whole) - self._clean[whole]
        return _STATISTICS.get(instrument, _rms)(drift)

    def _float32(self, *, whole: bool) -> Values:
        """Float32 NLLs of all scored tokens, or of the probe's alone, shape (tokens,)."""
        model, prepared = self._guarded.model, self._guarded.prepared
        if not whole:
            return probe(model, prepared).nll
        return np.concatenate([probe(model, window).nll[-scored:] for window, scored in _windows(prepared)])

    def _scored(self, change: harmless.Change | None) -> Round:
        guarded, prepared = self._guarded, self._guarded.prepared
        if change is not None and change.batch_tokens is not None:
            prepared = prepared.rebatched(change.batch_tokens)
        with nullcontext() if change is None else change.context():
            return guarded.evaluate(f"{guarded.baseline.id}, selftest", prepared)

    def _probe(self, change: harmless.Change | None) -> Probe:
        if change is None:
            return probe(self._guarded.model, self._guarded.prepared)
        with change.context():
            return probe(self._guarded.model, self._guarded.prepared, attention=change.attention)

    def _reference_within(self, found: Probe) -> bool:
        clean = self._guarded.clean
        drift = reference_drift(clean, replace(clean, probe=found), self._guarded.rules)
        assert drift is not None  # noqa: S101  (there is a promise only where it can be compared)
        return drift.within

    def _judged(self, done: Round, found: Probe, *, label: str) -> Verdict:
        """What a check in another environment than the golden's says."""
        record = perturbed_record(self._guarded, done, found, label=label)
        return judge(self._guarded.clean, record, self._guarded.rules)


def _rms(drift: Values) -> float:
    return float(np.sqrt(np.mean(np.square(drift))))


def _windows(prepared: Prepared) -> list[tuple[Prepared, int]]:
    """Every window as a probe of all its tokens, and how many of them are scored."""
    return [
        (replace(prepared, probe_ids=np.append(inputs, targets[-1]).astype(np.int64)), targets.size)
        for rectangle in prepared.rectangles
        for inputs, targets in zip(rectangle.input_ids, rectangle.targets, strict=True)
    ]
