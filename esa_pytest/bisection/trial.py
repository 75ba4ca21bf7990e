"""What became of one environment that was tried."""

from pydantic import BaseModel, ConfigDict

from esa_pytest.bisection.search import Standing
from esa_pytest.records import Change


class MovedPackage(BaseModel):
    """A package that a trial had in another version than the one here, which is None where there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    package: str
    version: str
    here: str | None


class Trial(BaseModel):
    """What became of one environment.

    Attributes:
        moved: the packages that were moved back on purpose; none for the environment as it is here.
        companions: those that had to go along.
        standing: beside the golden.
        outcome: the verdict's, or `broken`, or `could not be tried`.
        tier: that decided; None without a verdict.
        reason: one clause for people.
        num_compared: tokens, or blocks where the golden keeps sums of blocks; None where nothing could be compared.
        num_changed: how many of these have other bits.
        unit: what one of them is.
        mean: drift, in nats.
        maximum: the largest drift of one of them, in nats.
        reference_rms: by how much the float32 reference differs; None where it was not asked.
        environment: the items in which this environment still differs from the golden's, with either value.
        inputs: the items of the identity that differ.
        notes: what a reader should know of the run, a sentence each.
        seconds: for building the environment, measuring and judging.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    moved: tuple[MovedPackage, ...]
    companions: tuple[MovedPackage, ...] = ()
    standing: Standing
    outcome: str
    tier: int | None = None
    reason: str
    num_compared: int | None = None
    num_changed: int | None = None
    unit: str = "token"
    mean: float | None = None
    maximum: float | None = None
    reference_rms: float | None = None
    environment: tuple[tuple[str, str | None, str | None], ...] = ()
    inputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float

    @property
    def names(self) -> frozenset[str]:
        """The packages that were moved on purpose."""
        return frozenset(package.package for package in self.moved)

    @property
    def changes(self) -> tuple[Change, ...]:
        """The items in which this environment still differs from the golden's."""
        return tuple(Change(name=name, golden=old, measured=new) for name, old, new in self.environment)
