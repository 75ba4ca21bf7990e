"""A golden of our own, and a supported older release that reads the same checkpoint: as `esa bisect` measures it."""

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.bisection.bench import Bench
from esa_pytest.bisection.differences import Move
from esa_pytest.bisection.limits import Deadline
from esa_pytest.bisection.overlays import Overlays
from esa_pytest.evaluation.cache import cache_root
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.noise import measure_noise
from esa_pytest.evaluation.probe_noise import measure_probe_noise
from esa_pytest.golden.files import write_packed
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack
from esa_pytest.measuring.measurement import Measurement, measure
from esa_pytest.measuring.probing import probed
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.records import Outcome, Record, Tier
from tests.incidents.found import Found
from tests.incidents.releases import NEWEST, PACKAGE
from tests.incidents.subjects import saved_by_this_release, subject_in


def read_by_older_release(model: str, release: str) -> Found:
    """Let this release save a checkpoint and record its golden, and an older one that we support measure it."""
    baseline = subject_in(f"saved-{model.partition('@')[0]}", saved_by_this_release(model)).baseline
    shelved = ModelShelf(device="cpu").get(baseline)
    measurement = measure(
        baseline, shelved, rounds=1, benchmark=None, provenance={}, limit=lambda _phase: nullcontext()
    )
    golden = _golden(measurement, baseline, shelved.model)
    assert golden.metrics is not None
    with tempfile.TemporaryDirectory(prefix="esa-incident-golden-") as name:
        location = GoldenLocation(root=Path(name), folder=baseline.folder, device="cpu", dtype="bfloat16")
        write_packed(location.json, pack(golden, npz_name=location.npz.name))
        bench = Bench(
            baseline=baseline,
            golden=golden,
            location=location,
            device="cpu",
            overlays=Overlays(cache_root() / "releases", deadline=Deadline()),
            scratch=Path(name),
            deadline=Deadline(),
        )
        trial = bench.trial([Move(package=PACKAGE, golden=release, here=NEWEST)])
    assert trial.tier is not None, trial.reason
    assert trial.mean is not None
    return Found(
        outcome=Outcome(trial.outcome),
        tier=Tier(trial.tier),
        reason=trial.reason,
        shift=trial.mean / golden.metrics.mean_nll,
        named=" ".join(trial.notes),
        maximum=trial.maximum,
        reference_rms=trial.reference_rms,
    )


def _golden(measurement: Measurement, baseline: Baseline, model: LoadedModel) -> Record:
    """The record with the noise that can be measured in this process; nothing is claimed of fresh ones."""
    record = probed(measurement, model).record
    assert record.probe is not None
    return replace(
        record,
        noise=measure_noise(model, baseline, measurement.first, elsewhere={}),
        probe_noise=measure_probe_noise(model, measurement.prepared, record.probe),
    )
