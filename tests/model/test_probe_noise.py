"""The probe's own noise: what harmless changes move it by, and that they are undone."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.evaluation.probe_noise import (
    NUM_JITTERS,
    ULP,
    jittered_frequencies,
    jittered_layers,
    measure_probe_noise,
)
from tests.model.twins import FAMILIES, LLAMA, TWINS, Twin, hooks_of, state_of, twin_of

Jitter = Callable[[PreTrainedModel, int], AbstractContextManager[None]]
JITTERS = (jittered_frequencies, jittered_layers)


@pytest.fixture(params=FAMILIES)
def twin(request: pytest.FixtureRequest) -> Twin:
    return twin_of(request.param)


@pytest.mark.parametrize("name", TWINS)
def test_noise_is_small_and_seen_in_many_patterns(name: str) -> None:
    twin, noise = twin_of(name), twin_of(name).noise
    assert noise.varied == ("attention sdpa", "last bit of inv_freq", "last bit of layer outputs")
    assert 8 <= noise.distinct_bit_patterns <= 2 + 2 * NUM_JITTERS
    assert 1e-7 < noise.rms < noise.maximum < 1e-3
    assert noise.rms < 1e-4
    assert noise.fingerprints.shape == (len(twin.reference.points),)
    assert noise.fingerprints.dtype == np.float32
    assert np.isfinite(noise.fingerprints).all()
    assert (noise.fingerprints >= 0).all()
    assert (noise.fingerprints < 1e-3).all()
    # Every layer's output is moved; what the embedding puts out is not.
    last_layer = [point for point in twin.reference.points if point.split(".")[-1].isdigit()]
    assert all(noise.fingerprints[twin.reference.points.index(point)] > 0 for point in last_layer)
    assert noise.fingerprints[0] == 0


def test_noise_is_measured_alike_twice_and_leaves_nothing(twin: Twin) -> None:
    before, hooks = state_of(twin.network), hooks_of(twin.network)
    again = measure_probe_noise(twin.model, twin.prepared, twin.reference)
    assert (state_of(twin.network), hooks_of(twin.network)) == (before, hooks)
    known = twin.noise
    assert (again.rms, again.maximum) == (known.rms, known.maximum)
    assert again.fingerprints.tobytes() == known.fingerprints.tobytes()
    assert twin.probe().nll.tobytes() == twin.reference.nll.tobytes()


def test_noise_is_the_largest_of_its_variants(twin: Twin) -> None:
    noise = twin.noise
    variants = [twin.probe(attention="sdpa")]
    for jitter in JITTERS:
        for seed in range(NUM_JITTERS):
            with jitter(twin.network, seed):
                variants.append(twin.probe())
    drifts = [variant.nll - twin.reference.nll for variant in variants]
    assert noise.rms == max(float(np.sqrt(np.mean(drift**2))) for drift in drifts)
    assert noise.maximum == max(float(np.abs(drift).max()) for drift in drifts)
    moved = [np.abs(variant.fingerprints - twin.reference.fingerprints).max(axis=1) for variant in variants]
    np.testing.assert_array_equal(noise.fingerprints, np.max(moved, axis=0))
    # Each of them passes by itself what it is the measure of.
    assert all(twin.drift(variant).within for variant in variants)
    assert all(twin.drift(variant).first_moved is None for variant in variants)


@pytest.mark.parametrize("jitter", JITTERS)
def test_jitter_changes_bits_and_is_undone(jitter: Jitter, twin: Twin) -> None:
    before, hooks = state_of(twin.network), hooks_of(twin.network)
    patterns = {twin.reference.nll.tobytes()}
    for seed in range(NUM_JITTERS):
        with jitter(twin.network, seed):
            patterns.add(twin.probe().nll.tobytes())
            with jitter(twin.network, seed + 100):
                pass
        assert (state_of(twin.network), hooks_of(twin.network)) == (before, hooks)
    assert len(patterns) >= NUM_JITTERS
    assert twin.probe().nll.tobytes() == twin.reference.nll.tobytes()


@pytest.mark.parametrize("jitter", JITTERS)
def test_jitter_of_one_seed_gives_the_same_bits(jitter: Jitter, twin: Twin) -> None:
    found = []
    for _ in range(2):
        with jitter(twin.network, 3):
            found.append(twin.probe().nll.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("jitter", JITTERS)
def test_jitter_is_undone_after_an_exception(jitter: Jitter, error: type[BaseException], twin: Twin) -> None:
    before, hooks = state_of(twin.network), hooks_of(twin.network)
    with pytest.raises(error), jitter(twin.network, 0):
        raise error
    assert (state_of(twin.network), hooks_of(twin.network)) == (before, hooks)


@pytest.mark.parametrize("seed", range(NUM_JITTERS))
def test_frequencies_move_by_their_last_bit(seed: int, twin: Twin) -> None:
    def frequencies() -> list[Tensor]:
        return [buffer.clone() for name, buffer in twin.network.named_buffers() if name.endswith("inv_freq")]

    before = frequencies()
    assert before
    with jittered_frequencies(twin.network, seed):
        during = frequencies()
    assert [tensor.dtype for tensor in before] == [torch.float32] * len(before)
    for old, new in zip(before, during, strict=True):
        assert 0 < ((new - old).abs() / old).max() < 2 * ULP
        assert (new != old).any()


def test_every_layer_moves_by_its_last_bit() -> None:
    twin = twin_of(LLAMA)
    layers = [layer for _, layer in decoder_layers(twin.network)]
    raw: list[Tensor] = []
    seen: list[Tensor] = []

    def watch(into: list[Tensor], *, first: bool) -> list[torch.utils.hooks.RemovableHandle]:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            values = output[0] if isinstance(output, tuple) else output
            assert isinstance(values, Tensor)
            into.append(values.clone())

        return [layer.register_forward_hook(note, prepend=first) for layer in layers]

    with jittered_layers(twin.network, 0):
        # In front of the jitter, and behind it.
        handles = [*watch(raw, first=True), *watch(seen, first=False)]
        try:
            twin.probe()
        finally:
            for handle in handles:
                handle.remove()
    assert len(raw) == len(seen) == len(layers)
    for old, new in zip(raw, seen, strict=True):
        assert new.dtype == torch.float32
        share = (new.double() - old.double()).abs() / old.double().abs().clamp_min(1e-30)
        assert 0 < share.max() < 2 * ULP
        assert (new != old).double().mean() > 0.4
