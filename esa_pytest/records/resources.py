"""What a run used: how that repeats itself, and how it compares with what is accepted."""

from collections.abc import Mapping
from dataclasses import dataclass

_OVER_START = ("peak_cuda_allocated_over_start_bytes", "peak_rss_over_start_bytes")


@dataclass(frozen=True, kw_only=True)
class ResourceRound:
    """One of the rounds that were repeated when a golden was recorded.

    Attributes:
        efficiency: achieved FLOP/s over those of matrix products in the same round; None where it is not known.
        peak_bytes: peak memory over what was held when the round began; None where it is not known.
        disturbance: what kept its speed from being believed, a clause; None where nothing did.
    """

    efficiency: float | None
    peak_bytes: int | None
    disturbance: str | None


@dataclass(frozen=True, kw_only=True)
class ResourceNoise:
    """How throughput and memory of an unchanged model repeated themselves.

    Attributes:
        rounds: the one that was recorded comes first, behind it those that repeat it.
        part: whether these repeat a part of the recorded work only. They then tell how far rounds lie apart and not
            where, and are moved so that they lie about the recorded one.
    """

    rounds: tuple[ResourceRound, ...]
    part: bool = False


@dataclass(frozen=True, kw_only=True)
class ResourceDrift:
    """Tier 6: one resource of a run beside what the golden's noise allows.

    Attributes:
        name: `throughput`, in efficiency, or `memory`, in bytes over what was held at the beginning.
        golden: the accepted value; None where there is none.
        measured: this run's; None where there is none.
        lowest: the least that passes; None where it is not judged.
        highest: the most that passes; None where it is not judged.
        noise: standard deviation that is usual, as a share of the golden's value; None where it is not known.
        detectable: the smallest change found in 99 of 100 runs, as a share for throughput, in bytes for memory; None
            where it is not judged.
        beyond: whether noise does not explain the drift.
        source: where the allowance comes from.
        refusal: why it is not judged, a clause; None where it is.
    """

    name: str
    golden: float | None = None
    measured: float | None = None
    lowest: float | None = None
    highest: float | None = None
    noise: float | None = None
    detectable: float | None = None
    beyond: bool = False
    source: str = ""
    refusal: str | None = None


def peak_over_start(resources: Mapping[str, float | int | str | None]) -> int | None:
    """A run's own peak in bytes over what was held when it began; None where it is not known."""
    values = (resources.get(name) for name in _OVER_START)
    return next((value for value in values if isinstance(value, int)), None)
