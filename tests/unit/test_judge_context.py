"""A long context is judged by its own noise, in both directions and to the bit; what is missing never passes."""

import math
from dataclasses import replace

import pytest

from esa_pytest.drift.context import context_rows
from esa_pytest.drift.judge import judge
from esa_pytest.drift.noise_model import noise_model_of
from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.golden.blocks import block_sums
from esa_pytest.records import MetricRow, Outcome, Record, Tier
from tests.unit.builders import tokens_of, with_flipped_bit
from tests.unit.context_builders import CONTEXT, SIZE, long_golden, moved
from tests.unit.noise_builders import clean_run, noisy_golden

GOLDEN = long_golden()
METRICS = tuple(CONTEXT.metrics)
RATE = 1e-5


def rows_of(measured: Record, rules: Rules = DEFAULT_RULES, golden: Record = GOLDEN) -> dict[str, MetricRow]:
    found = context_rows(golden, measured, noise_model_of(golden), rules, rate=RATE)
    return {row.name: row for row in found}


def drifted(name: str, by: float, golden: Record = GOLDEN) -> Record:
    """A run in another environment with noise, and one metric of its long context moved."""
    return replace(clean_run(golden, 1), context=moved(CONTEXT, name, by))


def test_every_metric_is_named() -> None:
    assert METRICS == (
        "nll at 0-15",
        "nll at 16-63",
        "context gain",
        "retrieval at 0-50%",
        "retrieval at 50-100%",
    )
    assert family_of(GOLDEN) == family_of(noisy_golden()) + len(METRICS)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_drift_in_either_direction_is_judged_by_the_noise(name: str, sign: int) -> None:
    allowed = rows_of(GOLDEN)[name].allowed
    assert allowed is not None
    assert 4 * SIZE < allowed < 20 * SIZE
    within, beyond = (judge(GOLDEN, drifted(name, sign * size)) for size in (SIZE, 40 * SIZE))
    assert within.outcome is Outcome.WITHIN_NOISE
    assert (beyond.outcome, beyond.tier) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)
    assert f"{name} drifted by {sign * 40 * SIZE:+.4g}" in beyond.reason


def test_equal_bits_are_identical_and_count_what_is_scored_beside() -> None:
    verdict = judge(GOLDEN, replace(GOLDEN, noise=None))
    assert verdict.outcome is Outcome.IDENTICAL
    assert verdict.bits is not None
    assert verdict.bits.num_tokens == tokens_of(GOLDEN).nll.size + CONTEXT.scores.nll.size


@pytest.mark.parametrize("kept", ["tokens", "blocks"])
def test_one_bit_of_what_is_scored_beside_is_unexplained(kept: str) -> None:
    golden = replace(GOLDEN, scores=block_sums(tokens_of(GOLDEN))) if kept == "blocks" else GOLDEN
    changed = replace(CONTEXT, scores=with_flipped_bit(CONTEXT.scores, "nll", 2, 0))
    verdict = judge(golden, replace(GOLDEN, context=changed, noise=None))
    assert verdict.outcome is Outcome.UNEXPLAINED_BITS
    assert verdict.bits is not None
    assert verdict.bits.num_changed == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_passes(value: float) -> None:
    assert not rows_of(drifted("context gain", value))["context gain"].within


@pytest.mark.parametrize("lacking", ["golden", "measured"])
def test_a_metric_that_one_side_lacks_never_passes(lacking: str) -> None:
    fewer = replace(GOLDEN, context=replace(CONTEXT, positions=CONTEXT.positions[:1]))
    golden, measured = (fewer, GOLDEN) if lacking == "golden" else (GOLDEN, fewer)
    rows = rows_of(measured, golden=golden)
    assert tuple(sorted(rows)) == tuple(sorted(METRICS))
    assert [name for name, row in rows.items() if not row.within] == ["nll at 16-63"]
    none = rows_of(replace(GOLDEN, context=None))
    assert not any(row.within for row in none.values())


def test_a_golden_without_noise_has_provisional_bounds() -> None:
    golden = long_golden(noisy=False)
    rows = rows_of(golden, golden=golden)
    assert {row.source for row in rows.values()} == {"provisional"}
    assert rows["context gain"].allowed == pytest.approx(0.01 * CONTEXT.gain.short_nll)
    assert rows["retrieval at 50-100%"].allowed == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("setting", "name"),
    [("position_nll", "nll at 16-63"), ("context_gain", "context gain"), ("retrieval_gain", "retrieval at 0-50%")],
)
def test_a_tolerance_widens_its_metrics_alone(setting: str, name: str) -> None:
    rows = rows_of(drifted(name, 0.5), Rules(tolerances={setting: 1.0}))
    assert (rows[name].allowed, rows[name].within) == (1.0, True)
    assert rows[name].source.startswith("[tool.esa.tolerances], measured was ")
    kind = name.split(" at ")[0]
    assert all(row.source == "measured" for other, row in rows.items() if not other.startswith(kind))
