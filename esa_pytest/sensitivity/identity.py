"""What makes two sweeps the same: the model, the text, its bits, and every perturbation to the last digit."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields

from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.perturbation.guard import Guarded
from esa_pytest.perturbation.kinds import Kind
from esa_pytest.perturbation.places import Drawn, Largest, select
from esa_pytest.perturbation.reversible import Perturbation, sha256_of
from esa_pytest.perturbation.targets import find_tensor
from esa_pytest.records import TokenScores
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
        "perturbations": _sha256_of_trials(guarded.model.network, trials),
    }


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
