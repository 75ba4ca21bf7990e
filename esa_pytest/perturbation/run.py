"""A perturbed run: what the guarded baseline's evaluation gives while weights are perturbed, and how far it drifted."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from esa_pytest.drift.instruments import mean_and_error
from esa_pytest.drift.judge import judge
from esa_pytest.drift.paired import blocks_of
from esa_pytest.drift.seen import tiers_beyond
from esa_pytest.errors import PerturbationError
from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.reference import probe, rounded_at_probe
from esa_pytest.golden.assembly import summed_up
from esa_pytest.perturbation.guard import Guarded, refuse_changed
from esa_pytest.perturbation.reversible import Perturbation, Perturbed
from esa_pytest.records import Probe, Record, Tier, TokenScores, Verdict

# The item of the environment that tells a perturbed run from a clean one, so that tier 2 leaves the word to the others.
PERTURBATION = "perturbation"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far a perturbed run is from the clean one of the same process; all differences are perturbed less clean.

    Attributes:
        mean_nll: of the loss, in nats a token; NaN where the perturbed run is not finite.
        mean_nll_error: the standard error of that mean over the text, from blocks of tokens; NaN likewise.
        perplexity: of the perplexity; NaN likewise.
        token_accuracy: a share of the tokens; NaN likewise.
        rms: root mean square over tokens of the bf16 NLLs, nats; NaN likewise.
        maximum: the largest absolute drift of one token, nats; NaN likewise.
        reference_rms: root mean square of the float32 reference's drift, nats; NaN where it was not asked.
        first_moved: the first module whose fingerprint moved.
        seen_by: the tiers that saw it.
        verdict: everything that was found, in all tiers' statistics.
    """

    mean_nll: float
    mean_nll_error: float
    perplexity: float
    token_accuracy: float
    rms: float
    maximum: float
    reference_rms: float
    first_moved: str | None
    seen_by: tuple[Tier, ...]
    # Every statistic of every tier: too much for pytest's account of a failed assertion.
    verdict: Verdict = field(repr=False)


class PerturbedRun(Perturbed):
    """A block with perturbed weights, and the drift of the guarded baseline inside it.

    The evaluation is run when `drift` is first asked for, within the block; what was measured stays readable behind it.
    """

    def __init__(
        self,
        guarded: Guarded,
        perturbations: Sequence[Perturbation],
        *,
        if_broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is changed yet.

        Args:
            guarded: the model, and what its drift is measured from.
            perturbations: applied in order.
            if_broken: called where the weights are not what they were, or may not be, before the error is raised.

        Raises:
            PerturbationError: there is no such parameter or place, or nothing to do.
            GuardError: the model is not what it was when it passed its check.
        """
        refuse_changed(guarded, if_broken=if_broken)
        super().__init__(guarded.model.network, perturbations, if_broken=if_broken)
        self._guarded = guarded
        self._record: Record | None = None
        self._drift: Drift | None = None

    def __repr__(self) -> str:
        """What was done, as a failed assertion shows it."""
        return f"<PerturbedRun: {'; '.join(map(str, self.applied)) or 'not begun'}>"

    @property
    def record(self) -> Record:
        """The perturbed run, measured at the first call.

        Raises:
            PerturbationError: the block is over, or not begun, and nothing was measured in it.
        """
        if self._record is None:
            if not self.active:
                raise PerturbationError(
                    "The drift of a perturbation is asked for outside of its block, and was not measured within it; "
                    "ask for it inside the with statement."
                )
            self._record = evaluate_perturbed(self._guarded, label="; ".join(map(str, self.applied)))
        return self._record

    @property
    def drift(self) -> Drift:
        """How far the run is from the clean one, measured at the first call.

        Raises:
            PerturbationError: the block is over, or not begun, and nothing was measured in it.
        """
        if self._drift is None:
            self._drift = drift_of(self._guarded, self.record)
        return self._drift

    @property
    def verdict(self) -> Verdict:
        """What the check would say of such a model in another environment than its golden's."""
        return self.drift.verdict


def evaluate_perturbed(guarded: Guarded, *, label: str) -> Record:
    """Run the guarded baseline's evaluation and its float32 reference on the weights as they are now.

    Args:
        guarded: the model, and what was scored of it.
        label: what was done to the weights, for people.
    """
    done = guarded.evaluate(f"{guarded.baseline.id}, perturbed")
    reference = probe(guarded.model, guarded.prepared) if _wants_reference(guarded, done) else None
    return perturbed_record(guarded, done, reference, label=label)


def perturbed_record(guarded: Guarded, done: Round, reference: Probe | None, *, label: str) -> Record:
    """The record of a perturbed round.

    Args:
        guarded: the model, and its clean run.
        done: the round.
        reference: the float32 reference of the same weights.
        label: what was done to the weights, for people.
    """
    sums = summed_up(done)
    if reference is not None:
        reference = replace(
            reference,
            window=guarded.prepared.probe_window,
            rounded_nll=rounded_at_probe(done.scores, guarded.prepared),
        )
    return replace(
        guarded.clean,
        scores=done.scores,
        metrics=sums.metrics,
        calibration=sums.calibration,
        context=sums.context,
        non_finite=sums.non_finite,
        top=done.top if sums.non_finite is None else None,
        probe=reference,
        environment={**guarded.clean.environment, PERTURBATION: label},
        noise=None,
        probe_noise=None,
        bit_stability=None,
    )


def drift_of(guarded: Guarded, record: Record) -> Drift:
    """How far a perturbed run is from the clean one.

    Args:
        guarded: the clean run.
        record: the perturbed one.
    """
    verdict = judge(guarded.clean, record, guarded.rules)
    bits, reference = verdict.bits, verdict.reference
    mean, error = _mean_and_error(guarded.clean, record)
    return Drift(
        mean_nll=mean,
        mean_nll_error=error,
        perplexity=_metric(record, "perplexity") - _metric(guarded.clean, "perplexity"),
        token_accuracy=_metric(record, "token_accuracy") - _metric(guarded.clean, "token_accuracy"),
        rms=math.nan if bits is None else bits.rms,
        maximum=math.nan if bits is None else bits.maximum,
        reference_rms=math.nan if reference is None else reference.rms,
        first_moved=None if reference is None else reference.first_moved,
        seen_by=tiers_beyond(verdict),
        verdict=verdict,
    )


def _wants_reference(guarded: Guarded, done: Round) -> bool:
    return guarded.clean.probe is not None and done.non_finite is None


def _metric(record: Record, name: str) -> float:
    return math.nan if record.metrics is None else float(getattr(record.metrics, name))


def _mean_and_error(clean: Record, perturbed: Record) -> tuple[float, float]:
    if perturbed.non_finite is not None:
        return math.nan, math.nan
    assert isinstance(clean.scores, TokenScores) and isinstance(perturbed.scores, TokenScores)  # noqa: PT018, S101
    drift = perturbed.scores.nll.astype(np.float64) - clean.scores.nll
    mean, error = mean_and_error(drift, blocks_of(clean.scores.window))
    return float(mean), float(error)
