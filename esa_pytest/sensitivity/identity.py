"""What makes two sweeps the same: the model, its bits, how they are judged, and every perturbation to the digit."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields

from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.drift.rules import Rules
from esa_pytest.golden.noise_arrays import noise_arrays, noise_part
from esa_pytest.golden.probe_arrays import probe_part
from esa_pytest.perturbation.guard import Guarded
from esa_pytest.perturbation.kinds import Kind
from esa_pytest.perturbation.places import Drawn, Largest, select
from esa_pytest.perturbation.reversible import Perturbation, sha256_of
from esa_pytest.perturbation.targets import find_tensor
from esa_pytest.records import Record, TokenScores
from esa_pytest.sensitivity.plans import Trial


def identity_of(guarded: Guarded, trials: Sequence[Trial]) -> dict[str, str]:
    """What the rows of a sweep are rows of.

    Raises:
        PerturbationError: a perturbation names a parameter or a place that is not there.
    """
    scores = guarded.clean.scores
    assert isinstance(scores, TokenScores)  # noqa: S101  (a run has them; sums of blocks are a golden's)
    return {
        "baseline": guarded.baseline.id,
        "weights": guarded.shelved.checkpoint.weights_sha256,
        "clean scores": hashlib.sha256(scores.nll.tobytes()).hexdigest(),
        # Which tiers see a perturbation depends on these two.
        "rules": _spoken(guarded.rules),
        "noise": _sha256_of_noise(guarded.clean),
        "perturbations": _sha256_of_trials(guarded.model.network, trials),
    }


def _spoken(rules: Rules) -> str:
    return json.dumps(
        {
            "false alarm rate": rules.false_alarm_rate,
            "tolerances": dict(rules.tolerances),
            "resources": rules.resources,
        },
        sort_keys=True,
    )


def _sha256_of_noise(clean: Record) -> str:
    """Of the noise of scores and reference, and whether there is one of resources, which share the false alarms."""
    parts = {
        "scores": noise_part(clean.noise),
        "reference": probe_part(clean.probe, clean.probe_noise),
        "resources": clean.resource_noise is not None,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, array in sorted(noise_arrays(clean.noise).items()):
        digest.update(f"{name} {array.shape}\n".encode() + array.tobytes())
    if clean.probe_noise is not None:
        digest.update(clean.probe_noise.fingerprints.tobytes())
    return digest.hexdigest()


def _sha256_of_trials(network: PreTrainedModel, trials: Sequence[Trial]) -> str:
    # A label rounds amounts and leaves out places, so it does not tell one perturbation from another.
    names = dict.fromkeys(each.parameter for trial in trials for each in trial.perturbations)
    tensors = {name: find_tensor(network, name) for name in names}
    places: dict[tuple[str, Largest | Drawn], str] = {}
    digest = hashlib.sha256()
    for trial in trials:
        digest.update(f"{trial.label!r}\n".encode())
        for each in trial.perturbations:
            if isinstance(each.where, Largest | Drawn):
                # A matrix is sorted once, whatever the number of trials that ask for its largest numbers.
                key = each.parameter, each.where
                place = places[key] = places.get(key) or _exact_place(each, tensors)
            else:
                place = _exact_place(each, tensors)
            digest.update(f"{each.parameter!r} {_exact_kind(each.kind)} {place}\n".encode())
    return digest.hexdigest()


def _exact_kind(kind: Kind) -> str:
    return f"{type(kind).__name__} {[_exact_value(getattr(kind, each.name)) for each in fields(kind)]}"


def _exact_value(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} {sha256_of(value)}"
    return repr(value)


def _exact_place(perturbation: Perturbation, tensors: Mapping[str, Tensor]) -> str:
    selection = select(perturbation.where, tensors[perturbation.parameter])
    return sha256_of(selection) if isinstance(selection, Tensor) else repr(selection)
