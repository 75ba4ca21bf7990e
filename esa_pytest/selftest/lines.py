"""A selftest as the lines that a person reads: what is promised, what was found, and what it comes to."""

from collections.abc import Mapping, Sequence

from esa_pytest.drift.rules import TOLERANCES, Rules
from esa_pytest.records import Tier
from esa_pytest.report.columns import aligned
from esa_pytest.report.layout import count, labelled
from esa_pytest.selftest.ladder import LEAST_SEEDS, Instrument
from esa_pytest.selftest.power import Point, Share

UNITS = {
    Instrument.REFERENCE: "nats rms in float32",
    Instrument.MEAN: "nats mean",
    Instrument.RMS: "nats rms",
    Instrument.MAXIMUM: "nats at one token",
    Instrument.BITS: "flipped bit",
}
_INDENT = "  "
_TIERS = (Tier.EXACT, Tier.REFERENCE, Tier.PAIRED, Tier.AGGREGATE)
_HEADING = (
    "fault size",
    "of promised",
    *(f"tier {tier.value}" for tier in _TIERS),
    "alone",
    "found",
    "95 % interval",
    "",
)


def start_lines(
    name: str, golden_date: str, guard: str, promise: Mapping[Instrument, float], missing: Mapping[str, str]
) -> list[str]:
    """What is tested, and what was promised of it before the first fault.

    Args:
        name: the baseline's id.
        golden_date: of its golden.
        guard: what the check said before anything was perturbed.
        promise: size by instrument.
        missing: why an instrument promises nothing, by its name.
    """
    return [
        f"esa: selftest of {name}, by its golden of {golden_date}",
        labelled("guard", guard),
        labelled("promised", " · ".join(promise_text(instrument, size) for instrument, size in promise.items())),
        *(labelled("no promise", f"{instrument}: {why}") for instrument, why in missing.items()),
    ]


def promise_text(instrument: Instrument, size: float) -> str:
    """A promise in words."""
    if instrument is Instrument.BITS:
        return "any changed bit"
    return f"{instrument} {size:.2g} {UNITS[instrument].split(' ')[0]}"


def plan_line(*, num_trials: int, num_harmless: int, num_kept: int, seconds: float) -> str:
    """How much there is to do, and about how long it takes."""
    kept = f", {num_kept} of them kept from an earlier call" if num_kept else ""
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    return labelled(
        "to run", f"{count(num_trials, 'fault')} and {count(num_harmless, 'harmless change')}{kept}; about {took}"
    )


def table_lines(points: Sequence[Point]) -> list[str]:
    """The power curve, a line a rung."""
    rows = [_HEADING, *(_row(point) for point in points)]
    right = frozenset(range(1, len(_HEADING) - 1))
    return ["", *(f"{_INDENT}{line}".rstrip() for line in aligned(rows, right=right)), ""]


def _row(point: Point) -> tuple[str, ...]:
    by_tier = [str(point.by_tier[tier].hits) if tier in point.by_tier else "-" for tier in _TIERS]
    said = "" if not point.promised else "kept" if point.kept else "MISSED"
    size = "1" if point.instrument is Instrument.BITS else f"{point.size:.2g}"
    return (
        f"{point.instrument} {size} {UNITS[point.instrument]}",
        f"{point.multiple:g}",
        *by_tier,
        "-" if point.alone is None else str(point.alone.hits),
        share_text(point.found),
        interval_text(point.found),
        said,
    )


def share_text(share: Share) -> str:
    """As `20 of 20`."""
    return f"{share.hits} of {share.of}"


def interval_text(share: Share) -> str:
    """As `84 to 100 %`."""
    low, high = share.interval
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def alarm_line(alarms: Share, *, probes: int) -> str:
    """How often harmless changes failed."""
    return labelled(
        "false alarms",
        f"{share_text(alarms)} harmless changes ({interval_text(alarms)}); {probes} of these moved the float32 "
        f"reference alone",
    )


def widened_line(rules: Rules) -> str | None:
    """That the user allows more than was measured, which costs power; None where he does not."""
    if not rules.tolerances:
        return None
    named = ", ".join(f"{name} = {value:g}" for name, value in rules.tolerances.items())
    return labelled("widened", f"{TOLERANCES} allows {named}; the promise is that of the golden's noise alone")


def kept_line(points: Sequence[Point], alarms: Share, *, seeds: int) -> str:
    """The closing sentence of a gate that kept what it promised."""
    promised = [point for point in points if point.promised]
    found = Share(hits=sum(point.found.hits for point in promised), of=sum(point.found.of for point in promised))
    number = f"all {found.of}" if found.hits == found.of else share_text(found)
    least = min(point.found.interval[0] for point in promised)
    few = "" if seeds >= LEAST_SEEDS else f" {count(seeds, 'seed')} a size prove little: take {LEAST_SEEDS} or more."
    quiet = f", and no false alarm in {count(alarms.of, 'harmless change')}" if alarms.of else ""
    return (
        f"esa: The gate keeps its promise: {number} faults of the promised size or more were found by the "
        f"tier that promised it (each size more often than {100 * least:.0f} %, by 95 % intervals){quiet}.{few}"
    )


def broken_line(clauses: Sequence[str], rules: Rules) -> str:
    """The sentence of a gate that did not."""
    remedy = (
        f"lower or remove {TOLERANCES}"
        if rules.tolerances
        else "record the golden's noise anew (pytest --snapshot-update), and report it if that does not help"
    )
    return f"The gate does not keep its promise: {'; '.join(clauses)}; {remedy}."
