"""How much the reference probe moves when nothing that matters has changed: measured for each model, never assumed."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from esa_pytest.evaluation.attention import can_switch_attention
from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.reference import probe
from esa_pytest.records import Probe, ProbeNoise

OTHER_ATTENTION = "sdpa"
NUM_JITTERS = 4
ULP = 2.0**-23


def measure_probe_noise(
    model: LoadedModel,
    prepared: Prepared,
    reference: Probe,
    *,
    elsewhere: Mapping[str, Probe] = MappingProxyType({}),
    other_attention: bool = True,
) -> ProbeNoise:
    """Repeat the probe under changes that must not matter, and keep the largest difference of each kind.

    Changes: another attention implementation; the RoPE frequencies off by their last bit; the output of every layer
    off by its last bit, under several seeds each; and whatever other processes tried.

    Args:
        model: the loaded model.
        prepared: of the baseline.
        reference: the probe as it is kept.
        elsewhere: probes of other processes, by what was changed in them.
        other_attention: whether another attention implementation computes the same.
    """
    variants: list[tuple[str, Probe]] = list(elsewhere.items())
    if other_attention and can_switch_attention(model.network, OTHER_ATTENTION):
        variants.append((f"attention {OTHER_ATTENTION}", probe(model, prepared, attention=OTHER_ATTENTION)))
    kinds: tuple[tuple[str, Callable[[PreTrainedModel, int], AbstractContextManager[None]]], ...] = (
        ("last bit of inv_freq", jittered_frequencies),
        ("last bit of layer outputs", jittered_layers),
    )
    for name, jittered in kinds:
        for seed in range(NUM_JITTERS):
            with jittered(model.network, seed):
                variants.append((name, probe(model, prepared)))
    return largest_differences(reference, variants)


def largest_differences(reference: Probe, variants: Sequence[tuple[str, Probe]]) -> ProbeNoise:
    """The noise that variants of a probe show: the largest difference of each kind.

    Args:
        reference: the probe as it is kept.
        variants: what was changed, and the probe that came of it, with the same modules; one at least.
    """
    drifts = np.stack([variant.nll - reference.nll for _, variant in variants])
    prints = np.stack([np.abs(variant.fingerprints - reference.fingerprints) for _, variant in variants])
    return ProbeNoise(
        varied=tuple(dict.fromkeys(name for name, _ in variants)),
        distinct_bit_patterns=len({_bits(reference), *(_bits(variant) for _, variant in variants)}),
        rms=float(np.sqrt(np.mean(drifts**2, axis=1)).max()),
        maximum=float(np.abs(drifts).max()),
        fingerprints=prints.max(axis=(0, 2)).astype(np.float32),
    )


@contextmanager
def jittered_layers(network: PreTrainedModel, seed: int) -> Iterator[None]:
    """Move every number that a decoder layer puts out by about one unit in the last place, up or down."""
    generator = torch.Generator().manual_seed(seed)

    def jitter(_module: nn.Module, _inputs: object, output: object) -> object:
        values = output[0] if isinstance(output, tuple) else output
        assert isinstance(values, Tensor)  # noqa: S101  (a decoder layer's output)
        moved = values * _factors(values, generator)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    # In front of the other hooks: fingerprints are to see it.
    handles = [layer.register_forward_hook(jitter, prepend=True) for _, layer in decoder_layers(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def jittered_frequencies(network: PreTrainedModel, seed: int) -> Iterator[None]:
    """Move every RoPE frequency by about one unit in the last place, up or down."""
    generator = torch.Generator().manual_seed(seed)
    kept = [(buffer, buffer.clone()) for name, buffer in network.named_buffers() if name.endswith("inv_freq")]
    try:
        for buffer, before in kept:
            buffer.copy_(before * _factors(before, generator))
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)


def _factors(values: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, values.shape, generator=generator).to(values.device, values.dtype) * 2.0 - 1.0
    return 1.0 + ULP * signs


def _bits(variant: Probe) -> str:
    return hashlib.sha256(variant.nll.tobytes()).hexdigest()
