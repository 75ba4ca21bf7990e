"""Which tiers saw something, whichever of them decided."""

from dataclasses import replace

from esa_pytest.drift.seen import tiers_beyond
from esa_pytest.records import BitDrift, MetricRow, Outcome, PairedDrift, ReferenceDrift, Statistic, Tier, Verdict

BITS = BitDrift(
    num_tokens=8,
    num_compared=8,
    num_changed=3,
    mean=0.0,
    rms=0.1,
    maximum=0.2,
    first_position=1,
    num_top1_flips=0,
)
REFERENCE = ReferenceDrift(
    num_tokens=8,
    rms=1e-3,
    maximum=2e-3,
    allowed_rms=1e-4,
    allowed_maximum=1e-3,
    weak=False,
    first_moved=None,
    num_moved=0,
    num_points=1,
)
BEYOND = Statistic(
    name="rms", unit="nats", value=1.0, noise=0.1, allowed=0.2, p_value=1e-9, beyond=True, source="measured"
)
PAIRED = PairedDrift(num_tokens=8, num_patterns=12, rate=1e-4, statistics=(BEYOND,), positions=())
ROW = MetricRow(name="mean_nll", golden=1.0, measured=2.0, drift=1.0, allowed=0.1, source="measured")
ALL = Verdict(
    outcome=Outcome.SEMANTIC_DRIFT,
    tier=Tier.REFERENCE,
    reason="",
    bits=BITS,
    reference=REFERENCE,
    paired=PAIRED,
    rows=(ROW,),
)


def test_every_tier_is_asked_whichever_decided() -> None:
    assert tiers_beyond(ALL) == (Tier.EXACT, Tier.REFERENCE, Tier.PAIRED, Tier.AGGREGATE)


def test_tiers_that_saw_nothing_are_left_out() -> None:
    calm = replace(
        ALL,
        bits=replace(BITS, num_changed=0),
        reference=replace(REFERENCE, rms=1e-5, maximum=1e-5),
        paired=replace(PAIRED, statistics=(replace(BEYOND, beyond=False),)),
        rows=(replace(ROW, drift=0.0),),
    )
    assert tiers_beyond(calm) == ()
    assert tiers_beyond(replace(calm, bits=BITS)) == (Tier.EXACT,)
    assert tiers_beyond(replace(calm, paired=None, reference=None, bits=None, rows=())) == ()


def test_walk_that_ended_early_asked_no_later_tier() -> None:
    assert tiers_beyond(replace(ALL, outcome=Outcome.NON_FINITE)) == (Tier.FINITE,)
    assert tiers_beyond(replace(ALL, outcome=Outcome.INPUTS_CHANGED)) == (Tier.IDENTITY,)
