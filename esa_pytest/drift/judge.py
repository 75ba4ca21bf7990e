"""Walk down the tiers and say which one decided."""

from collections.abc import Mapping

from esa_pytest.drift.aggregate import RELATIVE_LOSS_TOLERANCE, metric_rows
from esa_pytest.drift.identity import identity_changes
from esa_pytest.drift.reference import allowed_rms, reference_drift
from esa_pytest.drift.statistics import bit_drift
from esa_pytest.records import (
    BitDrift,
    Change,
    MetricRow,
    NonFinite,
    Outcome,
    ProbeNoise,
    Record,
    ReferenceDrift,
    Tier,
    Verdict,
)

ANY_BIT = "any changed bit"


def judge(golden: Record, measured: Record) -> Verdict:
    """Compare this run's record with the accepted one.

    Identity and finiteness are asked first, and end the walk where they fail. Equal bits end it too: nothing can be
    worse. Other bits are a failure of their own in an equal environment whose bit-stability was proven; the later
    tiers then say how big the drift is.
    """
    environment = environment_changes(golden.environment, measured.environment)
    if changes := identity_changes(golden, measured):
        return Verdict(
            outcome=Outcome.INPUTS_CHANGED,
            tier=Tier.IDENTITY,
            reason=f"{describe_change(changes[0])}; it is not the same experiment",
            changes=changes,
            environment=environment,
        )
    if measured.non_finite is not None or measured.metrics is None or golden.metrics is None:
        return non_finite_verdict(measured)
    rows = metric_rows(golden, measured)
    bits = bit_drift(golden.scores, measured.scores)
    if bits.num_changed == 0 and all(row.golden == row.measured or row.within for row in rows):
        return _identical(environment, rows, bits, golden.probe_noise)
    reference = reference_drift(golden, measured)
    if bits.num_changed and not environment and golden.bit_stability is not None and golden.bits_proven:
        return _unexplained(golden.bit_stability.fresh_processes, environment, rows, bits, reference)
    if reference is not None and not reference.within:
        return _semantic(environment, rows, bits, reference)
    return _aggregate(environment, rows, bits, reference, stable=golden.bits_proven)


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


def _identical(
    environment: tuple[Change, ...], rows: tuple[MetricRow, ...], bits: BitDrift, noise: ProbeNoise | None
) -> Verdict:
    return Verdict(
        outcome=Outcome.IDENTICAL,
        tier=Tier.EXACT,
        reason=f"{bits.num_compared} of {bits.num_compared} {bits.unit} NLLs bit-equal",
        would_have_caught=(ANY_BIT, *(() if noise is None else (reference_sight(allowed_rms(noise)),))),
        environment=environment,
        rows=rows,
        bits=bits,
    )


def reference_sight(allowed: float) -> str:
    """What the probe is able to see where so many nats rms are allowed, in words."""
    return f"reference {allowed:.1g} nats"


def _semantic(
    environment: tuple[Change, ...], rows: tuple[MetricRow, ...], bits: BitDrift, reference: ReferenceDrift
) -> Verdict:
    return Verdict(
        outcome=Outcome.SEMANTIC_DRIFT,
        tier=Tier.REFERENCE,
        reason=(
            f"the model computes something else: the float32 reference moved by {_how_far(reference)}"
            f"{_first_moved(reference)}"
        ),
        environment=environment,
        rows=rows,
        bits=bits,
        reference=reference,
    )


def _how_far(reference: ReferenceDrift) -> str:
    """The drift that is beyond its bound: that of all tokens, or else that of one."""
    if reference.rms <= reference.allowed_rms:
        return f"{reference.maximum:.2g} nats at one token, allowed is {reference.allowed_maximum:.2g}"
    return f"{reference.rms:.2g} nats rms a token, allowed is {reference.allowed_rms:.2g}"


def _first_moved(reference: ReferenceDrift) -> str:
    return "" if reference.first_moved is None else f"; the first module that moved is {reference.first_moved}"


def _unexplained(
    processes: int,
    environment: tuple[Change, ...],
    rows: tuple[MetricRow, ...],
    bits: BitDrift,
    reference: ReferenceDrift | None,
) -> Verdict:
    return Verdict(
        outcome=Outcome.UNEXPLAINED_BITS,
        tier=Tier.EXACT,
        reason=(
            f"{bits.num_changed} of {bits.num_compared} {bits.unit} NLLs have other bits, the environment is the "
            f"golden's, and {processes} fresh processes gave equal bits when it was recorded: an unrestored "
            f"perturbation, a flag that is not listed, or bad memory"
            f"{'' if reference is None or reference.within else _first_moved(reference)}"
        ),
        environment=environment,
        rows=rows,
        bits=bits,
        reference=reference,
    )


def _changed_bits(
    environment: tuple[Change, ...], bits: BitDrift, reference: ReferenceDrift | None, *, stable: bool
) -> str:
    """Which bits changed, why that is no failure of its own, and what the reference says, as a clause."""
    if bits.num_changed == 0:
        return f"{bits.num_compared} of {bits.num_compared} {bits.unit} NLLs bit-equal"
    why = (
        f" in an environment that differs in {len(environment)} {'item' if len(environment) == 1 else 'items'}"
        if environment
        else ""
        if stable
        else " and the golden's bit-stability was not proven"
    )
    meaning = "" if reference is None else ", the float32 reference agrees (rounding changed, meaning did not)"
    return f"{bits.num_changed} of {bits.num_compared} {bits.unit} NLLs have other bits{why}{meaning}"


def _aggregate(
    environment: tuple[Change, ...],
    rows: tuple[MetricRow, ...],
    bits: BitDrift,
    reference: ReferenceDrift | None,
    *,
    stable: bool,
) -> Verdict:
    drifted = [row for row in rows if not row.within]
    changed = _changed_bits(environment, bits, reference, stable=stable)
    if drifted:
        worst = max(drifted, key=lambda row: abs(row.drift) / row.allowed if row.allowed else 0.0)
        return Verdict(
            outcome=Outcome.METRIC_DRIFT,
            tier=Tier.AGGREGATE,
            reason=f"{changed}, and {worst.name} drifted by {worst.drift:+.4g}, allowed is {worst.allowed:.2g}",
            environment=environment,
            rows=rows,
            bits=bits,
            reference=reference,
        )
    return Verdict(
        outcome=Outcome.WITHIN_NOISE,
        tier=Tier.AGGREGATE,
        reason=f"{changed}, and every metric is within its tolerance",
        would_have_caught=(
            *([] if reference is None else [reference_sight(reference.allowed_rms)]),
            f"a loss shift of {RELATIVE_LOSS_TOLERANCE:.1%} (provisional)",
        ),
        environment=environment,
        rows=rows,
        bits=bits,
        reference=reference,
    )
