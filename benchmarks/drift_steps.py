"""What the drift map is made of: families with an attention implementation, and steps from one release to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from esa_pytest.records import Outcome, Verdict


@dataclass(frozen=True, kw_only=True)
class Step:
    """From one release to the next that runs a family.

    Attributes:
        before: the release whose golden judges.
        verdict: on the later one; None where it has the same bits.
        shift: of the loss, relative.
    """

    before: str
    verdict: Verdict | None
    shift: float

    @property
    def outcome(self) -> Outcome:
        """What the tiers conclude."""
        return Outcome.IDENTICAL if self.verdict is None else self.verdict.outcome


@dataclass(frozen=True, kw_only=True)
class Row:
    """A family with an attention implementation.

    Attributes:
        model: its name.
        attention: as `sdpa`.
        refused: by release, why it does not run.
        bits: by release that runs it, a hash of its per-token scores.
        loss: by release that runs it, in nats a token.
        steps: by release, the step to it from the one before that ran.
        upgrades: by the last of each run of releases with equal bits, the step from it to the newest; none for the
            run that holds the newest.
    """

    model: str
    attention: str
    refused: Mapping[str, str] = field(default_factory=dict)
    bits: Mapping[str, str] = field(default_factory=dict)
    loss: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)
    upgrades: Mapping[str, Step] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Both, for people."""
        return f"{self.model}, {self.attention}"

    def moved(self) -> list[tuple[str, Step, Verdict]]:
        """The releases that moved a bit, with step and verdict, in their order."""
        return [(release, step, step.verdict) for release, step in self.steps.items() if step.verdict is not None]

    def same_bits(self) -> list[list[str]]:
        """The releases in runs of equal bits, in their order."""
        runs: list[list[str]] = []
        for release, bits in self.bits.items():
            if runs and self.bits[runs[-1][-1]] == bits:
                runs[-1].append(release)
            else:
                runs.append([release])
        return runs
