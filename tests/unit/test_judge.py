import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from esa_pytest.drift.judge import describe_change, describe_non_finite, judge, non_finite_verdict
from esa_pytest.records import (
    METRIC_NAMES,
    BitStability,
    Change,
    Metrics,
    NonFinite,
    Outcome,
    Record,
    Tier,
    TokenScores,
)
from tests.unit.builders import (
    CALIBRATION,
    ENVIRONMENT,
    changed_identity,
    leaf_values,
    nested,
    records,
    score_arrays,
    scored,
    small_record,
    token_scores,
    tokens_of,
    with_flipped_bit,
)

GOLDEN = small_record()
UNPROVEN = replace(GOLDEN, bit_stability=BitStability(fresh_processes=2, distinct_bit_patterns=2))
TORCH = Change(name="version.torch", golden="2.9.0", measured="2.10.0")


def elsewhere(record: Record) -> Record:
    return replace(record, environment=ENVIRONMENT | {"version.torch": "2.10.0"})


def shifted(share: float, record: Record = GOLDEN) -> Record:
    """The record with its loss changed by a share of itself."""
    scores = tokens_of(record)
    return scored(record, replace(scores, nll=(scores.nll * (1 + share)).astype(np.float32)))


@given(records())
def test_record_is_always_identical_to_itself(record: Record) -> None:
    verdict = judge(record, record)
    assert (verdict.outcome, verdict.tier) == (Outcome.IDENTICAL, Tier.EXACT)
    assert verdict.nothing_to_accept
    assert verdict.would_have_caught[0] == "any changed bit"
    assert len(verdict.would_have_caught) == 1 + (record.probe_noise is not None)


@pytest.mark.parametrize(
    ("golden", "measured", "told"),
    [
        (replace(GOLDEN, calibration=CALIBRATION), GOLDEN, "ece is missing, the golden has 0.05"),
        (GOLDEN, replace(GOLDEN, calibration=CALIBRATION), "ece is 0.05, and the golden has none"),
    ],
    ids=["gone", "new"],
)
def test_a_metric_that_one_side_lacks_never_passes(golden: Record, measured: Record, told: str) -> None:
    verdict = judge(golden, measured)
    assert (verdict.outcome, verdict.tier) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)
    assert verdict.reason.endswith(f"NLLs bit-equal, and {told}")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_on_both_sides_never_passes(value: float) -> None:
    assert GOLDEN.metrics is not None
    broken = replace(GOLDEN, metrics=replace(GOLDEN.metrics, nll_sum=value))
    assert not judge(broken, broken).outcome.passed


@given(score_arrays(), st.data())
def test_changed_bit_in_an_equal_environment_is_never_identical(scores: TokenScores, data: st.DataObject) -> None:
    golden = small_record(scores)
    token = data.draw(st.integers(0, scores.nll.size - 1))
    measured = scored(golden, with_flipped_bit(scores, "nll", token, data.draw(st.integers(0, 31))))
    verdict = judge(golden, measured)
    assert not verdict.outcome.passed
    finite = measured.metrics is not None
    assert verdict.outcome is (Outcome.UNEXPLAINED_BITS if finite else Outcome.NON_FINITE)
    assert judge(replace(golden, bit_stability=None), measured).outcome is not Outcome.IDENTICAL


@given(nested(leaf_values), nested(leaf_values))
def test_experiments_are_the_same_or_not_from_both_sides(old: dict[str, Any], new: dict[str, Any]) -> None:
    first, second = replace(GOLDEN, identity=old), replace(GOLDEN, identity=new)
    there, back = judge(first, second), judge(second, first)
    assert (there.outcome, there.tier) == (back.outcome, back.tier)
    assert len(there.changes) == len(back.changes)


@given(score_arrays(), score_arrays())
def test_other_targets_are_other_inputs_from_both_sides(one: TokenScores, other: TokenScores) -> None:
    assume(not np.array_equal(one.target, other.target))
    first, second = small_record(one), small_record(other)
    assert judge(first, second).outcome is judge(second, first).outcome is Outcome.INPUTS_CHANGED


def test_changed_input_ends_the_walk_with_its_name() -> None:
    verdict = judge(GOLDEN, elsewhere(changed_identity(GOLDEN, ("checkpoint", "config", "hidden"), 16)))
    assert (verdict.outcome, verdict.tier) == (Outcome.INPUTS_CHANGED, Tier.IDENTITY)
    assert verdict.reason == "checkpoint.config.hidden is 16, the golden has 8; it is not the same experiment"
    assert verdict.changes == (Change(name="checkpoint.config.hidden", golden="8", measured="16"),)
    assert verdict.environment == (TORCH,)
    assert (verdict.rows, verdict.bits) == ((), None)


def test_likeliest_cause_is_told_first() -> None:
    measured = changed_identity(GOLDEN, ("tokens", "sha256"), "0" * 64)
    measured = changed_identity(measured, ("corpus", "embedded", "sha256"), "1" * 64)
    verdict = judge(GOLDEN, measured)
    assert [change.name for change in verdict.changes] == ["corpus.embedded.sha256", "tokens.sha256"]
    assert verdict.reason == (
        "corpus.embedded.sha256 is 111111111111…, the golden has cccccccccccc…; it is not the same experiment"
    )


def test_changed_input_outranks_a_run_that_is_not_finite() -> None:
    broken = replace(GOLDEN, metrics=None, non_finite=NonFinite(what="nll"))
    verdict = judge(GOLDEN, changed_identity(broken, ("model", "dtype"), "bfloat16"))
    assert verdict.outcome is Outcome.INPUTS_CHANGED


@pytest.mark.parametrize("metrics", [METRIC_NAMES[:-1], (*METRIC_NAMES, "kl_divergence")])
def test_metric_that_vanished_or_came_is_no_pass(metrics: tuple[str, ...]) -> None:
    verdict = judge(GOLDEN, changed_identity(GOLDEN, ("metrics",), list(metrics)))
    assert verdict.outcome is Outcome.INPUTS_CHANGED
    assert verdict.reason.startswith("metrics is ")


@pytest.mark.parametrize("record", [GOLDEN, elsewhere(GOLDEN), shifted(0.5)])
def test_run_that_is_not_finite_ends_the_walk_with_the_place(record: Record) -> None:
    place = NonFinite(what="logits", window=3, token=7, layer="model.layers.2")
    verdict = judge(GOLDEN, replace(record, metrics=None, non_finite=place))
    assert (verdict.outcome, verdict.tier) == (Outcome.NON_FINITE, Tier.FINITE)
    assert verdict.reason == "the logits is NaN or infinite, first in layer model.layers.2, window 3, token 7"


@pytest.mark.parametrize("measured", [replace(GOLDEN, metrics=None), replace(GOLDEN, non_finite=NonFinite(what="nll"))])
def test_either_sign_of_a_run_that_is_not_finite_suffices(measured: Record) -> None:
    assert judge(GOLDEN, measured).outcome is Outcome.NON_FINITE


@pytest.mark.parametrize(
    ("place", "clause"),
    [
        (NonFinite(what="perplexity"), "the perplexity is NaN or infinite"),
        (NonFinite(what="nll", window=0, token=0), "the nll is NaN or infinite, first in window 0, token 0"),
        (NonFinite(what="nll", layer="lm_head"), "the nll is NaN or infinite, first in layer lm_head"),
    ],
)
def test_place_of_the_first_nan_is_told(place: NonFinite, clause: str) -> None:
    assert describe_non_finite(place) == clause


def test_run_without_metrics_is_told_in_good_english_though_no_place_is_known() -> None:
    reason = non_finite_verdict(replace(GOLDEN, metrics=None)).reason
    assert "metric is NaN or infinite" in reason
    assert "the a " not in reason


def test_identical_bits_elsewhere_pass_and_list_the_differences() -> None:
    verdict = judge(GOLDEN, elsewhere(GOLDEN))
    assert (verdict.outcome, verdict.tier) == (Outcome.IDENTICAL, Tier.EXACT)
    assert verdict.reason == "6 of 6 token NLLs bit-equal"
    assert verdict.environment == (TORCH,)
    assert not verdict.nothing_to_accept


def test_environment_lists_what_came_and_what_went() -> None:
    measured = replace(GOLDEN, environment={"cpu.instruction_set": "avx2", "env.OMP_NUM_THREADS": "1"})
    assert judge(GOLDEN, measured).environment == (
        Change(name="version.torch", golden="2.9.0", measured=None),
        Change(name="env.OMP_NUM_THREADS", golden=None, measured="1"),
        Change(name="batch_shapes", golden="3x2", measured=None),
        Change(name="version.transformers", golden="5.0.0", measured=None),
        Change(name="cpu.threads", golden="2", measured=None),
    )


@pytest.mark.parametrize("share", [1e-6, -1e-6, 0.5, -0.5])
def test_other_bits_in_an_equal_and_stable_environment_are_unexplained(share: float) -> None:
    verdict = judge(GOLDEN, shifted(share))
    assert (verdict.outcome, verdict.tier) == (Outcome.UNEXPLAINED_BITS, Tier.EXACT)
    assert verdict.reason == (
        "6 of 6 token NLLs have other bits, the environment is the golden's, and 2 fresh processes gave equal bits "
        "when it was recorded: an unrestored perturbation, a flag that is not listed, or bad memory"
    )
    assert [row.name for row in verdict.rows] == ["mean_nll", "perplexity", "token_accuracy"]
    assert verdict.bits is not None


def test_other_argmax_alone_counts_as_other_bits() -> None:
    measured = scored(GOLDEN, replace(tokens_of(GOLDEN), argmax=tokens_of(GOLDEN).argmax + 9))
    assert judge(GOLDEN, measured).outcome is Outcome.UNEXPLAINED_BITS


@pytest.mark.parametrize(
    "stability", [UNPROVEN.bit_stability, BitStability(fresh_processes=1, distinct_bit_patterns=1), None]
)
def test_other_bits_are_no_finding_where_stability_was_not_proven(stability: BitStability | None) -> None:
    verdict = judge(replace(GOLDEN, bit_stability=stability), shifted(1e-6))
    assert (verdict.outcome, verdict.tier) == (Outcome.WITHIN_NOISE, Tier.AGGREGATE)
    assert verdict.reason == (
        "6 of 6 token NLLs have other bits and the golden's bit-stability was not proven, "
        "and every metric is within its tolerance"
    )


def test_other_bits_elsewhere_are_within_noise() -> None:
    verdict = judge(GOLDEN, elsewhere(shifted(1e-6)))
    assert (verdict.outcome, verdict.tier) == (Outcome.WITHIN_NOISE, Tier.AGGREGATE)
    assert verdict.reason == (
        "6 of 6 token NLLs have other bits in an environment that differs in 1 item, "
        "and every metric is within its tolerance"
    )
    assert verdict.would_have_caught == ("a loss shift of 0.1% (provisional)",)
    assert verdict.environment == (TORCH,)


@pytest.mark.parametrize("golden", [GOLDEN, UNPROVEN])
@pytest.mark.parametrize(("share", "told"), [(0.002, "+"), (-0.002, "-")])
def test_drift_beyond_the_tolerance_fails_in_both_directions(golden: Record, share: float, told: str) -> None:
    measured = elsewhere(shifted(share)) if golden is GOLDEN else shifted(share)
    verdict = judge(golden, measured)
    assert (verdict.outcome, verdict.tier) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)
    assert (
        f", and perplexity drifted by {told}" in verdict.reason or f", and mean_nll drifted by {told}" in verdict.reason
    )
    assert verdict.would_have_caught == ()


@pytest.mark.parametrize(
    ("share", "outcome"),
    [
        (9.9e-4, Outcome.WITHIN_NOISE),
        (-9.9e-4, Outcome.WITHIN_NOISE),
        (1.01e-3, Outcome.METRIC_DRIFT),
        (-1.01e-3, Outcome.METRIC_DRIFT),
    ],
)
def test_tolerance_ends_at_a_thousandth_of_the_loss(share: float, outcome: Outcome) -> None:
    assert judge(GOLDEN, elsewhere(shifted(share))).outcome is outcome


def test_worst_metric_is_the_one_told() -> None:
    wrong = scored(GOLDEN, replace(tokens_of(shifted(1e-6)), argmax=tokens_of(GOLDEN).argmax + 9))
    assert judge(GOLDEN, elsewhere(wrong)).reason == (
        "6 of 6 token NLLs have other bits in an environment that differs in 1 item, "
        "and token_accuracy drifted by -0.5, allowed is 0.01"
    )


def test_loss_that_is_nan_never_passes() -> None:
    metrics = Metrics(nll_sum=math.nan, num_scored_tokens=6, num_correct_tokens=3)
    broken = replace(shifted(1e-6), metrics=metrics)
    assert judge(UNPROVEN, broken).outcome is Outcome.METRIC_DRIFT


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        (Change(name="model.dtype", golden='"a"', measured='"b"'), "model.dtype is b, the golden has a"),
        (Change(name="metrics", golden=None, measured="[1]"), "metrics is [1] and the golden has none"),
        (Change(name="metrics", golden="[1]", measured=None), "metrics is gone, the golden has [1]"),
        (Change(name="x", golden="y" * 24, measured="z" * 25), f"x is {'z' * 12}…, the golden has {'y' * 24}"),
    ],
)
def test_change_is_told_as_a_clause(change: Change, clause: str) -> None:
    assert describe_change(change) == clause


def test_scores_of_other_tokens_are_never_compared() -> None:
    verdict = judge(GOLDEN, small_record(token_scores([1.0, 2.0])))
    assert (verdict.outcome, verdict.bits) == (Outcome.INPUTS_CHANGED, None)
    assert (
        verdict.reason
        == "tokens.target is other targets, the golden has the golden's arrays; it is not the same experiment"
    )
