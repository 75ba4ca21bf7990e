"""A NaN or an infinity is found wherever it arises, and named by layer, window and token."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.records import NonFinite
from tests.model.tiny import CONTEXT_LENGTH, NUM_LAYERS, evaluate_tiny, running_text, tiny_baseline

# Two batches of two windows, and every window of the text scored.
TEXT = running_text(4 * CONTEXT_LENGTH + 1 - 2)
NAN, INFINITY = math.nan, math.inf


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def _evaluated(llama: LoadedModel, text: Path, *, stride: int = CONTEXT_LENGTH) -> Round:
    scored = {"cpu": 128 if stride == CONTEXT_LENGTH else 64, "cuda": 128}
    return evaluate_tiny(llama, tiny_baseline(Path(), text, stride=stride, scored_tokens=scored))[1]


def _parameter(llama: LoadedModel, name: str) -> Tensor:
    parameter: Tensor = llama.network.get_parameter(name)
    return parameter


def test_experts_within_the_layers_are_not_taken_for_the_layers(llama: LoadedModel) -> None:
    """As transformers 4 builds them: a list within each layer, longer than the list of layers."""
    layers = [name for name, _ in decoder_layers(llama.network)]
    assert layers == [f"model.layers.{index}" for index in range(NUM_LAYERS)]
    for layer in llama.network.model.layers:
        layer.mlp.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2 * NUM_LAYERS))
    assert [name for name, _ in decoder_layers(llama.network)] == layers


def test_a_clean_model_is_clean_and_no_hook_stays(llama: LoadedModel, text: Path) -> None:
    assert _evaluated(llama, text).non_finite is None
    assert _hooks(llama.network) == 0


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj"),
        ("model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj"),
        ("model.layers.2.input_layernorm.weight", "model.layers.2.input_layernorm"),
        ("model.norm.weight", "model.norm"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_a_damaged_weight_is_named_at_the_first_token(
    llama: LoadedModel, text: Path, parameter: str, layer: str, value: float
) -> None:
    _parameter(llama, parameter)[0] = value
    assert _evaluated(llama, text).non_finite == NonFinite(what="output", window=0, token=0, layer=layer)
    assert _hooks(llama.network) == 0


@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize(("window", "token"), [(0, 0), (0, 31), (1, 5), (3, 0), (3, 31)])
def test_a_damaged_embedding_is_named_at_the_token_that_uses_it(
    llama: LoadedModel, text: Path, window: int, token: int, value: float
) -> None:
    at = window * CONTEXT_LENGTH + token
    text.write_text(TEXT[:at] + "~" + TEXT[at + 1 :], encoding="utf-8")
    _parameter(llama, "model.embed_tokens.weight")[_id_of(llama, "~"), 3] = value
    assert _evaluated(llama, text).non_finite == NonFinite(
        what="output", window=window, token=token, layer="model.embed_tokens"
    )


@pytest.mark.parametrize("module", ["model.layers.0.mlp", "model.layers.1.self_attn.o_proj", "model.layers.2.mlp"])
def test_a_nan_in_one_activation_is_named_at_its_module_and_token(llama: LoadedModel, text: Path, module: str) -> None:
    _alter(llama.network, module, lambda hidden: hidden[1, 7].fill_(NAN))
    assert _evaluated(llama, text).non_finite == NonFinite(what="output", window=1, token=7, layer=module)
    assert _hooks(llama.network) == 1


def test_a_nan_that_reaches_no_scored_token_is_named_too(llama: LoadedModel, text: Path) -> None:
    """Behind the last attention a token's NaN stays its own; with a stride it may stand where nothing is scored."""
    _alter(llama.network, "model.layers.2.mlp", lambda hidden: hidden[0, 3].fill_(NAN))
    done = _evaluated(llama, text, stride=8)
    assert bool(torch.from_numpy(done.scores.nll).isfinite().all())
    assert done.non_finite == NonFinite(what="output", window=0, token=3, layer="model.layers.2.mlp")


@pytest.mark.parametrize("value", [INFINITY, -INFINITY])
def test_an_infinite_logit_of_another_token_is_named(llama: LoadedModel, text: Path, value: float) -> None:
    """The NLL of the target stays a number where the logit of another token is minus infinity."""
    other = _id_of(llama, "~")
    llama.network.get_output_embeddings().register_forward_hook(
        lambda _module, _inputs, logits: logits.index_fill(-1, torch.tensor([other]), value)
    )
    assert _evaluated(llama, text).non_finite == NonFinite(what="output", window=0, token=0, layer="lm_head")


@pytest.mark.parametrize("stride", [8, CONTEXT_LENGTH])
def test_a_nan_that_does_not_come_again_is_named_by_its_score(llama: LoadedModel, text: Path, stride: int) -> None:
    _alter(llama.network, "model.layers.2", lambda hidden: hidden[1, 27].fill_(NAN), times=1)
    assert _evaluated(llama, text, stride=stride).non_finite == NonFinite(what="nll", window=1, token=27)


def test_a_nan_that_does_not_come_again_and_reaches_no_score_is_told(llama: LoadedModel, text: Path) -> None:
    _alter(llama.network, "model.layers.2", lambda hidden: hidden[1, 7].fill_(NAN), times=1)
    found = _evaluated(llama, text, stride=8).non_finite
    assert found == NonFinite(what="a layer's output, in one of two runs of the same batch")


def test_no_hook_stays_when_the_model_raises(llama: LoadedModel, text: Path) -> None:
    def fail(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 1:
            raise ArithmeticError

    handle = llama.network.get_submodule("model.layers.1").register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        _evaluated(llama, text)
    handle.remove()
    assert _hooks(llama.network) == 0


def _alter(network: PreTrainedModel, module: str, change: Callable[[Tensor], object], *, times: int = -1) -> None:
    """Change a module's output in place, in batches of two windows, so many times."""
    left = times

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal left
        if len(output) > 1 and left:
            change(output)
            left -= 1

    network.get_submodule(module).register_forward_hook(hook)


def _id_of(llama: LoadedModel, letter: str) -> int:
    (token,) = llama.tokenizer(letter, add_special_tokens=False)["input_ids"]
    return int(token)


def _hooks(network: PreTrainedModel) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in network.modules()
    )
