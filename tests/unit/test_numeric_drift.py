"""Tier 4 as a whole: what noise explains passes, and what it does not is named."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esa_pytest.drift.instruments import STATISTIC_NAMES
from esa_pytest.drift.judge import judge
from esa_pytest.drift.noise_model import LEAST_VARIANTS, noise_model_of
from esa_pytest.drift.numeric import family_of, paired_drift
from esa_pytest.drift.paired import LEAST_BLOCKS, scale_of
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.golden.blocks import block_sums
from esa_pytest.records import CALIBRATION_NAMES, Noise, Outcome, Record, Statistic, Tier, Verdict
from tests.unit.builders import CALIBRATION, tokens_of
from tests.unit.noise_builders import SIZE, clean_run, noisy_drift, noisy_golden, noisy_top, run_of

Values = npt.NDArray[np.float64]
Change = Callable[[Values], Values]

GOLDEN = noisy_golden()
SCALE = scale_of(tokens_of(GOLDEN).nll)


def noise_of(golden: Record) -> Noise:
    assert golden.noise is not None
    return golden.noise


def drifted(change: Change = lambda drift: drift, *, flips: int = 20, size: float = SIZE) -> Record:
    generator = np.random.default_rng(77)
    return run_of(GOLDEN, change(noisy_drift(SCALE, generator)), flips=flips, top=noisy_top(generator, size=size))


def statistics_of(verdict: Verdict) -> dict[str, Statistic]:
    assert verdict.paired is not None
    assert verdict.paired.refusal is None
    return {statistic.name: statistic for statistic in verdict.paired.statistics}


@cache
def clean_verdict() -> Verdict:
    return judge(GOLDEN, drifted())


@pytest.mark.parametrize("run", [GOLDEN, drifted()], ids=["equal bits", "other bits"])
def test_the_noise_is_modelled_once_a_judgement(run: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Record] = []
    monkeypatch.setattr("esa_pytest.drift.judge.noise_model_of", lambda golden: built.append(golden))
    judge(GOLDEN, run)
    assert built == [GOLDEN]


def test_equal_bits_do_not_pay_for_the_fit_of_the_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esa_pytest.drift.noise_model.Tail", None)
    assert judge(GOLDEN, GOLDEN).outcome is Outcome.IDENTICAL


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_passes_by_tier_4(seed: int) -> None:
    verdict = judge(GOLDEN, clean_run(GOLDEN, seed))
    assert (verdict.outcome, verdict.tier) == (Outcome.WITHIN_NOISE, Tier.PAIRED)
    assert verdict.reason.endswith(
        "the float32 reference agrees (rounding changed, meaning did not), and the drift is what 13 harmless bit "
        "patterns show"
    )
    assert set(statistics_of(verdict)) == set(STATISTIC_NAMES)
    assert not any(statistic.beyond for statistic in statistics_of(verdict).values())
    assert [row.source for row in verdict.rows] == ["measured"] * 3
    assert [text.split()[0] for text in verdict.would_have_caught] == ["reference", "bf16", "bf16", "one"]


def test_statistics_stand_by_how_unusual_they_are() -> None:
    p_values = [statistic.p_value for statistic in statistics_of(clean_verdict()).values()]
    assert p_values == sorted(p_values)


def test_unjudged_places_are_those_of_every_token() -> None:
    paired = clean_verdict().paired
    assert paired is not None
    assert (paired.num_tokens, paired.num_patterns, paired.rate) == (2048, 13, 1e-4)
    assert sum(drift.num_tokens for drift in paired.positions) == 2048
    assert paired.beyond == ()


def one_token(amount: float) -> Change:
    return lambda drift: np.where(np.arange(drift.size) == 1500, drift + amount, drift)


def at_probe(drift: Values) -> Values:
    """Away from the reference, at as many tokens as it scores and no further than noise goes."""
    assert GOLDEN.probe is not None
    assert GOLDEN.probe.rounded_nll is not None
    away = GOLDEN.probe.rounded_nll - GOLDEN.probe.nll
    return np.concatenate([1.6 * away - away.mean() * 1.6, 0.7 * drift[away.size :]])


@pytest.mark.parametrize(
    ("measured", "name"),
    [
        (drifted(lambda drift: drift + 0.003), "mean"),
        (drifted(lambda drift: drift - 0.003), "mean"),
        (drifted(lambda drift: 2 * drift), "rms"),
        (drifted(one_token(1.55)), "maximum"),
        (drifted(one_token(-1.55)), "maximum"),
        (drifted(flips=200), "top1_flips"),
        (drifted(size=4 * SIZE), "kl_top"),
        (drifted(at_probe), "distance"),
    ],
)
def test_what_noise_does_not_explain_is_named(measured: Record, name: str) -> None:
    verdict = judge(GOLDEN, measured)
    assert (verdict.outcome, verdict.tier) == (Outcome.NUMERIC_DRIFT, Tier.PAIRED)
    assert statistics_of(verdict)[name].beyond
    told = statistics_of(verdict)[name]
    assert abs(told.value) > told.allowed
    assert verdict.paired is not None
    first = verdict.paired.beyond[0]
    assert f", and the drift's {STATISTIC_NAMES[first.name]} is {first.value:.3g} {first.unit}, allowed are " in (
        verdict.reason
    )
    assert verdict.reason.endswith(f"{first.allowed:.3g} by the noise of 13 bit patterns")
    assert verdict.would_have_caught == ()
    if name not in ("rms", "distance"):
        assert first.name == name


def test_tokens_out_of_line_are_counted() -> None:
    many = drifted(lambda drift: np.where(np.arange(drift.size) % 24 == 0, 14 * SIZE * SCALE, drift))
    assert statistics_of(judge(GOLDEN, many))["outlying"].beyond


@given(st.floats(-0.01, 0.01))
@settings(max_examples=25, deadline=None)
def test_mean_is_judged_alike_in_both_directions(shift: float) -> None:
    def of_mean(sign: int) -> Statistic:
        base = noisy_drift(SCALE, np.random.default_rng(5))
        run = run_of(GOLDEN, sign * (base - base.mean() + shift))
        return statistics_of(judge(GOLDEN, run))["mean"]

    there, back = of_mean(1), of_mean(-1)
    assert there.value == pytest.approx(-back.value, abs=1e-8)
    assert there.p_value == pytest.approx(back.p_value, rel=1e-2, abs=1e-9)


@pytest.mark.parametrize(("num_windows", "context", "blocks"), [(1, 992, 31), (31, 4, 31), (1, 40, 2)])
def test_few_blocks_give_no_probability(num_windows: int, context: int, blocks: int) -> None:
    golden = noisy_golden(num_windows=num_windows, context=context)
    verdict = judge(golden, clean_run(golden, 1))
    assert verdict.paired is not None
    assert verdict.paired.refusal == (
        f"{num_windows * context} tokens make {blocks} blocks, and below {LEAST_BLOCKS} no probability is worth its "
        f"name"
    )
    assert (verdict.paired.statistics, verdict.paired.beyond) == ((), ())
    assert verdict.tier is Tier.AGGREGATE


@pytest.mark.parametrize("moved", [0, 1, LEAST_VARIANTS - 1])
def test_few_variants_that_moved_are_refused(moved: int) -> None:
    noise = noise_of(GOLDEN)
    still = [
        replace(variant, drift=np.zeros_like(variant.drift), num_top1_flips=0) for variant in noise.variants[moved:]
    ]
    golden = replace(GOLDEN, noise=replace(noise, variants=(*noise.variants[:moved], *still)))
    verdict = judge(golden, clean_run(golden, 1))
    assert verdict.paired is not None
    assert verdict.paired.refusal == f"only {moved} harmless changes moved a bit when the golden was recorded"
    assert {row.source for row in verdict.rows} == {"provisional"}
    assert (verdict.outcome, verdict.tier) == (Outcome.WITHIN_NOISE, Tier.AGGREGATE)


def test_variants_that_moved_no_bit_change_no_judgement() -> None:
    noise = noise_of(GOLDEN)
    still = replace(noise.variants[0], drift=np.zeros_like(noise.variants[0].drift), num_top1_flips=0)
    more = replace(GOLDEN, noise=replace(noise, variants=(still, *noise.variants)))
    assert judge(more, drifted()) == clean_verdict()


def test_golden_without_its_noise_is_judged_provisionally() -> None:
    golden = replace(GOLDEN, noise=None)
    verdict = judge(golden, drifted())
    assert verdict.paired is not None
    assert verdict.paired.refusal == "the golden was recorded without its noise"
    assert (verdict.paired.num_tokens, verdict.paired.num_patterns) == (0, 0)
    assert {row.source for row in verdict.rows} == {"provisional"}
    assert verdict.would_have_caught == ("reference 5e-06 nats", "a loss shift of 0.1% (provisional)")


@pytest.mark.parametrize(("name", "tolerance"), [("rms", 1e-9), ("top1_flips", 1.0), ("mean_nll", 1e-9)])
def test_tolerance_below_what_was_measured_changes_nothing(name: str, tolerance: float) -> None:
    rules = Rules(tolerances={name: tolerance})
    assert judge(GOLDEN, drifted(), rules) == clean_verdict()
    bad = drifted(lambda drift: 3 * drift + 0.003, flips=200)
    assert judge(GOLDEN, bad, rules) == judge(GOLDEN, bad)


@pytest.mark.parametrize(
    ("measured", "name", "tolerances"),
    [
        (drifted(flips=200), "top1_flips", {"top1_flips": 200.0}),
        (drifted(lambda drift: drift + 0.001), "mean", {"mean_nll": 0.002}),
    ],
)
def test_larger_tolerance_passes_and_its_source_is_shown(
    measured: Record, name: str, tolerances: dict[str, float]
) -> None:
    assert judge(GOLDEN, measured).outcome is Outcome.NUMERIC_DRIFT
    verdict = judge(GOLDEN, measured, Rules(tolerances=tolerances))
    assert verdict.outcome is Outcome.WITHIN_NOISE
    found = statistics_of(verdict)[name]
    assert not found.beyond
    assert found.source.startswith("[tool.esa.tolerances], measured was ")
    assert found.allowed == next(iter(tolerances.values()))
    sources = {row.name: row.source for row in verdict.rows}
    for name, source in sources.items():
        assert source.startswith("[tool.esa.tolerances], ") == (name in tolerances)
    # What follows from the loss follows from what a user allows it.
    assert (sources["perplexity"] == "[tool.esa.tolerances] of the loss") == ("mean_nll" in tolerances)


@given(st.floats(1e-12, 1e-1), st.floats(1e-12, 1e-1))
@settings(max_examples=30, deadline=None)
def test_lower_rate_widens_every_bound(one: float, other: float) -> None:
    low, high = sorted((one, other))
    strict, lenient = (judge(GOLDEN, drifted(), Rules(false_alarm_rate=rate)) for rate in (high, low))
    for name, statistic in statistics_of(strict).items():
        wider = statistics_of(lenient)[name]
        assert wider.allowed >= statistic.allowed
        assert (wider.value, wider.p_value, wider.noise) == (statistic.value, statistic.p_value, statistic.noise)
        assert statistic.beyond or not wider.beyond
    for narrow, wide in zip(strict.rows, lenient.rows, strict=True):
        assert narrow.allowed is not None
        assert wide.allowed is not None
        assert wide.allowed >= narrow.allowed
    for name, size in strict.detectable.items():
        assert lenient.detectable[name] >= size


def test_golden_of_blocks_is_judged_by_their_sums() -> None:
    golden = replace(GOLDEN, scores=block_sums(tokens_of(GOLDEN)))
    found = statistics_of(judge(golden, drifted()))
    assert set(found) == set(STATISTIC_NAMES) - {"top1_flips"}
    # In windows of whole blocks they are those of tokens.
    whole = statistics_of(clean_verdict())
    for name, statistic in found.items():
        assert statistic.value == pytest.approx(whole[name].value, rel=1e-6, abs=1e-12)
        assert statistic.p_value == pytest.approx(whole[name].p_value, rel=1e-6)
    worse = judge(golden, drifted(lambda drift: drift + 0.003))
    assert (worse.outcome, worse.paired is not None and worse.paired.beyond[0].name) == (Outcome.NUMERIC_DRIFT, "mean")
    assert worse.paired is not None
    assert worse.paired.positions == ()


def test_run_known_by_blocks_alone_is_refused() -> None:
    measured = replace(drifted(), scores=block_sums(tokens_of(drifted())))
    found = paired_drift(GOLDEN, measured, noise_model_of(GOLDEN), DEFAULT_RULES)
    assert found.refusal == "only sums of blocks are known of this run"


def test_unexplained_bits_show_how_far_they_are_from_noise() -> None:
    verdict = judge(GOLDEN, clean_run(GOLDEN, 3, elsewhere=False))
    assert (verdict.outcome, verdict.tier) == (Outcome.UNEXPLAINED_BITS, Tier.EXACT)
    assert not any(statistic.beyond for statistic in statistics_of(verdict).values())


def test_equal_bits_are_not_paired() -> None:
    verdict = judge(GOLDEN, run_of(GOLDEN, np.zeros(2048), flips=0))
    assert (verdict.outcome, verdict.paired) == (Outcome.IDENTICAL, None)
    assert verdict.would_have_caught[:2] == ("any changed bit", "reference 5e-06 nats")
    assert set(verdict.detectable) == {"reference", "mean"}


def test_family_counts_the_metrics_that_are_judged_beside() -> None:
    assert family_of(GOLDEN) == len(STATISTIC_NAMES) + 1
    golden = noisy_golden(calibrated=True)
    assert family_of(golden) == len(STATISTIC_NAMES) + 1 + len(CALIBRATION_NAMES)
    verdict = judge(golden, replace(clean_run(golden, 1), calibration=replace(CALIBRATION, ece=CALIBRATION.ece + 0.01)))
    assert (verdict.outcome, verdict.tier) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)
    assert ", and ece drifted by +0.01, allowed is 0.00" in verdict.reason


@pytest.mark.parametrize("compensated", [False, True], ids=["one stratum", "another against it"])
def test_a_stratum_that_moved_is_found_and_named(*, compensated: bool) -> None:
    """Also where the loss of the whole is what it was."""
    first = np.arange(SCALE.size) % 1024 < 128
    other = (np.arange(SCALE.size) % 1024 >= 512) & compensated
    measured = drifted(lambda drift: drift + 0.05 * first - 0.05 * 128 / 512 * other)
    stratum = (~first).astype(np.int32)
    measured = replace(measured, scores=replace(tokens_of(measured), stratum=stratum))
    verdict = judge(GOLDEN, measured)
    assert verdict.outcome is Outcome.NUMERIC_DRIFT
    assert verdict.bits is not None
    assert (abs(verdict.bits.mean) < 1e-3) is compensated
    assert verdict.paired is not None
    prose, code = verdict.paired.strata
    assert prose.label == "prose"
    assert prose.mean == pytest.approx(0.05, abs=5e-3)
    assert abs(code.mean) < 0.01
