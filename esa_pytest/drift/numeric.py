"""Tier 4: is the bf16 error what it was? The drift of every token, judged by the noise that the golden measured."""

import numpy as np
import numpy.typing as npt

from esa_pytest.drift.context import num_context_metrics
from esa_pytest.drift.instruments import (
    STATISTIC_NAMES,
    Reading,
    mean_and_error,
    read_distance,
    read_flips,
    read_kl,
    read_mean,
    read_tokens,
)
from esa_pytest.drift.noise_model import NoiseModel, why_unmeasured
from esa_pytest.drift.paired import LEAST_BLOCKS, Blocks, blocks_of
from esa_pytest.drift.positions import position_drifts, stratum_drifts
from esa_pytest.drift.predictive import Values, holm
from esa_pytest.drift.rules import Rules
from esa_pytest.evaluation.divergence import kl_lower_bound
from esa_pytest.golden.blocks import as_blocks
from esa_pytest.records import (
    CALIBRATION_NAMES,
    MEASURED,
    MEMORY,
    THROUGHPUT,
    BlockScores,
    PairedDrift,
    Record,
    Statistic,
    TokenScores,
)


def family_of(golden: Record) -> int:
    """How many statistics share the rate of false alarms: the instruments, tier 5's metrics but the loss, tier 6's."""
    calibration = 0 if golden.calibration is None else len(CALIBRATION_NAMES)
    resources = 0 if golden.resource_noise is None else len((THROUGHPUT, MEMORY))
    return len(STATISTIC_NAMES) + 1 + calibration + num_context_metrics(golden) + resources


def paired_drift(golden: Record, measured: Record, model: NoiseModel | None, rules: Rules) -> PairedDrift:
    """Read every instrument and say which of them noise does not explain.

    Args:
        golden: the accepted record.
        measured: this run's; both score the same tokens.
        model: the golden's noise.
        rules: how strictly.
    """
    refusal = why_unmeasured(golden.noise) or _why_unpaired(golden, measured)
    readings: list[Reading] = []
    if refusal is None and model is not None:
        readings = _readings(model, golden, measured)
    return PairedDrift(
        num_tokens=0 if golden.noise is None else int(golden.noise.nll.size),
        num_patterns=0 if golden.noise is None else golden.noise.distinct_bit_patterns,
        rate=rules.false_alarm_rate,
        statistics=_statistics(readings, rules, family=family_of(golden)),
        positions=position_drifts(golden.scores, measured.scores),
        strata=stratum_drifts(golden.scores, measured.scores, measured.strata),
        refusal=refusal,
    )


def _why_unpaired(golden: Record, measured: Record) -> str | None:
    assert golden.noise is not None  # noqa: S101  (asked before)
    blocks = blocks_of(golden.noise.window).number
    if blocks < LEAST_BLOCKS:
        tokens = golden.noise.nll.size
        return f"{tokens} tokens make {blocks} blocks, and below {LEAST_BLOCKS} no probability is worth its name"
    if not isinstance(measured.scores, TokenScores):
        return "only sums of blocks are known of this run"
    return None


def _readings(model: NoiseModel, golden: Record, measured: Record) -> list[Reading]:
    assert isinstance(measured.scores, TokenScores)  # noqa: S101  (asked before)
    chosen = np.isin(measured.scores.window, model.noise.windows)
    drift = measured.scores.nll[chosen].astype(np.float64) - model.noise.nll
    mean, error, num_blocks = _mean(golden, measured.scores)
    optional = [
        _flips(model, golden, measured.scores, chosen),
        _kl(model, golden, measured),
        _distance(model, measured),
    ]
    return [
        read_mean(model, mean, error, num_blocks=num_blocks),
        *read_tokens(model, drift, model.scale),
        *(reading for reading in optional if reading is not None),
    ]


def _mean(golden: Record, measured: TokenScores) -> tuple[Values, Values, int]:
    """The mean over all tokens, its error, and the number of blocks this comes from."""
    if isinstance(golden.scores, TokenScores):
        blocks = blocks_of(measured.window)
        drift = measured.nll.astype(np.float64) - golden.scores.nll
        return (*mean_and_error(drift, blocks), blocks.number)
    sums = as_blocks(measured).nll_sum - golden.scores.nll_sum
    blocks = _kept_blocks(golden.scores)
    return np.asarray(sums.sum() / blocks.sizes.sum()), blocks.error_of_mean(_evenly(sums, blocks)), blocks.number


def _kept_blocks(scores: BlockScores) -> Blocks:
    sizes = scores.num_tokens.astype(np.int64)
    return Blocks(starts=np.cumsum(sizes) - sizes, sizes=sizes)


def _evenly(sums: Values, blocks: Blocks) -> Values:
    """Each block's sum spread over its tokens, which leaves the sums as they are."""
    return np.repeat(sums / blocks.sizes, blocks.sizes)


def _flips(model: NoiseModel, golden: Record, measured: TokenScores, chosen: npt.NDArray[np.bool_]) -> Reading | None:
    if not isinstance(golden.scores, TokenScores):
        return None
    flipped = golden.scores.argmax[chosen] != measured.argmax[chosen]
    return read_flips(model, np.array(float(np.count_nonzero(flipped))))


def _kl(model: NoiseModel, golden: Record, measured: Record) -> Reading | None:
    if golden.top is None or measured.top is None:
        return None
    assert isinstance(measured.scores, TokenScores)  # noqa: S101  (asked before)
    bound = kl_lower_bound(golden.top, measured.top)
    if bound is None:
        return None
    # Other tokens have another mean; the noise knows that of its own.
    inside = np.isin(measured.scores.window[measured.top.token], model.noise.windows)
    return read_kl(model, np.array(bound[inside].mean())) if inside.any() else None


def _distance(model: NoiseModel, measured: Record) -> Reading | None:
    probe = measured.probe
    if probe is None or probe.rounded_nll is None:
        return None
    return read_distance(model, probe.rounded_nll - probe.nll)


def _statistics(readings: list[Reading], rules: Rules, *, family: int) -> tuple[Statistic, ...]:
    beyond = holm([float(reading.p_value) for reading in readings], rules.false_alarm_rate, family=family)
    found = []
    for reading, rejected in zip(readings, beyond, strict=True):
        value, measured = float(reading.value), reading.allowed(rules.false_alarm_rate / family)
        allowed, source = rules.widened(_SETTINGS.get(reading.name, reading.name), measured, MEASURED)
        found.append(
            Statistic(
                name=reading.name,
                unit=reading.unit,
                value=value,
                noise=reading.noise,
                allowed=allowed,
                p_value=float(reading.p_value),
                beyond=rejected and (source == MEASURED or abs(value) > allowed),
                source=source,
            )
        )
    return tuple(sorted(found, key=lambda statistic: statistic.p_value))


# What a user's tolerance of a statistic is called, where that is not its own name.
_SETTINGS = {"mean": "mean_nll"}
