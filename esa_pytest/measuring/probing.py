"""What completes a measurement where it is needed: the float32 reference, and what a golden knows of its noise."""

from dataclasses import replace

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.noise import ATTENTION, measure_noise, other_processors
from esa_pytest.evaluation.probe_noise import measure_probe_noise
from esa_pytest.evaluation.reference import probe, rounded_at_probe, why_unsuited
from esa_pytest.golden.bit_stability import measure_bit_stability
from esa_pytest.golden.resource_noise import measure_resource_noise
from esa_pytest.measuring.measurement import Measurement
from esa_pytest.records import Record


def probed(measurement: Measurement, model: LoadedModel) -> Measurement:
    """The measurement with its float32 reference; with a note of the cause where that does not suit the model."""
    if measurement.record.probe is not None:
        return measurement
    if (cause := why_unsuited(model.network)) is not None:
        return replace(measurement, notes=(*measurement.notes, f"The float32 reference was not computed: {cause}."))
    with measurement.timed("reference"):
        found = probe(model, measurement.prepared)
        rounded = rounded_at_probe(measurement.first.scores, measurement.prepared)
        found = replace(found, window=measurement.prepared.probe_window, rounded_nll=rounded)
    return replace(measurement, record=replace(measurement.record, probe=found))


def completed(measurement: Measurement, baseline: Baseline, model: LoadedModel) -> Record:
    """The record as it is kept: with its bit-stability, its float32 reference, and the noise of both.

    A model that is split over ranks is kept without them: a fresh process would be alone, and all that changes one rank
    would have to change the others.

    Raises:
        GoldenError: fresh processes agree with each other and not with this one.
    """
    if model.ranks > 1:
        return measurement.record
    with measurement.timed("bit_stability"):
        stability = measure_bit_stability(
            baseline,
            measurement.first.scores,
            device=model.device,
            batch_tokens=measurement.prepared.batch_tokens,
            beside=measurement.first.beside,
        )
    return replace(calibrated(measurement, baseline, model), bit_stability=stability)


def calibrated(measurement: Measurement, baseline: Baseline, model: LoadedModel) -> Record:
    """The record with its float32 reference, and with what harmless changes do to it and to the scores."""
    record = probed(measurement, model).record
    with measurement.timed("noise"):
        elsewhere, untried = other_processors(baseline, model, measurement.first, with_probe=record.probe is not None)
        samples = {name: fresh.sample for name, fresh in elsewhere.items()}
        noise = measure_noise(model, baseline, measurement.first, elsewhere=samples, untried=untried)
    with measurement.timed("resource_noise"):
        resources = measure_resource_noise(model, baseline, measurement.first, record.resources)
    record = replace(record, noise=noise, resource_noise=resources)
    if record.probe is None:
        return record
    with measurement.timed("reference_noise"):
        probes = {name: fresh.probe for name, fresh in elsewhere.items() if fresh.probe is not None}
        probe_noise = measure_probe_noise(
            model,
            measurement.prepared,
            record.probe,
            elsewhere=probes,
            other_attention=any(variant.name.startswith(ATTENTION) for variant in noise.variants),
        )
    return replace(record, probe_noise=probe_noise)
