"""What is promised, and the rungs of sizes at which the promise is tried; both fixed before the first fault."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from esa_pytest.drift.noise_model import noise_model_of
from esa_pytest.drift.rules import Rules
from esa_pytest.drift.sight import detectable
from esa_pytest.records import Record, Tier

# Multiples of the promised size.
SIZES = (0.125, 0.25, 0.5, 0.75, 1.0, 2.0, 4.0)
LEAST_SEEDS = 20


class Instrument(StrEnum):
    """An instrument that promises a size; the names are those of `Verdict.detectable`, and `bits`."""

    REFERENCE = "reference"
    MEAN = "mean"
    RMS = "rms"
    MAXIMUM = "maximum"
    BITS = "bits"

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers that keep its promise: a shift of the mean is judged by tier 4, and as the loss by tier 5."""
        return _TIERS.get(self, (Tier.PAIRED,))


_TIERS = {
    Instrument.BITS: (Tier.EXACT,),
    Instrument.REFERENCE: (Tier.REFERENCE,),
    Instrument.MEAN: (Tier.PAIRED, Tier.AGGREGATE),
}
ROUNDING = (Instrument.MEAN, Instrument.RMS, Instrument.MAXIMUM)
# What `--instrument` may choose.
GROUPS: Mapping[str, tuple[Instrument, ...]] = {
    "reference": (Instrument.REFERENCE,),
    "rounding": ROUNDING,
    "bits": (Instrument.BITS,),
    "all": tuple(Instrument),
}


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One size of faults for one instrument.

    Attributes:
        instrument: which is tried.
        multiple: of the promised size.
        wanted: the size, in nats; of `bits`, the number of flipped bits.
    """

    instrument: Instrument
    multiple: float
    wanted: float

    @property
    def promised(self) -> bool:
        """Whether the gate said that it finds such a fault."""
        return self.multiple >= 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest size of a fault that belongs here.

        A fault below the promised size was never promised to be found, and one far above it would be too easy. Lower
        down the curve is drawn at the sizes that were measured, and bf16 weights move in steps.
        """
        return (self.wanted, 1.15 * self.wanted) if self.promised else (0.8 * self.wanted, 1.25 * self.wanted)


def promised_sizes(golden: Record, rules: Rules) -> dict[Instrument, float]:
    """The smallest effect that each instrument finds by the noise of the golden, in nats.

    What the user allows beyond the noise is left out: the selftest is to show what a widened tolerance costs.

    Args:
        golden: with its noise.
        rules: of the check.
    """
    measured = replace(rules, tolerances={})
    # Without a float32 reference a fault's size is not known from anything but the scores that are judged.
    sizes = {} if golden.probe is None else detectable(golden, noise_model_of(golden), measured, in_full=True)
    found = {instrument: sizes[instrument] for instrument in Instrument if instrument in sizes}
    return found | ({Instrument.BITS: 1.0} if golden.bits_proven else {})


def rungs_of(promise: Mapping[Instrument, float], sizes: Sequence[float] = SIZES) -> list[Rung]:
    """The ladder, an instrument after the other; the promised size comes first, those next to it follow.

    Args:
        promise: size by instrument.
        sizes: multiples of the promised size.
    """
    ordered = sorted(set(sizes), key=lambda multiple: (abs(math.log(multiple)), multiple))
    return [
        Rung(instrument=instrument, multiple=multiple, wanted=multiple * size)
        for instrument, size in promise.items()
        # There is no half a bit, and two are no harder to see.
        for multiple in ([1.0] if instrument is Instrument.BITS else ordered)
    ]
