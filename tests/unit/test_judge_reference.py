"""What the float32 reference adds to a verdict."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.judge import judge, needs_reference
from esa_pytest.records import BitStability, NonFinite, Outcome, Probe, Record, Tier, Verdict
from esa_pytest.report.evidence import evidence_lines
from tests.unit.builders import (
    CALIBRATION,
    ENVIRONMENT,
    changed_identity,
    scored,
    small_record,
    token_scores,
    tokens_of,
    windowed_scores,
)
from tests.unit.probe_builders import NOISE, PROBE, moved, moved_at, probed

PLAIN = small_record()
GOLDEN = probed(PLAIN, PROBE, NOISE)
UNPROVEN = replace(GOLDEN, bit_stability=BitStability(fresh_processes=2, distinct_bit_patterns=2))
NUDGED = scored(PLAIN, token_scores([1.0, 2.0, 3.0, 4.001, 0.5, 1.5]))
DRIFTED = scored(PLAIN, token_scores([1.0, 2.5, 3.0, 4.0, 0.5, 1.5]))
# Beyond the tolerance as a whole, and at one token alone.
ELSEWHERE_MOVED = moved_at("norm", 0.5, moved_at("layers.0.mlp", 0.5, moved(1e-3)))
ONE_TOKEN = replace(PROBE, nll=PROBE.nll + np.array([0.0, 0.0, 1e-3, 0.0]))
AGREES = ", the float32 reference agrees (rounding changed, meaning did not)"


def elsewhere(record: Record) -> Record:
    return replace(record, environment=ENVIRONMENT | {"version.torch": "2.10.0"})


def outcome_and_tier(verdict: Verdict) -> tuple[Outcome, Tier]:
    return verdict.outcome, verdict.tier


@pytest.mark.parametrize("measured", [NUDGED, DRIFTED])
def test_moved_reference_elsewhere_is_a_drift_of_the_meaning(measured: Record) -> None:
    verdict = judge(GOLDEN, probed(elsewhere(measured), ELSEWHERE_MOVED))
    assert outcome_and_tier(verdict) == (Outcome.SEMANTIC_DRIFT, Tier.REFERENCE)
    assert verdict.reason == (
        "the model computes something else: the float32 reference moved by 0.001 nats rms a token, "
        "allowed is 4e-06; the first module that moved is layers.0.mlp"
    )
    assert not verdict.outcome.passed
    assert verdict.would_have_caught == ()
    assert verdict.reference is not None
    assert (verdict.reference.first_moved, verdict.reference.num_moved) == ("layers.0.mlp", 2)
    assert verdict.bits is not None
    assert [row.name for row in verdict.rows] == ["mean_nll", "perplexity", "token_accuracy"]
    assert [change.name for change in verdict.environment] == ["version.torch"]


def test_reference_that_moved_behind_every_module_is_of_the_head() -> None:
    verdict = judge(GOLDEN, probed(elsewhere(NUDGED), moved(-1e-3)))
    assert verdict.outcome is Outcome.SEMANTIC_DRIFT
    assert verdict.reason.endswith(
        "moved by 0.001 nats rms a token, allowed is 4e-06; the first module that moved is lm_head"
    )


def test_reference_that_moved_at_one_token_says_so() -> None:
    noise = replace(NOISE, rms=2e-4, maximum=1e-4)
    verdict = judge(probed(PLAIN, PROBE, noise), probed(elsewhere(NUDGED), ONE_TOKEN))
    assert verdict.outcome is Outcome.SEMANTIC_DRIFT
    assert verdict.reason == (
        "the model computes something else: the float32 reference moved by 0.001 nats at one token, allowed is 0.0004"
    )


def test_reference_that_is_not_finite_is_a_drift_of_the_meaning() -> None:
    verdict = judge(GOLDEN, probed(elsewhere(NUDGED), moved(float("nan"))))
    assert verdict.outcome is Outcome.SEMANTIC_DRIFT
    assert "moved by nan nats rms a token" in verdict.reason


def test_unproven_golden_in_an_equal_environment_asks_the_reference_too() -> None:
    assert judge(UNPROVEN, probed(NUDGED, ELSEWHERE_MOVED)).outcome is Outcome.SEMANTIC_DRIFT
    verdict = judge(UNPROVEN, probed(NUDGED))
    assert verdict.outcome is Outcome.WITHIN_NOISE
    assert verdict.reason == (
        f"1 of 6 token NLLs have other bits and the golden's bit-stability was not proven{AGREES}, "
        "and every metric is within its tolerance"
    )


@pytest.mark.parametrize("found", [PROBE, moved(3.9e-6), moved(-3.9e-6), moved_at("embed", 0.5)])
def test_agreeing_reference_elsewhere_is_within_noise_and_told(found: Probe) -> None:
    verdict = judge(GOLDEN, replace(elsewhere(NUDGED), probe=found))
    assert outcome_and_tier(verdict) == (Outcome.WITHIN_NOISE, Tier.AGGREGATE)
    assert verdict.reason == (
        f"1 of 6 token NLLs have other bits in an environment that differs in 1 item{AGREES}, "
        "and every metric is within its tolerance"
    )
    assert verdict.would_have_caught == ("reference 5e-06 nats", "a loss shift of 0.1% (provisional)")
    assert verdict.reference is not None
    assert verdict.reference.within


def test_drifted_loss_with_an_agreeing_reference_is_a_drift_of_the_metric() -> None:
    verdict = judge(GOLDEN, probed(elsewhere(DRIFTED)))
    assert outcome_and_tier(verdict) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)
    assert verdict.reason == (
        f"1 of 6 token NLLs have other bits in an environment that differs in 1 item{AGREES}, "
        "and perplexity drifted by +0.6421, allowed is 0.015"
    )
    assert verdict.reference is not None
    assert verdict.would_have_caught == ()


@pytest.mark.parametrize("golden", [PLAIN, probed(PLAIN)])
@pytest.mark.parametrize("probe", [None, ELSEWHERE_MOVED])
def test_golden_without_a_noise_is_judged_by_metrics_alone(golden: Record, probe: Probe | None) -> None:
    verdict = judge(golden, replace(elsewhere(NUDGED), probe=probe))
    assert (verdict.outcome, verdict.reference) == (Outcome.WITHIN_NOISE, None)
    assert verdict.reference_refusal is None
    assert "reference" not in verdict.reason
    assert verdict.would_have_caught == ("a loss shift of 0.1% (provisional)",)


OF_VERSION_2 = replace(PROBE, version=2)
OF_OTHER_TOKENS = replace(PROBE, nll=PROBE.nll[:-1])


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        (None, "this run has none to compare with the golden's"),
        (OF_VERSION_2, "the golden's is computed in version 1 and this run's in 2; record it anew"),
        (OF_OTHER_TOKENS, "the golden's is of other tokens, or of fingerprints of another size; record it anew"),
    ],
    ids=["missing", "version", "tokens"],
)
def test_a_reference_that_cannot_be_compared_says_why_and_claims_nothing(probe: Probe | None, told: str) -> None:
    measured = probed(elsewhere(NUDGED), probe)
    verdict = judge(GOLDEN, measured)
    assert (verdict.outcome, verdict.reference) == (Outcome.WITHIN_NOISE, None)
    assert verdict.reference_refusal == told
    lines = evidence_lines(verdict, measured)
    assert f"  reference      not judged by: {told}" in lines
    assert "meaning not judged" in lines[-1]
    # Nobody asks where no bit differs.
    assert judge(GOLDEN, probed(elsewhere(GOLDEN), probe)).reference_refusal is None
    assert "reference" not in verdict.reason
    assert verdict.would_have_caught == ("a loss shift of 0.1% (provisional)",)


def test_changed_bits_in_the_proven_environment_name_the_module_that_moved() -> None:
    verdict = judge(GOLDEN, probed(NUDGED, ELSEWHERE_MOVED))
    assert outcome_and_tier(verdict) == (Outcome.UNEXPLAINED_BITS, Tier.EXACT)
    assert verdict.reason.endswith("or bad memory; the first module that moved is layers.0.mlp")
    assert verdict.reference is not None


@pytest.mark.parametrize("probe", [None, PROBE, moved(5e-6), moved_at("layers.0.mlp", 0.5)])
def test_changed_bits_in_the_proven_environment_blame_no_module_without_a_moved_probe(probe: Probe | None) -> None:
    verdict = judge(GOLDEN, replace(NUDGED, probe=probe))
    assert verdict.outcome is Outcome.UNEXPLAINED_BITS
    assert verdict.reason.endswith("a flag that is not listed, or bad memory")


@pytest.mark.parametrize("probe", [None, PROBE, ELSEWHERE_MOVED, moved(float("nan"))])
@pytest.mark.parametrize("environment", [ENVIRONMENT, ENVIRONMENT | {"version.torch": "2.10.0"}])
def test_equal_bits_never_ask_the_reference(probe: Probe | None, environment: dict[str, str]) -> None:
    verdict = judge(GOLDEN, replace(PLAIN, probe=probe, environment=environment))
    assert outcome_and_tier(verdict) == (Outcome.IDENTICAL, Tier.EXACT)
    assert verdict.reference is None
    assert verdict.would_have_caught == ("any changed bit", "reference 5e-06 nats")
    assert not needs_reference(verdict)


@pytest.mark.parametrize("share", [1.5, 0.5])
def test_equal_bits_with_a_drifted_calibration_are_a_drift_of_the_metric(share: float) -> None:
    golden = replace(GOLDEN, calibration=CALIBRATION)
    drifted = replace(PLAIN, calibration=replace(CALIBRATION, ece=share * CALIBRATION.ece))
    verdict = judge(golden, drifted)
    assert outcome_and_tier(verdict) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)
    drift = (share - 1) * CALIBRATION.ece
    assert verdict.reason == f"6 of 6 token NLLs bit-equal, and ece drifted by {drift:+.4g}, allowed is 0.01"
    assert verdict.bits is not None
    assert verdict.bits.num_changed == 0
    assert not needs_reference(verdict)


def test_equal_bits_with_a_calibration_within_its_tolerance_are_identical() -> None:
    golden = replace(GOLDEN, calibration=CALIBRATION)
    near = replace(PLAIN, calibration=replace(CALIBRATION, ece=CALIBRATION.ece + 0.009))
    assert judge(golden, near).outcome is Outcome.IDENTICAL


def test_reference_has_a_say_where_bits_differ() -> None:
    assert needs_reference(judge(GOLDEN, NUDGED))
    assert needs_reference(judge(GOLDEN, elsewhere(DRIFTED)))
    assert needs_reference(judge(UNPROVEN, NUDGED))


@pytest.mark.parametrize(
    "measured",
    [
        changed_identity(NUDGED, ("model", "dtype"), "float64"),
        replace(NUDGED, metrics=None, non_finite=NonFinite(what="nll")),
    ],
)
def test_reference_has_no_say_in_another_experiment_nor_without_numbers(measured: Record) -> None:
    verdict = judge(GOLDEN, probed(measured, ELSEWHERE_MOVED))
    assert verdict.tier < Tier.EXACT
    assert verdict.reference is None
    assert not needs_reference(verdict)


@given(st.floats(-1e-2, 1e-2), st.integers(0, 3), st.floats(0, 1e-3), st.floats(0, 1e-3))
def test_moved_reference_never_passes_and_an_agreeing_one_never_drifts(
    amount: float, token: int, rms: float, maximum: float
) -> None:
    golden = probed(PLAIN, PROBE, replace(NOISE, rms=rms, maximum=maximum))
    amounts = np.zeros(4)
    amounts[token] = amount
    verdict = judge(golden, probed(elsewhere(NUDGED), moved(amounts)))
    assert verdict.reference is not None
    assert verdict.outcome is (Outcome.WITHIN_NOISE if verdict.reference.within else Outcome.SEMANTIC_DRIFT)
    beyond = abs(amount) / 2 > 4 * max(rms, 2.5e-7) * 1.001 or abs(amount) > 4 * max(maximum, 2.5e-7) * 1.001
    assert not (beyond and verdict.outcome.passed)


def test_nudged_run_is_no_other_text() -> None:
    assert np.array_equal(tokens_of(NUDGED).target, tokens_of(PLAIN).target)


def test_a_multiple_of_every_nll_is_the_scorers_and_no_rounding() -> None:
    scores = windowed_scores([40, 24])
    golden = probed(scored(PLAIN, scores), PROBE, NOISE)
    measured = elsewhere(scored(golden, replace(scores, nll=scores.nll * 4)))
    assert (
        "each 4 times the golden's, the float32 reference agrees (the scorer changed, the model did not)"
        in judge(golden, measured).reason
    )


@pytest.mark.parametrize(("attention", "said"), [("eager", "rounding changed"), ("sdpa", "a fault of sdpa alone")])
def test_a_failure_does_not_claim_what_the_eager_reference_cannot_see(attention: str, said: str) -> None:
    scores = windowed_scores([40, 24])
    golden = probed(scored(PLAIN, scores), PROBE, NOISE)
    drifted = elsewhere(scored(golden, replace(scores, nll=scores.nll + np.float32(1.0))))
    measured = replace(drifted, environment={**drifted.environment, "attention": attention})
    verdict = judge(golden, measured)
    assert verdict.outcome is Outcome.METRIC_DRIFT
    assert (
        f"the float32 reference agrees ({'it computes with eager attention: ' if attention == 'sdpa' else ''}{said}"
        in (verdict.reason)
    )
