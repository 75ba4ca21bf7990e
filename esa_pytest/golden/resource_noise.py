"""How throughput and memory of an unchanged model repeat themselves, measured when a golden is recorded."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.noise_sample import MOST_TOKENS
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.golden.assembly import resources_of
from esa_pytest.records import IntArray, ResourceNoise, ResourceRound, peak_over_start

# With the recorded one. At a rate of 1e-5 a side Student's quantile is 12.0 with the six degrees of freedom of seven
# rounds, and 6.8 with twelve: what may pass unseen is half as large.
NUM_ROUNDS = 13


def measure_resource_noise(
    model: LoadedModel,
    baseline: Baseline,
    first: Round,
    recorded: Mapping[str, float | int | str | None],
) -> ResourceNoise:
    """Repeat a run; of a long one two batches of each context length, and nothing that is scored beside, untimed.

    A part of a run has another efficiency than the whole: what is kept of it is its spread, about the recorded round.
    Where that one cannot be believed, there is nothing to lie about, and none of them is.

    Args:
        model: the loaded model.
        baseline: what was evaluated.
        first: the recorded round.
        recorded: its resources.
    """
    prepared = first.prepared
    few = _few_windows(prepared)
    part = prepared.context is not None or (prepared.num_scored > MOST_TOKENS and few.size < prepared.num_windows)
    prepared = replace(prepared.only(few), context=None) if part else prepared
    repeats = []
    for number in range(2, NUM_ROUNDS + 1):
        done = evaluate(
            model,
            prepared,
            seed=baseline.type.seeds[0],
            description=f"{baseline.id}, resources {number} of {NUM_ROUNDS}",
            probabilities=baseline.type.calibration,
        )
        repeats.append(round_of(resources_of(model, [done])))
    begin = round_of(recorded)
    return ResourceNoise(rounds=(begin, *(about(begin, repeats) if part else repeats)), part=part)


def round_of(resources: Mapping[str, float | int | str | None]) -> ResourceRound:
    """What tier 6 compares of a run's resources."""
    efficiency, disturbance = resources.get("efficiency"), resources.get("disturbance")
    return ResourceRound(
        efficiency=efficiency if isinstance(efficiency, float) else None,
        peak_bytes=peak_over_start(resources),
        disturbance=None if disturbance is None else str(disturbance),
    )


def _few_windows(prepared: Prepared) -> IntArray:
    """The first windows of each context length, enough for two of its batches, and the reference probe's."""
    chosen = {prepared.probe_window}
    begin = 0
    for rectangle in prepared.rectangles:
        size = len(next(rectangle.batches(prepared.batch_tokens)).input_ids)
        chosen.update(range(begin, begin + min(2 * size, len(rectangle.input_ids))))
        begin += len(rectangle.input_ids)
    return np.array(sorted(chosen), dtype=np.int32)


def about(begin: ResourceRound, repeats: Sequence[ResourceRound]) -> list[ResourceRound]:
    """Repeats of a part, moved so that those that can be believed lie about the whole."""
    if begin.disturbance is not None:
        repeats = [replace(done, disturbance=begin.disturbance) for done in repeats]
    efficiencies = [done.efficiency for done in repeats if done.efficiency is not None and done.disturbance is None]
    peaks = [done.peak_bytes for done in repeats if done.peak_bytes is not None]
    factor = begin.efficiency / statistics.fmean(efficiencies) if begin.efficiency and efficiencies else None
    more = begin.peak_bytes - statistics.fmean(peaks) if begin.peak_bytes is not None and peaks else None
    return [
        replace(
            done,
            efficiency=None if factor is None or done.efficiency is None else done.efficiency * factor,
            peak_bytes=None if more is None or done.peak_bytes is None else max(0, round(done.peak_bytes + more)),
        )
        for done in repeats
    ]
