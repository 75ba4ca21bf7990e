"""Tier 4 of a long run, of which noise was measured on some windows alone."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from esa_pytest.drift.judge import judge
from esa_pytest.drift.paired import scale_of
from esa_pytest.records import Outcome, Record, Statistic, Tier, Verdict
from tests.unit.builders import tokens_of
from tests.unit.noise_builders import clean_run, noisy_drift, noisy_golden, run_of

WINDOWS = np.array([0, 2], dtype=np.int32)


def part_of(golden: Record) -> Record:
    """The golden as if its noise had been measured on these windows alone."""
    assert golden.noise is not None
    noise, chosen = golden.noise, np.isin(golden.noise.window, WINDOWS)
    part = replace(
        noise,
        windows=WINDOWS,
        nll=noise.nll[chosen],
        position=noise.position[chosen],
        window=noise.window[chosen],
        variants=tuple(replace(variant, drift=variant.drift[chosen]) for variant in noise.variants),
    )
    return replace(golden, noise=part)


def statistics_of(verdict: Verdict) -> dict[str, Statistic]:
    assert verdict.paired is not None
    assert verdict.paired.refusal is None
    return {statistic.name: statistic for statistic in verdict.paired.statistics}


def test_noise_of_some_windows_judges_their_tokens_and_the_mean_of_all() -> None:
    golden = noisy_golden(num_windows=4)
    scores, part = tokens_of(golden), part_of(golden)
    drift = noisy_drift(scale_of(scores.nll), np.random.default_rng(2))
    found = statistics_of(judge(part, run_of(golden, drift)))
    assert found["mean"].value == pytest.approx(drift.mean(), rel=1e-4)
    outside = drift + np.where(scores.window == 1, 0.5, 0.0)
    verdict = judge(part, run_of(golden, outside))
    moved = statistics_of(verdict)
    assert moved["mean"].value == pytest.approx(outside.mean(), rel=1e-4)
    assert moved["rms"] == found["rms"]
    # A single window is an error of the mean as well as a shift; the loss is judged as a whole.
    assert moved["mean"].p_value < 1e-4
    assert (verdict.outcome, verdict.tier) == (Outcome.METRIC_DRIFT, Tier.AGGREGATE)


def test_divergence_is_that_of_the_tokens_whose_noise_is_known() -> None:
    golden = noisy_golden(num_windows=4)
    top = golden.top
    assert top is not None
    token = np.arange(0, 4096, 64, dtype=np.int32)
    golden = replace(part_of(golden), top=replace(top, token=token))
    run = clean_run(golden, 1)
    inside = np.isin(token // 1024, WINDOWS)

    def kl_of(logs: "npt.NDArray[np.float32]") -> Statistic:
        other = replace(top, token=token, log_probability=logs)
        return statistics_of(judge(golden, replace(run, top=other)))["kl_top"]

    logs = top.log_probability
    far = (logs - np.float32(0.2)).astype(np.float32)
    assert kl_of(np.where(inside[:, None], logs, far)).value == 0.0
    assert kl_of(np.where(inside[:, None], far, logs)).value == kl_of(far).value > 0.0
    assert kl_of(far).beyond
    outside = replace(top, token=np.arange(1024, 1088, dtype=np.int32))
    verdict = judge(replace(golden, top=outside), replace(run, top=outside))
    assert "kl_top" not in statistics_of(verdict)
