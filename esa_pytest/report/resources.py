"""What tier 6 says, as the lines that a person reads, and as the figures that other tools keep."""

import math
from collections.abc import Mapping

from esa_pytest.drift.resource_rounds import golden_efficiency
from esa_pytest.drift.rules import TOLERANCES
from esa_pytest.records import THROUGHPUT, Record, ResourceDrift, ResourceNoise, Tier, Verdict
from esa_pytest.report.layout import count, labelled

DISABLED_BENCHMARK = (
    "pytest-benchmark is switched off here (as it is by pytest-xdist and on Ray), so its JSON lacks this run; "
    "throughput was timed without it"
)


def throughput_line(measured: Record, golden: Record | None) -> str:
    """Tokens a second, and the efficiency beside the golden's."""
    speed, efficiency = (measured.resources.get(name) for name in ("throughput_tokens_per_second", "efficiency"))
    pace = f"{speed:,.0f} tok/s" if isinstance(speed, float) else "not known"
    before = None if golden is None else golden_efficiency(golden)
    if not isinstance(efficiency, float):
        compared = "no efficiency"
    elif before:
        compared = f"{efficiency / before:.2f} of the golden's efficiency"
    else:
        compared = f"efficiency {efficiency:.2f}"
    batch = measured.environment.get("batch_shapes")
    return f"{pace}, {compared}; {memory_text(measured.resources)}; batch {batch}"


def memory_text(resources: Mapping[str, float | int | str | None]) -> str:
    """The peak memory under the name of what it is."""
    peaks = [
        (name, value)
        for name, value in resources.items()
        if name.startswith("peak_") and "over_start" not in name and isinstance(value, int)
    ]
    return ", ".join(
        f"{name.removesuffix('_bytes').replace('_', ' ')} {value / 2**30:.2f} GiB" for name, value in peaks
    )


def resource_noise_lines(noise: ResourceNoise | None) -> list[str]:
    """How the rounds repeated themselves that were run when a golden was recorded."""
    if noise is None:
        return []
    believed = [d.efficiency for d in noise.rounds if d.disturbance is None and d.efficiency is not None]
    peaks = [done.peak_bytes / 2**20 for done in noise.rounds if done.peak_bytes is not None]
    rounds = count(len(noise.rounds), "round")
    told = [f"efficiency {min(believed):.3g} to {max(believed):.3g}" if believed else "no efficiency"]
    told += [f"memory over the beginning {min(peaks):.1f} to {max(peaks):.1f} MiB"] if peaks else []
    disturbed = next((done.disturbance for done in noise.rounds if done.disturbance), None)
    doubt = "" if disturbed is None else f"; {len(believed)} of them undisturbed ({disturbed})"
    return [labelled("", f"{', '.join(told)} in {rounds}{doubt}")]


def resource_remedy(verdict: Verdict) -> str | None:
    """What else may be done about a drift of throughput or memory alone, as a sentence."""
    if verdict.tier is not Tier.RESOURCES:
        return None
    shares = [(drift.name, _share(drift)) for drift in verdict.resources if drift.beyond]
    names = " and ".join(f"{name} = {share:g}" for name, share in shares if share is not None)
    more = f"To allow more: {names} (shares) in {TOLERANCES}; to be" if names else "To be"
    return f"{more} told only: --esa-resources warn."


def _share(drift: ResourceDrift) -> float | None:
    """The least twentieth of the golden's value that would allow a drift; None where that is nothing."""
    if not drift.golden or drift.measured is None:
        return None
    # What is a twentieth but for its last digits is not rounded up to the next.
    return math.ceil(round(20 * abs(drift.measured / drift.golden - 1), 6)) / 20


def resource_lines(verdict: Verdict | None) -> list[str]:
    """Each resource beside what is allowed, or why it is not judged."""
    if verdict is None:
        return []
    judged = [_judged(drift) for drift in verdict.resources if drift.refusal is None]
    refused: dict[str, list[str]] = {}
    for drift in verdict.resources:
        if drift.refusal is not None:
            refused.setdefault(drift.refusal, []).append(drift.name)
    told = [f"{' and '.join(names)} not judged: {refusal}" for refusal, names in refused.items()]
    return [labelled("resources" if index == 0 else "", text) for index, text in enumerate([*judged, *told])]


def _judged(drift: ResourceDrift) -> str:
    assert drift.measured is not None and drift.golden is not None  # noqa: PT018, S101  (it was judged)
    assert drift.lowest is not None and drift.highest is not None  # noqa: PT018, S101
    mark = " <- beyond" if drift.beyond else ""
    if drift.name == THROUGHPUT:
        return (
            f"efficiency {drift.measured:.3g}, the golden's {drift.golden:.3g} (allowed {drift.lowest:.3g} to "
            f"{drift.highest:.3g}, {drift.source}){mark}"
        )
    peak, before, lowest, highest = (
        f"{size / 2**20:.1f}" for size in (drift.measured, drift.golden, drift.lowest, drift.highest)
    )
    return (
        f"memory over the beginning {peak} MiB, the golden's {before} (allowed {lowest} to {highest}, "
        f"{drift.source}){mark}"
    )


def resource_ratio(verdict: Verdict | None, name: str) -> float | None:
    """A resource over the golden's; None where either is not known."""
    for drift in () if verdict is None else verdict.resources:
        if drift.name == name and drift.golden and drift.measured is not None:
            return drift.measured / drift.golden
    return None


def resource_figures(verdict: Verdict | None, measured: Record, golden: Record | None) -> dict[str, object]:
    """What pytest-benchmark's JSON keeps of a run beside its times: resources, their noise, tier 6's outcome."""
    found: dict[str, object] = dict(measured.resources)
    found["golden_efficiency"] = None if golden is None else golden_efficiency(golden)
    for drift in () if verdict is None else verdict.resources:
        allowed = None if drift.lowest is None else [drift.lowest, drift.highest]
        found |= {
            f"{drift.name}_outcome": "not judged" if drift.refusal else "drift" if drift.beyond else "within noise",
            f"{drift.name}_refusal": drift.refusal,
            f"{drift.name}_noise": drift.noise,
            f"{drift.name}_allowed": allowed,
        }
    decided = verdict is not None and verdict.tier is Tier.RESOURCES
    return found | {"esa_outcome": None if verdict is None else str(verdict.outcome), "decided_by_tier_6": decided}
