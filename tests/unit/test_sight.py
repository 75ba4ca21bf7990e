"""What a check says that it would have caught, it catches; and what is much smaller it does not claim."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.instruments import mean_and_error, read_mean, read_tokens
from esa_pytest.drift.judge import judge
from esa_pytest.drift.noise_model import NoiseModel, noise_model_of
from esa_pytest.drift.reference import reference_drift
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.drift.sight import (
    detectable,
    detectable_mean,
    detectable_reference,
    detectable_rms,
    detectable_token,
    spoken,
)
from esa_pytest.records import Outcome, Record
from tests.unit.builders import small_record
from tests.unit.noise_builders import NUM_VARIANTS, noisy_drift, noisy_golden, run_of
from tests.unit.probe_builders import NOISE, PROBE, moved, probed

Values = npt.NDArray[np.float64]
Effect = Callable[[Values, np.random.Generator, tuple[int, int]], Values]

NUM_CALIBRATIONS, NUM_RUNS = 4, 250
RATES = (1e-4 / 8, 1e-2 / 8)
FOUND, RARELY = 0.97, 0.5
QUARTER = 0.25
GOLDEN = noisy_golden()


@cache
def model_of(calibration: int) -> NoiseModel:
    golden = noisy_golden(seed=2 * calibration + 1)
    assert golden.noise is not None
    return NoiseModel(golden.noise, golden.probe)


def told(golden: Record, rules: Rules, *, in_full: bool = True) -> dict[str, float]:
    return detectable(golden, noise_model_of(golden), rules, in_full=in_full)


def as_a_mean(_scale: Values, generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    return np.broadcast_to(generator.choice([-1.0, 1.0], (shape[0], 1)), shape)


def normal(_scale: Values, generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    return generator.standard_normal(shape)


def scaled(scale: Values, generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    return generator.standard_normal(shape) * scale


def heavy(scale: Values, generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    return generator.standard_t(4, shape) * scale


def signs(_scale: Values, generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    return generator.choice([-1.0, 1.0], shape)


def at_any(_scale: Values, generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    return one_each(generator.integers(shape[1], size=shape[0]), generator, shape)


def at_the_largest_scale(scale: Values, generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    return one_each(np.full(shape[0], scale.argmax()), generator, shape)


def one_each(place: npt.NDArray[np.int64], generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    effect = np.zeros(shape)
    effect[np.arange(shape[0]), place] = generator.choice([-1.0, 1.0], shape[0])
    return effect


def share_found(instrument: str, effect: Effect, rate: float, part: float) -> float:
    """In how many runs the instrument alone finds such an effect, of the size told or a part of it."""
    sizes = {"mean": detectable_mean, "rms": detectable_rms, "maximum": detectable_token}
    found = []
    for calibration in range(NUM_CALIBRATIONS):
        model, generator = model_of(calibration), np.random.default_rng(900 + calibration)
        drift = noisy_drift(model.scale, generator, runs=NUM_RUNS)
        added = effect(model.scale, generator, (NUM_RUNS, model.num_tokens))
        if instrument == "rms":
            added = added / np.sqrt(np.mean(added**2, axis=1, keepdims=True))
        drift = drift + part * sizes[instrument](model, rate) * added
        mean, error = mean_and_error(drift, model.blocks)
        readings = {
            reading.name: reading
            for reading in (
                read_mean(model, mean, error, num_blocks=model.blocks.number),
                *read_tokens(model, drift, model.scale),
            )
        }
        found.append(readings[instrument].p_value <= rate)
    return float(np.mean(found))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("instrument", "effect"),
    [
        ("mean", as_a_mean),
        ("rms", normal),
        ("rms", scaled),
        ("rms", heavy),
        ("rms", signs),
        ("maximum", at_any),
        ("maximum", at_the_largest_scale),
    ],
)
def test_effect_of_the_size_told_is_found_and_a_quarter_rarely(instrument: str, effect: Effect, rate: float) -> None:
    assert share_found(instrument, effect, rate, 1.0) >= FOUND
    assert share_found(instrument, effect, rate, QUARTER) < RARELY


@given(st.floats(0, 1e-3), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_drift_of_the_reference_of_the_size_told_is_always_found(rms: float, part: float, seed: int) -> None:
    noise = replace(NOISE, rms=rms, maximum=1.0)
    generator = np.random.default_rng(seed)
    harmless, effect = generator.standard_normal((2, PROBE.nll.size))
    harmless *= part * rms / np.sqrt(np.mean(harmless**2))
    effect *= detectable_reference(noise, DEFAULT_RULES) / np.sqrt(np.mean(effect**2))
    golden = probed(small_record(), PROBE, noise)
    found = reference_drift(golden, probed(golden, moved(1.001 * effect + harmless)))
    less = reference_drift(golden, probed(golden, moved(QUARTER * effect + harmless)))
    assert found is not None
    assert less is not None
    assert not found.within
    assert less.within


def test_run_with_a_shift_of_the_size_told_fails_as_a_whole() -> None:
    size = told(GOLDEN, DEFAULT_RULES)["mean"]
    model = NoiseModel(GOLDEN.noise, GOLDEN.probe) if GOLDEN.noise is not None else model_of(0)
    generator = np.random.default_rng(3)
    for sign in (1, -1):
        drift = noisy_drift(model.scale, generator)
        assert judge(GOLDEN, run_of(GOLDEN, drift + sign * size)).outcome is Outcome.NUMERIC_DRIFT
        assert judge(GOLDEN, run_of(GOLDEN, drift + QUARTER * sign * size)).outcome is Outcome.WITHIN_NOISE


def test_what_a_user_allows_is_not_claimed_to_be_found() -> None:
    rules = Rules(tolerances={"mean_nll": 0.5, "rms": 0.25, "reference_rms": 1.0})
    found, plain = (told(GOLDEN, each) for each in (rules, DEFAULT_RULES))
    assert found["mean"] > 0.5
    assert found["rms"] > 0.25
    assert found["reference"] > 1.0
    assert found["maximum"] == plain["maximum"]
    narrower = Rules(tolerances={"mean_nll": 1e-9, "rms": 1e-9, "reference_rms": 1e-12})
    assert told(GOLDEN, narrower) == plain
    unmeasured = replace(GOLDEN, noise=None, probe_noise=None)
    assert GOLDEN.metrics is not None
    assert told(unmeasured, rules)["provisional"] == 0.5 / GOLDEN.metrics.mean_nll
    assert told(unmeasured, DEFAULT_RULES) == {"provisional": 1e-3}


@pytest.mark.parametrize("seed", range(3))
def test_equal_bits_are_told_of_instruments_that_cost_nothing(seed: int) -> None:
    golden = noisy_golden(seed=seed)
    assert set(told(golden, DEFAULT_RULES, in_full=False)) == {"reference", "mean"}
    assert set(told(golden, DEFAULT_RULES)) == {"reference", "mean", "rms", "maximum"}


def with_few_tokens_moved(number: int) -> Record:
    """The golden, a number of its harmless changes having moved five tokens."""
    assert GOLDEN.noise is not None
    sparse = [
        replace(variant, drift=np.where(np.arange(variant.drift.size) < 5, variant.drift, 0).astype(np.float16))
        for variant in GOLDEN.noise.variants[:number]
    ]
    return replace(GOLDEN, noise=replace(GOLDEN.noise, variants=(*sparse, *GOLDEN.noise.variants[number:])))


@pytest.mark.filterwarnings("error")
def test_harmless_changes_that_moved_few_tokens_take_nothing_from_an_effect() -> None:
    plain, one = (told(golden, DEFAULT_RULES)["rms"] for golden in (GOLDEN, with_few_tokens_moved(1)))
    assert plain < one < 2 * plain
    half = told(with_few_tokens_moved(NUM_VARIANTS // 2), DEFAULT_RULES)
    assert all(np.isfinite(size) for size in half.values())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [NUM_VARIANTS // 2 + 1, NUM_VARIANTS])
def test_noise_of_which_most_moved_few_tokens_judges_nothing(number: int) -> None:
    golden = with_few_tokens_moved(number)
    assert set(told(golden, DEFAULT_RULES)) == {"reference", "provisional"}
    paired = judge(golden, run_of(golden, noisy_drift(model_of(0).scale, np.random.default_rng(3)))).paired
    assert paired is not None
    assert paired.refusal == ("most harmless changes moved fewer than 1% of the tokens when the golden was recorded")


def test_sizes_are_told_in_words() -> None:
    assert spoken({"reference": 5e-6, "mean": 7.7e-4, "rms": 0.0041, "maximum": 1.3, "provisional": 1e-3}) == (
        "reference 5e-06 nats",
        "bf16 mean 0.00077 nats",
        "bf16 rms 0.0041",
        "one token 1.3",
        "a loss shift of 0.1% (provisional)",
    )
    assert spoken({}) == ()


@given(st.sampled_from(["reference", "mean", "rms", "maximum"]), st.floats(1e-12, 1e3))
def test_size_is_never_told_smaller_than_it_is(name: str, size: float) -> None:
    (text,) = spoken({name: size})
    told = next(float(word) for word in text.split() if word[0].isdigit())
    assert size * (1 - 1e-8) <= told <= size * (2 if name == "reference" else 1.1) * (1 + 1e-8)


@pytest.mark.parametrize("size", [0.0, 5e-324, 1e308, float("inf")])
def test_size_of_nothing_and_of_anything_is_told(size: float) -> None:
    assert spoken({"mean": size}) == (f"bf16 mean {size:.2g} nats",)
