"""Walk down the tiers and say which one decided."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from esa_pytest.drift.aggregate import metric_rows
from esa_pytest.drift.causes import ranked
from esa_pytest.drift.identity import identity_changes
from esa_pytest.drift.instruments import STATISTIC_NAMES
from esa_pytest.drift.noise_model import noise_model_of
from esa_pytest.drift.numeric import paired_drift
from esa_pytest.drift.reference import how_far, reference_drift, why_no_reference
from esa_pytest.drift.resources import with_resources
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.drift.sight import ANY_BIT, detectable, spoken
from esa_pytest.drift.statistics import record_drift
from esa_pytest.records import (
    BitDrift,
    Change,
    MetricRow,
    NonFinite,
    Outcome,
    PairedDrift,
    Record,
    ReferenceDrift,
    Statistic,
    Tier,
    Verdict,
)

# Of evaluation.upcasting, which loads torch.
_REFERENCE_ATTENTION = "eager"


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """All that a verdict shows, whichever tier decides; `attention` is what this run used."""

    environment: tuple[Change, ...]
    rows: tuple[MetricRow, ...]
    bits: BitDrift
    reference: ReferenceDrift | None = None
    reference_refusal: str | None = None
    paired: PairedDrift | None = None
    detectable: Mapping[str, float] = field(default_factory=dict)
    attention: str | None = None

    def verdict(self, outcome: Outcome, tier: Tier, reason: str) -> Verdict:
        """A verdict with this evidence."""
        sight = spoken(self.detectable) if outcome.passed else ()
        return Verdict(
            outcome=outcome,
            tier=tier,
            reason=reason,
            would_have_caught=(ANY_BIT, *sight) if outcome is Outcome.IDENTICAL else sight,
            environment=ranked(self.environment, meaning_changed=outcome is Outcome.SEMANTIC_DRIFT),
            rows=self.rows,
            bits=self.bits,
            reference=self.reference,
            reference_refusal=self.reference_refusal,
            paired=self.paired,
            detectable=self.detectable,
        )


def judge(golden: Record, measured: Record, rules: Rules = DEFAULT_RULES) -> Verdict:
    """Compare this run's record with the accepted one.

    Identity and finiteness are asked first, and end the walk where they fail. Equal bits end it too: nothing can be
    worse. Other bits are a failure of their own in an equal environment whose bit-stability was proven; the later
    tiers then say how big the drift is. Tier 6 is asked of whatever could be compared.

    Args:
        golden: the accepted record.
        measured: this run's.
        rules: how strictly.
    """
    return with_resources(_walked(golden, measured, rules), golden, measured, rules)


def _walked(golden: Record, measured: Record, rules: Rules) -> Verdict:
    """The verdict of tiers 0 to 5."""
    environment = environment_changes(golden.environment, measured.environment)
    if changes := identity_changes(golden, measured):
        return Verdict(
            outcome=Outcome.INPUTS_CHANGED,
            tier=Tier.IDENTITY,
            reason=f"{describe_change(changes[0])}; it is not the same experiment",
            changes=changes,
            environment=ranked(environment, meaning_changed=False),
        )
    if measured.non_finite is not None or measured.metrics is None or golden.metrics is None:
        return non_finite_verdict(measured)
    model = noise_model_of(golden)
    rows = metric_rows(golden, measured, model, rules)
    bits = record_drift(golden, measured)
    # The difference of two infinities is no zero.
    if bits.num_changed == 0 and all(row.drift == 0 or row.within for row in rows):
        evidence = _Evidence(
            environment=environment, rows=rows, bits=bits, detectable=detectable(golden, model, rules, in_full=False)
        )
        return evidence.verdict(Outcome.IDENTICAL, Tier.EXACT, _equal(bits))
    reference = reference_drift(golden, measured, rules)
    evidence = _Evidence(
        environment=environment,
        rows=rows,
        bits=bits,
        reference=reference,
        reference_refusal=why_no_reference(golden, measured) if bits.num_changed else None,
        paired=paired_drift(golden, measured, model, rules) if bits.num_changed else None,
        detectable=detectable(golden, model, rules, in_full=True, with_reference=reference is not None),
        attention=measured.environment.get("attention"),
    )
    if bits.num_changed and not environment and golden.bit_stability is not None and golden.bits_proven:
        return _unexplained(evidence, golden.bit_stability.fresh_processes)
    return _drifted(evidence, stable=golden.bits_proven)


def needs_reference(verdict: Verdict) -> bool:
    """Whether the float32 reference has a say: bits differ, and it is the same experiment with numbers in it."""
    return verdict.bits is not None and verdict.bits.num_changed > 0


def environment_changes(golden: Mapping[str, str], measured: Mapping[str, str]) -> tuple[Change, ...]:
    """The items in which two environments differ, by name."""
    return tuple(
        Change(name=name, golden=golden.get(name), measured=measured.get(name))
        for name in sorted(golden.keys() | measured.keys())
        if golden.get(name) != measured.get(name)
    )


def non_finite_verdict(measured: Record) -> Verdict:
    """Tier 1: the run holds a NaN or an infinity, whatever the golden says."""
    return Verdict(
        outcome=Outcome.NON_FINITE,
        tier=Tier.FINITE,
        reason=describe_non_finite(measured.non_finite or NonFinite(what="metric")),
    )


def describe_non_finite(place: NonFinite) -> str:
    """Where the first NaN or infinity was met, as a clause."""
    where = [
        f"{name} {value}"
        for name, value in (("layer", place.layer), ("window", place.window), ("token", place.token))
        if value is not None
    ]
    return f"the {place.what} is NaN or infinite" + (f", first in {', '.join(where)}" if where else "")


def describe_change(change: Change) -> str:
    """A changed item as a clause."""
    if change.golden is None:
        return f"{change.name} is {_short(change.measured)} and the golden has none"
    if change.measured is None:
        return f"{change.name} is gone, the golden has {_short(change.golden)}"
    return f"{change.name} is {_short(change.measured)}, the golden has {_short(change.golden)}"


def _short(value: str | None) -> str:
    text = (value or "").strip('"')
    return text if len(text) <= 24 else f"{text[:12]}…"


def _equal(bits: BitDrift) -> str:
    return f"{bits.num_compared} of {bits.num_compared} {bits.unit} NLLs bit-equal"


def _drifted(evidence: _Evidence, *, stable: bool) -> Verdict:
    """Tiers 3 to 5, of which the first that noise does not explain decides."""
    reference, paired = evidence.reference, evidence.paired
    if reference is not None and not reference.within:
        reason = f"the model computes something else: the float32 reference moved by {how_far(reference)}"
        return evidence.verdict(Outcome.SEMANTIC_DRIFT, Tier.REFERENCE, f"{reason}{_first_moved(reference)}")
    changed = _changed_bits(evidence, stable=stable, passed=False)
    if paired is not None and paired.beyond:
        reason = f"{changed}, and {describe_statistic(paired.beyond[0], paired.num_patterns)}"
        return evidence.verdict(Outcome.NUMERIC_DRIFT, Tier.PAIRED, reason)
    drifted = [row for row in evidence.rows if not row.within]
    if drifted:
        return evidence.verdict(Outcome.METRIC_DRIFT, Tier.AGGREGATE, f"{changed}, and {_worst(drifted)}")
    changed = _changed_bits(evidence, stable=stable, passed=True)
    if paired is not None and paired.refusal is None:
        reason = f"{changed}, and the drift is what {paired.num_patterns} harmless bit patterns show"
        return evidence.verdict(Outcome.WITHIN_NOISE, Tier.PAIRED, reason)
    return evidence.verdict(
        Outcome.WITHIN_NOISE, Tier.AGGREGATE, f"{changed}, and every metric is within its tolerance"
    )


def _worst(drifted: Sequence[MetricRow]) -> str:
    """The metric that moved the furthest of what it may, as a clause; one that a side lacks before all others."""
    for row in drifted:
        if math.isnan(row.measured):
            return f"{row.name} is missing, the golden has {row.golden:.4g}"
        if math.isnan(row.golden):
            return f"{row.name} is {row.measured:.4g}, and the golden has none"
    worst = max(drifted, key=lambda row: abs(row.drift) / row.allowed if row.allowed else 0.0)
    return f"{worst.name} drifted by {worst.drift:+.4g}, allowed is {worst.allowed:.2g}"


def describe_statistic(statistic: Statistic, num_patterns: int) -> str:
    """A statistic that noise does not explain, as a clause."""
    return (
        f"the drift's {STATISTIC_NAMES[statistic.name]} is {statistic.value:.3g} {statistic.unit}, allowed are "
        f"{statistic.allowed:.3g} by the noise of {num_patterns} bit patterns"
    )


def _what_changed(evidence: _Evidence, *, passed: bool) -> str:
    """What follows from a reference that agrees, as a clause."""
    # A model has no part in it where every NLL is a multiple of the golden's.
    if evidence.bits.factor is not None:
        return "the scorer changed, the model did not"
    if not passed and evidence.attention not in (None, _REFERENCE_ATTENTION):
        return f"it computes with {_REFERENCE_ATTENTION} attention: a fault of {evidence.attention} alone it cannot see"
    return "rounding changed, meaning did not"


def _multiplied(bits: BitDrift) -> str:
    """What every NLL was multiplied by, as a clause with its comma; nothing where there is no such number."""
    return "" if bits.factor is None else f", each {bits.factor:.6g} times the golden's"


def _first_moved(reference: ReferenceDrift) -> str:
    return "" if reference.first_moved is None else f"; the first module that moved is {reference.first_moved}"


def _unexplained(evidence: _Evidence, processes: int) -> Verdict:
    bits, reference = evidence.bits, evidence.reference
    reason = (
        f"{bits.num_changed} of {bits.num_compared} {bits.unit} NLLs have other bits, the environment is the "
        f"golden's, and {processes} fresh processes gave equal bits when it was recorded: an unrestored "
        f"perturbation, a flag that is not listed, or bad memory"
        f"{'' if reference is None or reference.within else _first_moved(reference)}"
    )
    return evidence.verdict(Outcome.UNEXPLAINED_BITS, Tier.EXACT, reason)


def _changed_bits(evidence: _Evidence, *, stable: bool, passed: bool) -> str:
    """Which bits changed, why that is no failure of its own, and what the reference says, as a clause."""
    bits, environment = evidence.bits, evidence.environment
    if bits.num_changed == 0:
        return _equal(bits)
    why = (
        f" in an environment that differs in {len(environment)} {'item' if len(environment) == 1 else 'items'}"
        if environment
        else ""
        if stable
        else " and the golden's bit-stability was not proven"
    )
    meaning = ""
    if evidence.reference is not None:
        agrees = f"the float32 reference agrees ({_what_changed(evidence, passed=passed)})"
        meaning = f"{_multiplied(bits)}, {agrees}"
    return f"{bits.num_changed} of {bits.num_compared} {bits.unit} NLLs have other bits{why}{meaning}"
