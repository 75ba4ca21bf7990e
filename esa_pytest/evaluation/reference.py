"""The reference probe: the same bf16 weights scored in float32, which tells a changed meaning from changed rounding.

Harmless changes of kernels move a float32 evaluation by some 1e-6 nats a token where they move a bf16 one by 5e-2, and
it is the same on every device. Memory: one layer in float32, and a chunk of the head.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.evaluation.attention import can_switch_attention
from esa_pytest.evaluation.determinism import deterministic
from esa_pytest.evaluation.fingerprints import fingerprinted
from esa_pytest.evaluation.head import head_is_separable
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.ranks import is_split
from esa_pytest.evaluation.upcasting import REFERENCE_ATTENTION, in_float32
from esa_pytest.records import FloatArray, Probe, TokenScores

# Raised whenever the same weights could give other values; the version of scoring with it, so that equal bits are no
# reason to keep a golden whose reference nobody can compare.
PROBE_VERSION = 1
VOCABULARY_CHUNK = 8192
# Routers of experts flip on ties, which is no drift and moves a token by nats.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def why_unsuited(network: PreTrainedModel) -> str | None:
    """Why the probe says nothing of this model, as a clause, or None where it does."""
    if is_split(network):
        return "the model's matrices are split over ranks"
    if _routes_to_experts(network):
        return "the model routes tokens to experts, and a router flips on ties"
    if network.get_output_embeddings() is None or getattr(network, network.base_model_prefix, network) is network:
        return "the model's head cannot be told from its body"
    if not head_is_separable(network, device=next(network.parameters()).device):
        return "the model does something to its logits behind the head"
    if not can_switch_attention(network, REFERENCE_ATTENTION):
        return f"the model has no {REFERENCE_ATTENTION} attention to switch to"
    return None


def _routes_to_experts(network: PreTrainedModel) -> bool:
    """By its config, or, where that calls them otherwise, by its modules."""
    config = network.config.get_text_config()
    return any((getattr(config, name, None) or 0) > 1 for name in _EXPERTS) or any(
        name.rpartition(".")[2] == "experts" for name, _ in network.named_modules()
    )


def probe(model: LoadedModel, prepared: Prepared, *, attention: str = REFERENCE_ATTENTION) -> Probe:
    """Score the probe's tokens in float32, with a fingerprint of every module.

    Args:
        model: in bf16; it is as it was afterwards.
        prepared: of a baseline.
        attention: the implementation, another one to measure the noise of the choice.
    """
    tokens = torch.from_numpy(prepared.probe_ids).to(model.device)
    network = model.network
    with (
        deterministic(seed=0),  # which switches TF32 and its like off
        torch.inference_mode(),
        in_float32(network, attention=attention),
        fingerprinted(network) as prints,
    ):
        body = getattr(network, network.base_model_prefix)
        hidden = body(input_ids=tokens[None, :-1], use_cache=False).last_hidden_state[0]
        nll = _nll(hidden, network.get_output_embeddings(), tokens[1:].to(hidden.device))
    return Probe(
        version=PROBE_VERSION,
        nll=nll.cpu().numpy(),
        points=tuple(prints),
        fingerprints=_stacked(list(prints.values())),
    )


def rounded_at_probe(scores: TokenScores, prepared: Prepared) -> FloatArray | None:
    """The bf16 NLLs of the probe's tokens, float32, shape (tokens,); None where the run did not score all of them."""
    count = prepared.probe_ids.size - 1
    chosen = (scores.window == prepared.probe_window) & (scores.position < count)
    return scores.nll[chosen] if np.count_nonzero(chosen) == count else None


def _stacked(prints: Sequence[Tensor]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return torch.stack([values.cpu() for values in prints]).numpy()


def _nll(hidden: Tensor, head: Any, targets: Tensor) -> Tensor:
    """NLL of float32 states (tokens, hidden) through a bf16 head, a stretch of the vocabulary at a time, in float64."""
    weight, bias = head.weight, getattr(head, "bias", None)
    total = torch.full(targets.shape, -torch.inf, dtype=torch.float64, device=hidden.device)
    target_logit = torch.zeros_like(total)
    for begin in range(0, weight.shape[0], VOCABULARY_CHUNK):
        rows = slice(begin, begin + VOCABULARY_CHUNK)
        logits = hidden @ weight[rows].to(hidden.device).float().T
        if bias is not None:
            logits = logits + bias[rows].to(hidden.device).float()
        wide = logits.double()
        total = torch.logaddexp(total, wide.logsumexp(dim=-1))
        inside = (targets >= begin) & (targets < begin + logits.shape[-1])
        picked = wide.gather(-1, (targets - begin).clamp(0, logits.shape[-1] - 1)[:, None])[:, 0]
        target_logit = torch.where(inside, picked, target_logit)
    return total - target_logit
