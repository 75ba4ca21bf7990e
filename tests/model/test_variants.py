"""Changes that must not matter: they change what they say, no more, and are undone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.variants import FLIPPED_WEIGHTS, flipped_last_bits, sdp_backends, smaller_processors
from tests.model.tiny import load_folder
from tests.model.twins import state_of


@pytest.fixture(scope="module")
def model(llama_checkpoint: Path) -> LoadedModel:
    return load_folder(llama_checkpoint)


def changed_numbers(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """In how many bf16 numbers each parameter differs."""
    found = {}
    for name, (*_, content) in before.items():
        old, new = (np.frombuffer(bits, dtype=np.uint8).view(np.uint16) for bits in (content, after[name][-1]))
        if (old != new).any():
            assert set((old ^ new)[old != new].tolist()) == {1}
            found[name] = int(np.count_nonzero(old != new))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_last_bits_of_the_first_layer_are_flipped_and_restored(seed: int, model: LoadedModel) -> None:
    before = state_of(model.network)
    with flipped_last_bits(model.network, seed):
        during = changed_numbers(before, state_of(model.network))
        assert 0 < sum(during.values()) <= FLIPPED_WEIGHTS
        assert all(name.startswith("model.layers.0.") and name.endswith("proj.weight") for name in during)
        with flipped_last_bits(model.network, seed):
            assert state_of(model.network) == before
        assert changed_numbers(before, state_of(model.network)) == during
    assert state_of(model.network) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_last_bits_are_restored_after_an_exception(error: type[BaseException], model: LoadedModel) -> None:
    before = state_of(model.network)
    with pytest.raises(error), flipped_last_bits(model.network, 0):
        raise error
    assert state_of(model.network) == before


def test_last_bits_are_restored_where_flipping_itself_fails(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, flips = state_of(model.network), iter(range(20))
    real = torch.randint

    def failing(*args: Any, **options: Any) -> torch.Tensor:
        if next(flips, None) is None:
            raise MemoryError
        return real(*args, **options)

    monkeypatch.setattr(torch, "randint", failing)
    with pytest.raises(MemoryError), flipped_last_bits(model.network, 0):
        pass
    assert state_of(model.network) == before


def test_seed_decides_which_bits_and_leaves_other_generators_alone(model: LoadedModel) -> None:
    states, random = [], torch.get_rng_state()
    for seed in (1, 1, 2):
        with flipped_last_bits(model.network, seed):
            states.append(state_of(model.network))
    assert states[0] == states[1] != states[2]
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    ("capability", "names"),
    [
        ("AVX512", ["avx512 without bf16", "avx2", "baseline x86-64", "that MKL has everywhere"]),
        ("AVX2", ["baseline x86-64", "that MKL has everywhere"]),
        ("DEFAULT", []),
        ("NEON", []),
    ],
)
def test_only_what_the_machine_has_is_a_smaller_processor(
    capability: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert list(smaller_processors()) == names


def test_each_backend_of_attention_is_alone() -> None:
    for name, switches in sdp_backends().items():
        assert [switch for switch, on in switches.items() if on] == [f"sdp.{name}"]
