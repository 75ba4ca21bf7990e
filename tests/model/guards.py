"""Guarded tiny models: a clean run with its float32 reference, and the noise of both measured within this process."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from esa_pytest.drift.rules import DEFAULT_RULES
from esa_pytest.evaluation.noise import measure_noise
from esa_pytest.evaluation.probe_noise import measure_probe_noise
from esa_pytest.measuring.measurement import measure
from esa_pytest.measuring.probing import probed
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.perturbation.guard import Guarded, guarded_by
from esa_pytest.records import TokenScores
from tests.model.tiny import save_tiny, tiny_baseline, write_corpus


@cache
def guarded_of(family: str) -> Guarded:
    """A guarded tiny model of a family, made once; whoever changes its network puts it back."""
    folder = Path(mkdtemp(prefix=f"esa-{family}-"))
    save_tiny(family, folder / "checkpoint")
    return guarded_in(folder)


def guarded_in(folder: Path, *, with_noise: bool = True) -> Guarded:
    """A guarded model of a folder that holds a checkpoint; without its noise, which takes a moment, tier 4 is mute."""
    baseline = tiny_baseline(folder / "checkpoint", write_corpus(folder))
    shelved: Shelved = ModelShelf(device="cpu").get(baseline)
    model = shelved.model
    measurement = measure(
        baseline, shelved, rounds=1, benchmark=None, provenance={}, limit=lambda _phase: nullcontext()
    )
    measurement = probed(measurement, model)
    reference = measurement.record.probe
    golden = replace(
        measurement.record,
        noise=measure_noise(model, baseline, measurement.first, elsewhere={}) if with_noise else None,
        probe_noise=None if reference is None else measure_probe_noise(model, measurement.prepared, reference),
    )
    return guarded_by(golden, measurement, baseline=baseline, shelved=shelved, verdict=None, rules=DEFAULT_RULES)


def rebased(guarded: Guarded, *, shift: float) -> Guarded:
    """The same model guarded by a golden whose bits are others: every NLL is more by `shift` nats."""
    noise, scores = guarded.clean.noise, guarded.clean.scores
    assert noise is not None
    assert isinstance(scores, TokenScores)
    golden = replace(
        guarded.clean,
        noise=replace(noise, nll=noise.nll + np.float32(shift)),
        scores=replace(scores, nll=scores.nll + np.float32(shift)),
    )
    measurement = measure(
        guarded.baseline, guarded.shelved, rounds=1, benchmark=None, provenance={}, limit=lambda _phase: nullcontext()
    )
    return guarded_by(
        golden,
        measurement,
        baseline=guarded.baseline,
        shelved=guarded.shelved,
        verdict=None,
        rules=guarded.rules,
    )
