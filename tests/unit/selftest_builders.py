"""Trials of a selftest as its bench would leave them."""

from esa_pytest.records import Tier
from esa_pytest.selftest.ladder import Instrument
from esa_pytest.selftest.trial import Harmless, Trial


def trial(
    instrument: Instrument = Instrument.REFERENCE,
    multiple: float = 1.0,
    seed: int = 0,
    *,
    beyond: tuple[Tier, ...] | None = None,
    statistics: tuple[str, ...] = (),
) -> Trial:
    """A trial that was found, unless something else is said of it."""
    return Trial(
        instrument=instrument,
        multiple=multiple,
        seed=seed,
        what="noise on a matrix",
        size=1e-5 * multiple,
        draws=1,
        beside="last bits, seed 1000",
        beyond=instrument.tiers if beyond is None else beyond,
        statistics=statistics,
    )


def harmless(number: int = 0, *, alarm: bool = False, probe_alone: bool = True) -> Harmless:
    """A harmless change."""
    outcome = "semantic-drift" if alarm else "within-noise"
    return Harmless(what=f"last bits, seed {number}", probe_alone=probe_alone, outcome=outcome, alarm=alarm)
