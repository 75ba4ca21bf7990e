"""What faults are made of: the matrices of a model, its embeddings, and tokens that a text has seldom or never."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.perturbation import Guarded
from esa_pytest.perturbation.targets import find_tensor

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Where faults can be put.

    Attributes:
        matrices: of all decoder layers, by name; a parameter that stacks those of a layer's experts is one of them.
        embedding: the name of the input embeddings' weight.
        head: the name of the output embeddings' weight, which may be the same.
        head_rows: the head's weight as it is, shape (vocabulary, hidden).
        rare: the tokens that the text has least often, once as a rule.
        absent: tokens that the text never has, of these the ones that the model thinks of.
        mean_state: the mean of the states that the head reads, float32, shape (hidden,).
    """

    matrices: tuple[str, ...]
    embedding: str
    head: str
    head_rows: Tensor
    rare: Tokens
    absent: Tokens
    mean_state: Tensor


def material_of(guarded: Guarded) -> Material:
    """What the guarded model and its text offer; the model runs over one window."""
    network, prepared = guarded.model.network, guarded.prepared
    head = _name_of(network, network.get_output_embeddings().weight)
    rows = find_tensor(network, head)
    top = guarded.clean.top
    return Material(
        matrices=tuple(
            f"{layer}.{name}"
            for layer, module in decoder_layers(network)
            for name, parameter in module.named_parameters()
            if parameter.dim() >= 2
        ),
        embedding=_name_of(network, network.get_input_embeddings().weight),
        head=head,
        head_rows=rows,
        rare=_rare(prepared),
        absent=_absent(prepared, None if top is None else top.ids, vocabulary=len(rows)),
        mean_state=_mean_state(network, prepared),
    )


def _name_of(network: PreTrainedModel, weight: object) -> str:
    names: list[str] = [name for name, parameter in network.named_parameters() if parameter is weight]
    return names[0]


def _rare(prepared: Prepared) -> Tokens:
    """Each window's first token, a BOS perhaps, does not count."""
    inputs = np.concatenate([rectangle.input_ids[:, 1:].reshape(-1) for rectangle in prepared.rectangles])
    tokens, counts = np.unique(inputs, return_counts=True)
    return np.asarray(tokens[counts == counts.min()])


def _absent(prepared: Prepared, likely: npt.NDArray[np.int32] | None, *, vocabulary: int) -> Tokens:
    present = np.unique(
        np.concatenate([np.append(r.input_ids.reshape(-1), r.targets.reshape(-1)) for r in prepared.rectangles])
    )
    if likely is not None and (thought_of := np.setdiff1d(likely, present)).size:
        return thought_of.astype(np.int64)
    return np.setdiff1d(np.arange(vocabulary), present)


def _mean_state(network: PreTrainedModel, prepared: Prepared) -> Tensor:
    head = network.get_output_embeddings()
    body = getattr(network, network.base_model_prefix)
    tokens = torch.from_numpy(prepared.probe_ids).to(network.device)
    with torch.inference_mode():
        states: Tensor = body(input_ids=tokens[None, :-1], use_cache=False).last_hidden_state[0]
    # Clone, since tensors of inference mode refuse what comes later.
    return states.float().mean(dim=0).to(head.weight.device).clone()
