"""What a check says of a replay, beside what a gate on the loss would have said."""

from dataclasses import dataclass

from esa_pytest.drift.judge import judge
from esa_pytest.drift.positions import fingerprint_of
from esa_pytest.records import Outcome, Record, Tier, Verdict

GATES = (0.01, 0.05)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a check says.

    Attributes:
        outcome: of our tiers.
        tier: that decided.
        reason: one clause.
        shift: of the loss, relative.
        named: the cause, as far as the tiers know it.
        maximum: the largest drift of one bf16 NLL, in nats; None where inputs changed.
        reference_rms: of the float32 reference, in nats; None where it was not asked.
    """

    outcome: Outcome
    tier: Tier
    reason: str
    shift: float
    named: str
    maximum: float | None
    reference_rms: float | None

    def passes_gate(self, gate: float) -> bool:
        """Whether a gate on the relative shift of the loss would have let it pass."""
        return abs(self.shift) <= gate


def find(golden: Record, new: Record) -> Found:
    """Judge a replay by the golden of the good release."""
    verdict = judge(golden, new)
    assert golden.metrics is not None
    assert new.metrics is not None
    return Found(
        outcome=verdict.outcome,
        tier=verdict.tier,
        reason=verdict.reason,
        shift=new.metrics.mean_nll / golden.metrics.mean_nll - 1,
        named=named_cause(verdict, new),
        maximum=None if verdict.bits is None else verdict.bits.maximum,
        reference_rms=None if verdict.reference is None else verdict.reference.rms,
    )


def named_cause(verdict: Verdict, new: Record) -> str:
    """What a verdict names: the changed input; or the module and position at which it begins, and what to suspect."""
    if verdict.changes:
        change = verdict.changes[0]
        return f"{change.name}: {_plain(change.golden)} -> {_plain(change.measured)}"
    parts = []
    if verdict.reference is not None and verdict.reference.first_moved is not None:
        parts.append(f"first module {verdict.reference.first_moved}")
    if verdict.bits is not None and verdict.bits.factor is not None:
        parts.append(f"each {verdict.bits.factor:.6g} times the golden's")
    elif verdict.bits is not None and verdict.bits.first_position is not None:
        begins = fingerprint_of(verdict.bits.first_position, new.identity["checkpoint"]["config"])
        parts.append(f"first position {verdict.bits.first_position}{'' if begins is None else f', {begins}'}")
    if verdict.environment:
        change = verdict.environment[0]
        parts.append(f"{change.name} {_plain(change.golden)} -> {_plain(change.measured)}")
    return "; ".join(parts)


def _plain(value: str | None) -> str:
    return "none" if value is None else value.strip('"')
