from dataclasses import replace

import numpy as np
import pytest

from esa_pytest.drift.judge import judge
from esa_pytest.golden.blocks import block_sums
from esa_pytest.golden.packing import pack, unpack
from esa_pytest.records import BitStability, BlockScores, Change, Outcome, Record, Tier, TokenScores
from tests.unit.builders import (
    CALIBRATION,
    ENVIRONMENT,
    NAME,
    NPZ_NAME,
    scored,
    small_record,
    windowed_scores,
    with_flipped_bit,
)

TOKENS = windowed_scores([1024] * 32 + [1])
MEASURED = small_record(TOKENS)
GOLDEN = unpack(pack(MEASURED, npz_name=NPZ_NAME), name=NAME)
# Of its NLLs: the lowest bit, a value that is another one.
NUDGED = scored(MEASURED, with_flipped_bit(TOKENS, "nll", 2000, 0))


def elsewhere(record: Record) -> Record:
    return replace(record, environment=ENVIRONMENT | {"version.torch": "2.10.0"})


def shifted(share: float) -> Record:
    return scored(MEASURED, replace(TOKENS, nll=(TOKENS.nll * (1 + share)).astype(np.float32)))


def test_golden_of_a_long_run_keeps_blocks() -> None:
    assert isinstance(GOLDEN.scores, BlockScores)
    assert isinstance(MEASURED.scores, TokenScores)


@pytest.mark.parametrize("measured", [MEASURED, GOLDEN])
def test_equal_run_is_identical_block_by_block(measured: Record) -> None:
    verdict = judge(GOLDEN, measured)
    assert (verdict.outcome, verdict.tier) == (Outcome.IDENTICAL, Tier.EXACT)
    assert verdict.reason == "513 of 513 block NLLs bit-equal"
    assert verdict.nothing_to_accept


@pytest.mark.parametrize("name", ["nll", "argmax"])
@pytest.mark.parametrize("token", [0, 32_767, 32_768])
def test_changed_bit_in_an_equal_environment_is_unexplained(name: str, token: int) -> None:
    verdict = judge(GOLDEN, scored(MEASURED, with_flipped_bit(TOKENS, name, token, 0)))
    assert (verdict.outcome, verdict.tier) == (Outcome.UNEXPLAINED_BITS, Tier.EXACT)
    assert verdict.reason == (
        "1 of 513 block NLLs have other bits, the environment is the golden's, and 2 fresh processes gave equal bits "
        "when it was recorded: an unrestored perturbation, a flag that is not listed, or bad memory"
    )


def test_changed_bit_elsewhere_is_within_noise() -> None:
    verdict = judge(GOLDEN, elsewhere(NUDGED))
    assert (verdict.outcome, verdict.tier) == (Outcome.WITHIN_NOISE, Tier.AGGREGATE)
    assert verdict.reason == (
        "1 of 513 block NLLs have other bits in an environment that differs in 1 item, "
        "and every metric is within its tolerance"
    )
    assert verdict.environment == (Change(name="version.torch", golden="2.9.0", measured="2.10.0"),)


def test_changed_bit_is_within_noise_where_stability_was_not_proven() -> None:
    unproven = replace(GOLDEN, bit_stability=BitStability(fresh_processes=2, distinct_bit_patterns=2))
    assert judge(unproven, NUDGED).outcome is Outcome.WITHIN_NOISE


@pytest.mark.parametrize("share", [0.002, -0.002])
def test_drift_beyond_the_tolerance_fails_in_both_directions(share: float) -> None:
    verdict = judge(GOLDEN, elsewhere(shifted(share)))
    assert (verdict.outcome, verdict.tier) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)
    assert verdict.bits is not None
    assert verdict.bits.mean == pytest.approx(share * TOKENS.nll.mean(dtype=np.float64), rel=1e-4)


@pytest.mark.parametrize("lengths", [[1024] * 32, [1024] * 33])
def test_other_number_of_tokens_is_never_compared(lengths: list[int]) -> None:
    verdict = judge(GOLDEN, small_record(windowed_scores(lengths)))
    assert (verdict.outcome, verdict.bits) == (Outcome.INPUTS_CHANGED, None)
    assert verdict.changes[0].name == "tokens.target"


@pytest.mark.parametrize("drift", [0.02, -0.02])
def test_calibration_that_drifted_fails_though_the_loss_did_not(drift: float) -> None:
    golden = replace(GOLDEN, calibration=CALIBRATION)
    measured = replace(elsewhere(NUDGED), calibration=replace(CALIBRATION, ece=CALIBRATION.ece + drift))
    verdict = judge(golden, measured)
    assert verdict.outcome is Outcome.METRIC_DRIFT
    assert verdict.reason.endswith(f", and ece drifted by {drift:+.4g}, allowed is 0.01")


def test_blocks_made_of_the_measured_tokens_are_the_goldens() -> None:
    assert isinstance(GOLDEN.scores, BlockScores)
    assert np.array_equal(GOLDEN.scores.bits, block_sums(TOKENS).bits)
