"""Which models the reference probe suits, and what it says of the others."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.attention import attention_of
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.reference import why_unsuited
from esa_pytest.evaluation.upcasting import in_float32
from tests.model.tiny import FAMILIES, build_network
from tests.model.twins import FAMILIES as TRAINED_FAMILIES
from tests.model.twins import hooks_of, twin_of


@pytest.mark.parametrize("family", FAMILIES)
def test_the_four_families_are_suited(family: str) -> None:
    assert why_unsuited(build_network(family)) is None


@pytest.mark.parametrize("name", TRAINED_FAMILIES)
def test_trained_twins_are_suited(name: str) -> None:
    assert why_unsuited(twin_of(name).network) is None


_TINY: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def built(config: transformers.PretrainedConfig) -> transformers.PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = transformers.AutoModelForCausalLM.from_config(config)
    return network.to(torch.bfloat16).eval()


@pytest.mark.parametrize(
    "config",
    [
        transformers.MixtralConfig(**_TINY, num_local_experts=4),
        transformers.Qwen2MoeConfig(**_TINY, num_experts=4, moe_intermediate_size=32),
    ],
    ids=["mixtral", "qwen2-moe"],
)
def test_mixture_of_experts_is_refused(config: transformers.PretrainedConfig) -> None:
    assert why_unsuited(built(config)) == "the model routes tokens to experts, and a router flips on ties"


def test_experts_that_the_config_calls_otherwise_are_found(llama: LoadedModel) -> None:
    llama.network.model.layers[1].mlp.experts = nn.ModuleList([nn.Identity()])
    assert why_unsuited(llama.network) == "the model routes tokens to experts, and a router flips on ties"


@pytest.mark.parametrize("family", ["gemma3", "cohere"])
def test_logits_that_are_more_than_the_head_are_refused(family: str) -> None:
    assert why_unsuited(build_network(family)) == "the model does something to its logits behind the head"


def test_scale_under_another_name_is_refused() -> None:
    granite = transformers.GraniteConfig(**_TINY, logits_scaling=8.0)
    assert why_unsuited(built(granite)) == "the model does something to its logits behind the head"


def test_body_alone_is_refused() -> None:
    assert why_unsuited(build_network("llama").model) == "the model's head cannot be told from its body"


def test_model_whose_attention_cannot_be_switched_is_refused(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(llama.network), "_can_set_attn_implementation", classmethod(lambda _: False))
    assert why_unsuited(llama.network) == "the model has no eager attention to switch to"
    with (
        pytest.raises(EvaluationError, match=r"LlamaForCausalLM cannot run with the attention implementation 'eager'"),
        in_float32(llama.network),
    ):
        pass
    assert attention_of(llama.network) == "sdpa"
    assert not hooks_of(llama.network)
