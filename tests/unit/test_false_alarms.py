"""The honesty of tier 4: a check fails no more often than it states where nothing is wrong.

Many goldens are calibrated, each on a dozen variants. The runs that each then judges are resampled from blocks of
variants that it has not seen.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from esa_pytest.drift.instruments import Reading, mean_and_error, read_distance, read_flips, read_mean, read_tokens
from esa_pytest.drift.noise_model import NoiseModel
from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.paired import LEAST_BLOCKS
from esa_pytest.drift.predictive import holm
from esa_pytest.records import Record
from tests.unit.noise_builders import MEAN_FLIPS, noisy_drift, noisy_golden

Values = npt.NDArray[np.float64]

RATE = 1e-2
# Of what is stated, beside what 20,000 draws of 20 calibrations can tell.
MARGIN = 1.3
NUM_DRAWS, NUM_CALIBRATIONS, CHUNK = 20_000, 20, 250
NUM_HELD_OUT = 24
BLOCK = 64


def readings_of(
    golden: Record, model: NoiseModel, held_out: Values, generator: np.random.Generator, *, draws: int
) -> list[Reading]:
    """Every instrument's reading of runs that are made of blocks of one held-out variant each."""
    blocks = held_out.reshape(len(held_out), -1, BLOCK)
    scales = model.scale.reshape(-1, BLOCK)
    variant = generator.integers(len(blocks), size=(draws, 1))
    place = generator.integers(len(scales), size=(draws, len(scales)))
    drift, scale = blocks[variant, place].reshape(draws, -1), scales[place].reshape(draws, -1)
    mean, error = mean_and_error(drift, model.blocks)
    probe = golden.probe
    assert probe is not None
    assert probe.rounded_nll is not None
    size = probe.nll.size
    # The reference scores tokens of its own, whose rounding in the golden no run resamples.
    own = drift[:, :size] / scale[:, :size] * model.scale[:size]
    distance = read_distance(model, probe.rounded_nll - probe.nll + own)
    assert distance is not None
    return [
        read_mean(model, mean, error, num_blocks=model.blocks.number),
        *read_tokens(model, drift, scale),
        read_flips(model, generator.poisson(MEAN_FLIPS, draws).astype(np.float64)),
        distance,
    ]


def p_values_of(calibration: int, *, shift: float, draws: int) -> tuple[Values, int]:
    """Those of clean runs under one golden, shape (instruments, draws), and the family that they share a rate in."""
    golden = noisy_golden(seed=2 * calibration + 1)
    generator = np.random.default_rng(500 + calibration)
    assert golden.noise is not None
    # A harmless change has a mean of its own, in any direction.
    variants = tuple(
        replace(variant, drift=(variant.drift + shift * generator.standard_normal()).astype(np.float16))
        for variant in golden.noise.variants
    )
    model = NoiseModel(replace(golden.noise, variants=variants), golden.probe)
    assert model.blocks.number == LEAST_BLOCKS
    held_out = noisy_drift(model.scale, generator, runs=NUM_HELD_OUT)
    held_out += shift * generator.standard_normal((NUM_HELD_OUT, 1))
    chunks = [
        np.stack([reading.p_value for reading in readings_of(golden, model, held_out, generator, draws=CHUNK)])
        for _ in range(draws // CHUNK)
    ]
    return np.concatenate(chunks, axis=1), family_of(golden)


@pytest.mark.parametrize("shift", [0.0, 3e-4], ids=["same mean", "means of their own"])
def test_clean_runs_fail_no_more_often_than_stated(shift: float) -> None:
    rejected = 0
    for calibration in range(NUM_CALIBRATIONS):
        p_values, family = p_values_of(calibration, shift=shift, draws=NUM_DRAWS // NUM_CALIBRATIONS)
        # Holm rejects any at all where the least is below its share.
        rejected += int(np.count_nonzero(p_values.min(axis=0) <= RATE / family))
    assert rejected / NUM_DRAWS <= MARGIN * RATE
    # Nor does it hide behind never failing.
    assert rejected / NUM_DRAWS >= RATE / 50


def test_least_probability_below_its_share_is_what_holm_rejects() -> None:
    p_values, family = p_values_of(0, shift=0.0, draws=CHUNK)
    for each in p_values.T * 0.1:
        assert any(holm(each.tolist(), RATE, family=family)) == bool(each.min() <= RATE / family)
