"""Which tiers saw something, whichever of them decided."""

from esa_pytest.records import Outcome, Tier, Verdict


def tiers_beyond(verdict: Verdict) -> tuple[Tier, ...]:
    """The tiers whose question is answered with no, in order.

    A verdict names the first tier that settles the matter; a power curve asks what each would have said alone. Where
    the walk ended early (other inputs, a value that is no number), the later tiers were not asked.
    """
    if verdict.outcome is Outcome.INPUTS_CHANGED:
        return (Tier.IDENTITY,)
    if verdict.outcome is Outcome.NON_FINITE:
        return (Tier.FINITE,)
    beyond = {
        Tier.EXACT: verdict.bits is not None and verdict.bits.num_changed > 0,
        Tier.REFERENCE: verdict.reference is not None and not verdict.reference.within,
        Tier.PAIRED: verdict.paired is not None and bool(verdict.paired.beyond),
        Tier.AGGREGATE: any(not row.within for row in verdict.rows),
        Tier.RESOURCES: any(resource.beyond for resource in verdict.resources),
    }
    return tuple(tier for tier, seen in beyond.items() if seen)
