"""The reference probe: a float32 evaluation that leaves the bf16 network as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from torch import Tensor, nn

from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation import reference
from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.evaluation.reference import PROBE_VERSION
from esa_pytest.evaluation.upcasting import in_float32
from tests.model.twins import FAMILIES, LLAMA, PYTHIA, TWINS, Twin, hooks_of, state_of, twin_of


@pytest.fixture(params=FAMILIES)
def twin(request: pytest.FixtureRequest) -> Twin:
    return twin_of(request.param)


@pytest.fixture
def llama_twin() -> Twin:
    return twin_of(LLAMA)


def plain_nll(twin: Twin, attention: str) -> npt.NDArray[np.float64]:
    """What transformers alone says of the probe's tokens in float32."""
    network = transformers.AutoModelForCausalLM.from_pretrained(
        twin.folder, dtype=torch.float32, attn_implementation=attention
    ).eval()
    tokens = torch.from_numpy(twin.prepared.probe_ids)
    with torch.inference_mode():
        logits = network(input_ids=tokens[None, :-1], use_cache=False).logits[0].double()
    nll: npt.NDArray[np.float64] = nn.functional.cross_entropy(logits, tokens[1:], reduction="none").numpy()
    return nll


def logits_of(twin: Twin) -> Tensor:
    """What the bf16 network says of the probe's tokens."""
    tokens = torch.from_numpy(twin.prepared.probe_ids)
    with torch.inference_mode():
        logits = twin.network(input_ids=tokens[None], use_cache=False).logits
    assert isinstance(logits, Tensor)
    return logits


@pytest.mark.parametrize("name", TWINS)
def test_probe_is_that_of_a_plain_float32_model(name: str) -> None:
    twin = twin_of(name)
    assert twin.reference.nll.dtype == np.float64
    assert twin.reference.nll.shape == (512,)
    np.testing.assert_allclose(twin.reference.nll, plain_nll(twin, "eager"), rtol=0, atol=1e-12)


def test_other_attention_is_that_of_a_plain_float32_model_too(twin: Twin) -> None:
    found = twin.probe(attention="sdpa")
    np.testing.assert_allclose(found.nll, plain_nll(twin, "sdpa"), rtol=0, atol=1e-12)
    assert np.abs(found.nll - twin.reference.nll).max() <= 1e-4
    assert found.points == twin.reference.points


def test_probe_is_far_nearer_to_itself_than_bf16_is(twin: Twin) -> None:
    tokens = torch.from_numpy(twin.prepared.probe_ids)
    logits = logits_of(twin)[0, :-1].double()
    nll = nn.functional.cross_entropy(logits, tokens[1:], reduction="none").numpy()
    drift = np.sqrt(np.mean((nll - twin.reference.nll) ** 2))
    assert 1e-3 < drift < 0.3


def test_same_probe_twice_gives_the_same_bits(twin: Twin) -> None:
    again = twin.probe()
    assert again.version == PROBE_VERSION
    assert again.nll.tobytes() == twin.reference.nll.tobytes()
    assert again.fingerprints.tobytes() == twin.reference.fingerprints.tobytes()


@pytest.mark.parametrize("chunk", [1, 7, 100, 257, 258, 259, 10**6])
def test_chunks_of_the_vocabulary_sum_up_to_the_whole(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whole numbers: their float32 products are exact, whatever a chunk does to the order.
    generator = torch.Generator().manual_seed(7)
    hidden = torch.randint(-4, 5, (600, 16), generator=generator).float()
    head = nn.Linear(16, 258).to(torch.bfloat16).requires_grad_(requires_grad=False)
    for parameter in head.parameters():
        parameter.copy_(torch.randint(-4, 5, parameter.shape, generator=generator))
    targets = torch.arange(600) % 258
    monkeypatch.setattr(reference, "VOCABULARY_CHUNK", chunk)
    with torch.inference_mode():
        found = reference._nll(hidden, head, targets)
        logits = (hidden @ head.weight.float().T + head.bias.float()).double()
    expected = nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [64, 257])
def test_chunks_of_the_vocabulary_move_a_twin_by_rounding_alone(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = twin_of(PYTHIA)
    monkeypatch.setattr(reference, "VOCABULARY_CHUNK", chunk)
    np.testing.assert_allclose(twin.probe().nll, twin.reference.nll, rtol=0, atol=1e-5)


class StopError(Exception):
    pass


@contextmanager
def raising(module: nn.Module, error: type[BaseException]) -> Iterator[None]:
    """The module raises when its turn comes."""

    def hook(*_: object) -> None:
        raise error

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def surroundings(twin: Twin) -> dict[str, Any]:
    """What the probe changes while it runs."""
    configs = {name: module.config for name, module in twin.network.named_modules() if hasattr(module, "config")}
    return {
        "state": state_of(twin.network),
        "hooks": hooks_of(twin.network),
        "attention": {name: config._attn_implementation for name, config in configs.items()},
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "inference": (torch.is_inference_mode_enabled(), torch.is_grad_enabled()),
        "modes": {name: module.training for name, module in twin.network.named_modules()},
    }


def test_network_is_as_it_was_after_a_probe(twin: Twin) -> None:
    before, logits = surroundings(twin), logits_of(twin)
    assert set(before["attention"].values()) == {"sdpa"}
    twin.probe()
    twin.probe(attention="sdpa")
    assert surroundings(twin) == before
    assert torch.equal(logits_of(twin), logits)
    assert {parameter.dtype for parameter in twin.network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, torch.OutOfMemoryError])
@pytest.mark.parametrize("inner", ["first layer", "inside a layer", "last layer", "norm", "embedding"])
def test_network_is_as_it_was_after_an_exception(inner: str, error: type[BaseException], twin: Twin) -> None:
    layers = [layer for _, layer in decoder_layers(twin.network)]
    module = {
        "first layer": layers[0],
        "inside a layer": layers[2].mlp,
        "last layer": layers[-1],
        "norm": twin.module(twin.reference.points[-1]),
        "embedding": twin.network.get_input_embeddings(),
    }[inner]
    before, logits = surroundings(twin), logits_of(twin)
    with raising(module, error), pytest.raises(error):
        twin.probe()
    assert surroundings(twin) == before
    assert torch.equal(logits_of(twin), logits)
    assert twin.probe().nll.tobytes() == twin.reference.nll.tobytes()


def test_attention_that_is_unknown_changes_nothing(llama_twin: Twin) -> None:
    before = surroundings(llama_twin)
    with pytest.raises(EvaluationError, match="unheard_of"):
        llama_twin.probe(attention="unheard_of")
    assert surroundings(llama_twin) == before


def test_autocast_around_the_probe_neither_matters_nor_ends(llama_twin: Twin) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = llama_twin.probe()
        assert torch.is_autocast_enabled("cpu")
    assert found.nll.tobytes() == llama_twin.reference.nll.tobytes()


def test_one_layer_at_a_time_is_in_float32(twin: Twin) -> None:
    layers = [layer for _, layer in decoder_layers(twin.network)]
    largest = max(sum(parameter.numel() * 4 for parameter in layer.parameters()) for layer in layers)
    outer = {id(twin.network.get_input_embeddings().weight), id(twin.network.get_output_embeddings().weight)}
    seen: list[int] = []

    def count(module: nn.Module, *_: object) -> None:
        own = {parameter.dtype for parameter in module.parameters(recurse=False) if id(parameter) not in outer}
        assert own <= {torch.float32}
        wide = [parameter for parameter in twin.network.parameters() if parameter.dtype == torch.float32]
        assert not outer & {id(parameter) for parameter in wide}
        seen.append(sum(parameter.numel() * 4 for parameter in wide))

    leaves = [module for module in twin.network.modules() if any(True for _ in module.parameters(recurse=False))]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        twin.probe()
    finally:
        for handle in handles:
            handle.remove()
    # The head is applied without being called.
    assert len(seen) == len(leaves) - 1
    assert max(seen) == largest
    assert not [parameter for parameter in twin.network.parameters() if parameter.dtype == torch.float32]


def test_states_are_float32_from_the_embedding_to_the_head(twin: Twin) -> None:
    kinds: set[torch.dtype] = set()

    def note(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        values = [*inputs, *(output if isinstance(output, tuple) else (output,))]
        kinds.update(value.dtype for value in values if isinstance(value, Tensor) and value.is_floating_point())

    tokens = torch.from_numpy(twin.prepared.probe_ids)
    embedding = twin.network.get_input_embeddings()
    with torch.inference_mode(), in_float32(twin.network):
        handles = [module.register_forward_hook(note) for module in twin.network.modules() if module is not embedding]
        try:
            getattr(twin.network, twin.network.base_model_prefix)(input_ids=tokens[None], use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
    assert kinds == {torch.float32}


def test_fewer_tokens_are_the_beginning_of_more(llama_twin: Twin) -> None:
    fewer = replace(llama_twin.prepared, probe_ids=llama_twin.prepared.probe_ids[:101])
    found = reference.probe(llama_twin.model, fewer).nll
    np.testing.assert_allclose(found, llama_twin.reference.nll[:100], rtol=0, atol=1e-4)
