"""Statistics of a paired drift: blocks, errors, sizes, and the token that stands out."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats.mstats import winsorize

from esa_pytest.drift.instruments import mean_and_error, read_mean, read_tokens
from esa_pytest.drift.noise_model import NoiseModel
from esa_pytest.drift.paired import (
    LEAST_BLOCKS,
    WINSORISED,
    blocks_of,
    num_outlying,
    scale_of,
    shape_of,
    winsorised_rms,
)
from tests.unit.noise_builders import noisy_drift, noisy_golden

Values = npt.NDArray[np.float64]

lengths = st.lists(st.integers(1, 700), min_size=1, max_size=8)
seeds = st.integers(0, 2**32 - 1)


def windows_of(sizes: list[int]) -> npt.NDArray[np.int32]:
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def drift_of(shape: tuple[int, ...], seed: int) -> Values:
    return np.random.default_rng(seed).standard_t(4, shape)


@given(lengths)
def test_blocks_cover_every_token_once_and_never_span_windows(sizes: list[int]) -> None:
    window = windows_of(sizes)
    blocks = blocks_of(window)
    assert int(blocks.sizes.sum()) == window.size
    assert blocks.starts[0] == 0
    np.testing.assert_array_equal(blocks.starts[1:], np.cumsum(blocks.sizes)[:-1])
    assert blocks.number == len(blocks.starts) == len(blocks.sizes)
    for start, size in zip(blocks.starts, blocks.sizes, strict=True):
        assert len(set(window[start : start + size].tolist())) == 1


@given(lengths)
def test_blocks_are_of_64_tokens_or_of_32_where_these_are_too_few(sizes: list[int]) -> None:
    blocks = blocks_of(windows_of(sizes))
    large = sum(math.ceil(size / 64) for size in sizes)
    size = 64 if large >= LEAST_BLOCKS else 32
    assert blocks.number == sum(math.ceil(length / size) for length in sizes)
    assert blocks.sizes.max() <= size


@pytest.mark.parametrize(("tokens", "size", "number"), [(2048, 64, 32), (1984, 32, 62), (1024, 32, 32), (992, 32, 31)])
def test_fewer_than_32_blocks_are_made_smaller(tokens: int, size: int, number: int) -> None:
    blocks = blocks_of(windows_of([tokens]))
    assert (blocks.sizes.tolist(), blocks.number) == ([size] * number, number)


def test_windows_may_have_any_numbers() -> None:
    window = np.repeat(np.array([7, 3, 2_000_000_000, 0], dtype=np.int32), [100, 64, 65, 1])
    assert blocks_of(window).sizes.tolist() == [32, 32, 32, 4, 32, 32, 32, 32, 1, 1]


@given(lengths, seeds)
def test_error_of_the_mean_is_that_of_a_loop(sizes: list[int], seed: int) -> None:
    window = windows_of(sizes)
    values, blocks = drift_of(window.shape, seed), blocks_of(window)
    mean, squares = values.sum() / values.size, 0.0
    for start, size in zip(blocks.starts.tolist(), blocks.sizes.tolist(), strict=True):
        squares += sum(values[start + index] - mean for index in range(size)) ** 2
    number = blocks.number
    expected = math.sqrt(squares * number / max(1, number - 1)) / values.size
    found = mean_and_error(values, blocks)
    assert float(found[0]) == pytest.approx(mean)
    assert float(found[1]) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_error_of_equal_blocks_is_the_usual_one() -> None:
    values, blocks = drift_of((4096,), 3), blocks_of(windows_of([4096]))
    means = values.reshape(64, 64).mean(axis=1)
    assert float(blocks.error_of_mean(values)) == pytest.approx(means.std(ddof=1) / 8)


def test_neighbours_that_resemble_make_the_error_larger() -> None:
    blocks = blocks_of(windows_of([4096]))
    alone = drift_of((4096,), 3)
    together = np.repeat(alone[:256], 16)
    assert float(blocks.error_of_mean(together)) > 3 * together.std() / 64
    assert float(blocks.error_of_mean(alone)) == pytest.approx(alone.std() / 64, rel=0.4)


def direct_rms(values: Values) -> float:
    absolute = sorted(abs(value) for value in values.tolist())
    limit = absolute[math.ceil((1 - WINSORISED) * len(absolute)) - 1]
    return math.sqrt(sum(min(value, limit) ** 2 for value in absolute) / len(absolute))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=400))
def test_winsorised_rms_is_that_of_a_sorted_list(values: list[float]) -> None:
    assert float(winsorised_rms(np.array(values))) == pytest.approx(direct_rms(np.array(values)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [100, 200, 1000, 2048])
def test_winsorised_rms_is_that_of_scipy(size: int) -> None:
    values = drift_of((size,), size)
    lowered = np.asarray(winsorize(np.abs(values), limits=(0, WINSORISED)))
    assert float(winsorised_rms(values)) == pytest.approx(math.sqrt(np.mean(lowered**2)), rel=1e-12)


def test_one_token_does_not_move_the_winsorised_rms() -> None:
    values = drift_of((2048,), 1)
    before = float(winsorised_rms(values))
    values[77] = 1e6
    assert float(winsorised_rms(values)) == pytest.approx(before, rel=0.01)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 300), seeds)
def test_many_runs_at_once_are_each_as_alone(outer: int, inner: int, tokens: int, seed: int) -> None:
    values = drift_of((outer, inner, tokens), seed)
    blocks, scale = blocks_of(windows_of([tokens])), 0.02 + np.random.default_rng(seed).random(tokens)
    shape = shape_of(values, scale, usual=0.7)
    counts = num_outlying(values, scale, shape.scaled_rms, 2.0)
    mean, error = mean_and_error(values, blocks)
    for place in np.ndindex(outer, inner):
        alone = shape_of(values[place], scale, usual=0.7)
        for field, many in vars(shape).items():
            assert many.shape == (outer, inner)
            assert many[place] == pytest.approx(getattr(alone, field), rel=1e-12)
        assert counts[place] == num_outlying(values[place], scale, alone.scaled_rms, 2.0)
        one_mean, one_error = mean_and_error(values[place], blocks)
        assert (mean[place], error[place]) == pytest.approx((float(one_mean), float(one_error)), rel=1e-9, abs=1e-15)


def test_readings_of_many_runs_are_each_as_alone() -> None:
    golden = noisy_golden()
    assert golden.noise is not None
    model = NoiseModel(golden.noise, golden.probe)
    runs = noisy_drift(model.scale, np.random.default_rng(4), runs=5)
    runs[3, 40] += 1.5

    def read(drift: Values) -> list[Any]:
        mean, error = mean_and_error(drift, model.blocks)
        of_mean = read_mean(model, mean, error, num_blocks=model.blocks.number)
        return [of_mean, *read_tokens(model, drift, model.scale)]

    together = read(runs)
    for index, drift in enumerate(runs):
        for many, one in zip(together, read(drift), strict=True):
            assert many.name == one.name
            assert float(many.value[index]) == pytest.approx(float(one.value), rel=1e-12, abs=1e-15)
            assert float(many.p_value[index]) == pytest.approx(float(one.p_value), rel=1e-9, abs=1e-15)


@given(seeds, st.floats(0.1, 10))
def test_usual_size_is_the_floor_of_what_a_token_is_measured_by(seed: int, usual: float) -> None:
    values, scale = drift_of((200,), seed), np.ones(200)
    own = float(winsorised_rms(values))
    found = shape_of(values, scale, usual=usual)
    assert float(found.scaled_rms) == max(own, usual)
    assert float(found.studentised) == pytest.approx(np.abs(values).max() / max(own, usual))
    assert int(found.where) == int(np.abs(values).argmax())
    # What leaves most tokens alone is not the worse for it.
    sparse = np.where(np.arange(200) == 5, values, 0.0)
    assert float(shape_of(sparse, scale, usual=usual).studentised) == pytest.approx(abs(values[5]) / usual)


def test_drift_of_nothing_has_no_size() -> None:
    found = shape_of(np.zeros(64), np.ones(64))
    assert (float(found.rms), float(found.scaled_rms), float(found.studentised)) == (0.0, 0.0, 0.0)


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=9))
def test_scale_is_how_far_a_token_is_from_certain(nll: list[float]) -> None:
    found = scale_of(np.array(nll, dtype=np.float32))
    np.testing.assert_allclose(found, 1.02 - np.exp(-np.array(nll)), rtol=1e-6)
    assert (found >= 0.02).all()


@pytest.mark.parametrize("token", [0, 511, 1023, 2047])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_token_is_found_where_the_mean_sees_nothing(token: int, sign: int) -> None:
    golden = noisy_golden()
    assert golden.noise is not None
    model = NoiseModel(golden.noise, golden.probe)
    drift = noisy_drift(model.scale, np.random.default_rng(8))
    drift[token] += sign * 1.55
    mean, error = mean_and_error(drift, model.blocks)
    assert abs(float(mean / error)) < 3
    readings = {reading.name: reading for reading in read_tokens(model, drift, model.scale)}
    assert float(readings["maximum"].p_value) < 1e-4 / 8
    assert float(readings["rms"].p_value) > 1e-2
    assert float(readings["maximum"].value) == pytest.approx(abs(drift[token]), rel=1e-9)
    assert float(read_mean(model, mean, error, num_blocks=model.blocks.number).p_value) > 1e-2
