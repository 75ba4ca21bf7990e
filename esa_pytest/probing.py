"""What completes a measurement where it is needed: the float32 reference, and what a golden knows of its noise."""

import time
from dataclasses import replace

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.probe_noise import measure_probe_noise
from esa_pytest.evaluation.reference import probe, why_unsuited
from esa_pytest.golden.bit_stability import measure_bit_stability
from esa_pytest.measurement import Measurement
from esa_pytest.records import Record


def probed(measurement: Measurement, model: LoadedModel) -> Measurement:
    """The measurement with its float32 reference; as it was where that does not suit the model."""
    if why_unsuited(model.network) is not None:
        return measurement
    begin = time.perf_counter()
    found = probe(model, measurement.prepared)
    measurement.seconds["reference"] = time.perf_counter() - begin
    return replace(measurement, record=replace(measurement.record, probe=found))


def completed(measurement: Measurement, baseline: Baseline, model: LoadedModel) -> Record:
    """The record as it is kept: with its bit-stability, its float32 reference, and what harmless changes do to that.

    Raises:
        GoldenError: fresh processes agree with each other and not with this one.
    """
    begin = time.perf_counter()
    stability = measure_bit_stability(
        baseline, measurement.scores, device=model.device, batch_tokens=measurement.prepared.batch_tokens
    )
    measurement.seconds["bit_stability"] = time.perf_counter() - begin
    record = replace(probed(measurement, model).record, bit_stability=stability)
    if record.probe is None:
        return record
    begin = time.perf_counter()
    noise = measure_probe_noise(model, measurement.prepared, record.probe)
    measurement.seconds["reference_noise"] = time.perf_counter() - begin
    return replace(record, probe_noise=noise)
