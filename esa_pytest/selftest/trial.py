"""What came of one fault, and of one harmless change."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from esa_pytest.records import Tier
from esa_pytest.selftest.ladder import Instrument


class Trial(BaseModel):
    """One fault of known size, judged.

    Attributes:
        instrument: whose ladder it belongs to.
        multiple: of the promised size, as the rung asked for it.
        seed: of the fault and of the harmless change beside it.
        what: the fault, for people.
        size: what the fault was measured to do on the clean process, in nats (of `bits`: flipped bits).
        draws: how many faults were drawn until one could be given its size.
        beside: the harmless change that the judged run carried.
        beyond: the tiers that saw it.
        statistics: the statistics of tier 4 that saw it.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["fault"] = "fault"
    instrument: Instrument
    multiple: float
    seed: int
    what: str
    size: float
    draws: int
    beside: str
    beyond: tuple[Tier, ...]
    statistics: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether a tier saw it that keeps the instrument's promise; another one does not."""
        return not set(self.instrument.tiers).isdisjoint(self.beyond)


class Harmless(BaseModel):
    """One change that must not matter, judged.

    Attributes:
        what: the change.
        probe_alone: whether only the float32 reference was judged.
        outcome: what the check said.
        alarm: whether it failed.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["harmless"] = "harmless"
    what: str
    probe_alone: bool
    outcome: str
    alarm: bool
