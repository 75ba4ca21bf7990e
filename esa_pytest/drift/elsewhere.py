"""A golden of another device: its bits say nothing here, its float32 reference does."""

from esa_pytest.drift.causes import ranked
from esa_pytest.drift.identity import probe_identity_changes
from esa_pytest.drift.judge import describe_change, environment_changes, non_finite_verdict
from esa_pytest.drift.reference import how_far, reference_drift
from esa_pytest.drift.resources import unjudged
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.drift.sight import detectable_reference, spoken
from esa_pytest.records import Outcome, Record, Tier, Verdict

# Pairs of device classes between which a measurement has shown that the probe agrees within its tolerance.
PROVEN_PAIRS: frozenset[frozenset[str]] = frozenset()


def judge_elsewhere(golden: Record, measured: Record, rules: Rules = DEFAULT_RULES) -> Verdict | None:
    """Compare this run with another device's accepted one by tiers 0, 1 and 3.

    None where nothing can be compared: without a probe on both sides, or where the devices' contexts are not of the
    same lengths, which makes the probe's window another one. Between devices whose agreement nobody has measured, a
    drift of the reference is told and does not fail.
    """
    if _lengths(golden) != _lengths(measured):
        return None
    if changes := probe_identity_changes(golden, measured):
        return Verdict(
            outcome=Outcome.INPUTS_CHANGED,
            tier=Tier.IDENTITY,
            reason=f"{describe_change(changes[0])}; it is not the same experiment as on {golden.device}",
            changes=changes,
        )
    if measured.non_finite is not None or measured.metrics is None:
        return non_finite_verdict(measured)
    reference = reference_drift(golden, measured, rules)
    if reference is None or golden.probe_noise is None:
        return None
    proven = frozenset({golden.device, measured.device}) in PROVEN_PAIRS
    agrees = "agrees with" if reference.within else "differs from"
    outcome = Outcome.SEMANTIC_DRIFT if proven and not reference.within else Outcome.REFERENCE_ONLY
    doubt = (
        "" if proven else f"; unproven between {golden.device} and {measured.device}, so this is told and not judged"
    )
    sight = {"reference": detectable_reference(golden.probe_noise, rules)}
    return Verdict(
        outcome=outcome,
        tier=Tier.REFERENCE,
        reason=(
            f"there is no golden for {measured.device}, and the float32 reference {agrees} that of {golden.device}: "
            f"{how_far(reference)}{doubt}"
        ),
        would_have_caught=spoken(sight),
        environment=ranked(environment_changes(golden.environment, measured.environment), meaning_changed=False),
        reference=reference,
        detectable=sight,
        resources=unjudged(f"the golden is of {golden.device}"),
    )


def _lengths(record: Record) -> object:
    return record.identity["windows"]["context_lengths"]
