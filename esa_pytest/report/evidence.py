"""What a verdict rests on, a line an instrument: bits, reference, noise, positions, and which tier saw what."""

from esa_pytest.drift.positions import fingerprint_of
from esa_pytest.records import (
    MEASURED,
    BitDrift,
    BitStability,
    PairedDrift,
    PartDrift,
    Record,
    ReferenceDrift,
    Statistic,
    Verdict,
)
from esa_pytest.report.layout import count, labelled

_SPOKEN = {
    "mean": "mean {}",
    "rms": "rms {}",
    "maximum": "one token {}",
    "outlying": "outlying tokens {}",
    "top1_flips": "top-1 flips {}",
    "kl_top": "KL {}",
    "distance": "distance to the reference {} of the golden's",
}


def evidence_lines(verdict: Verdict, measured: Record) -> list[str]:
    """Everything that a verdict on other bits rests on."""
    if verdict.bits is None:
        return []
    if verdict.bits.num_changed == 0:
        return [] if verdict.outcome.passed else [labelled("bits", bits_line(verdict.bits))]
    return [
        labelled("bits", bits_line(verdict.bits)),
        *_fingerprint_lines(verdict, verdict.bits.first_position, measured),
        *_reference_or_why_none(verdict),
        *paired_lines(verdict.paired),
        labelled("seen by", seen_line(verdict)),
    ]


def _fingerprint_lines(verdict: Verdict, first_position: int | None, measured: Record) -> list[str]:
    reference = verdict.reference
    # A module that is named says more than a first position; that of a window's edge is said all the same.
    named = reference is not None and reference.first_moved is not None and first_position in (0, 1)
    if named or verdict.outcome.passed:
        return []
    config = measured.identity.get("checkpoint", {}).get("config", {})
    found = fingerprint_of(first_position, config if isinstance(config, dict) else {})
    return [] if found is None else [labelled("", f"the first changed bit stands {found}")]


def bits_line(bits: BitDrift) -> str:
    """How the per-token values differ."""
    first = "" if bits.first_position is None else f" · first at position {bits.first_position} of its window"
    flips = "" if bits.num_top1_flips is None else f" · {count(bits.num_top1_flips, 'top-1 flip')}"
    return (
        f"{bits.num_changed} of {bits.num_compared} {bits.unit}s changed · mean {bits.mean:+.2e} · "
        f"rms {bits.rms:.2e} · max {bits.maximum:.2e} nats{first}{flips}"
    )


def _reference_or_why_none(verdict: Verdict) -> list[str]:
    if verdict.reference_refusal is not None:
        return [labelled("reference", f"not judged by: {verdict.reference_refusal}")]
    return reference_lines(verdict.reference)


def reference_lines(reference: ReferenceDrift | None) -> list[str]:
    """How the float32 reference differs, and which module moved first."""
    if reference is None:
        return []
    lines = [
        labelled(
            "reference",
            f"rms {reference.rms:.1e} ({_allowed(f'{reference.allowed_rms:.1e}', reference.rms_source)}) · "
            f"max {reference.maximum:.1e} ({_allowed(f'{reference.allowed_maximum:.1e}', reference.maximum_source)}) "
            f"nats over {reference.num_tokens} tokens in float32",
        )
    ]
    if reference.first_moved is not None:
        lines.append(
            labelled(
                "first moved", f"{reference.first_moved}; {reference.num_moved} of {reference.num_points} modules moved"
            )
        )
    if reference.weak:
        lines.append(labelled("", "weak probe: this model's own float32 noise hides ordinary single weights"))
    return lines


def paired_lines(paired: PairedDrift | None) -> list[str]:
    """The statistics of the drift beside what noise allows, and the drift by position."""
    if paired is None:
        return []
    if paired.refusal is not None:
        lines = [labelled("noise", f"not judged by: {paired.refusal}")]
    else:
        readings = " · ".join(_reading(statistic) for statistic in paired.statistics)
        source = (
            f"(measured on {count(paired.num_patterns, 'bit pattern')} and {paired.num_tokens} tokens; at most "
            f"{paired.rate:.0e} false alarms a check)"
        )
        lines = [labelled("noise", readings), labelled("", source)]
    if paired.positions:
        each = " · ".join(f"{drift.label} {drift.rms:.1e} ({drift.num_changed})" for drift in paired.positions)
        lines.append(labelled("by position", f"rms in nats (tokens changed): {each}"))
    if paired.strata:
        lines.append(labelled("by stratum", f"mean and rms in nats: {' · '.join(map(_of_stratum, paired.strata))}"))
    return lines


def _of_stratum(drift: PartDrift) -> str:
    return f"{drift.label} {f'{drift.mean:+.1e} {drift.rms:.1e}' if drift.num_changed else 'unchanged'}"


def _reading(statistic: Statistic) -> str:
    allowed = _allowed(f"{statistic.allowed:.2g}", statistic.source)
    mark = " <- beyond" if statistic.beyond else ""
    return f"{_SPOKEN[statistic.name].format(f'{statistic.value:.2g}')} ({allowed}){mark}"


def _allowed(size: str, source: str) -> str:
    """What is allowed, and by whom where it is not what was measured."""
    return f"allowed {size}{'' if source == MEASURED else f', {source}'}"


def seen_line(verdict: Verdict) -> str:
    """Which tier saw what, from the inputs to the numbers people quote."""
    reference, paired = verdict.reference, verdict.paired
    unasked = "not asked" if verdict.reference_refusal is None else "not judged"
    meaning = unasked if reference is None else "unchanged" if reference.within else "changed"
    rounding = (
        "not judged" if paired is None or paired.refusal else "beyond noise" if paired.beyond else "as noise does"
    )
    metrics = "within tolerance" if all(row.within for row in verdict.rows) else "drifted"
    return f"inputs unchanged · bits changed · meaning {meaning} · bf16 rounding {rounding} · metrics {metrics}"


def stability_text(stability: BitStability | None) -> str:
    """How stable the bits of a baseline were when its golden was recorded."""
    if stability is None:
        return "stability not measured, since a fresh process would be without the other ranks"
    if stability.proven:
        return f"bit-equal in this and {count(stability.fresh_processes, 'fresh process', 'fresh processes')}"
    return f"{stability.distinct_bit_patterns} bit patterns in {stability.fresh_processes + 1} processes: not stable"
