"""Harmless changes beside the faults: as a run in another environment has them, and none that a golden has seen.

Calibration flips last bits by the seeds 0 to 23 and jitters the probe by 0 to 3; the seeds here begin far above.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedModel

from esa_pytest.evaluation.attention import attention_of, can_switch_attention, with_attention
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.probe_noise import OTHER_ATTENTION, jittered_frequencies, jittered_layers
from esa_pytest.evaluation.upcasting import REFERENCE_ATTENTION
from esa_pytest.evaluation.variants import flipped_last_bits

FIRST_SEED = 1000
# Every so many-th run has the other attention; it has no seed, and beside each fault it is another drift.
_ATTENTION_EVERY = 4


@dataclass(frozen=True, kw_only=True)
class Change:
    """A harmless change.

    Attributes:
        what: for people.
        context: makes it, for the length of a block.
        attention: the implementation that the probe takes.
        batch_tokens: the size of the batches; None for that of the clean run.
    """

    what: str
    context: Callable[[], AbstractContextManager[None]]
    attention: str = REFERENCE_ATTENTION
    batch_tokens: int | None = None


def of_scores(network: PreTrainedModel, seed: int) -> Change:
    """What the bf16 scores of a trial carry."""
    other = _other_attention(network)
    if other is not None and seed % _ATTENTION_EVERY == _ATTENTION_EVERY - 1:
        return other
    return _last_bits(network, seed)


def of_probe(network: PreTrainedModel, seed: int) -> Change:
    """What the float32 reference of a trial carries."""
    if seed % _ATTENTION_EVERY == _ATTENTION_EVERY - 1 and can_switch_attention(network, OTHER_ATTENTION):
        return _sdpa()
    return _jitter(network, seed)


def all_of_probe(network: PreTrainedModel, number: int) -> list[Change]:
    """So many harmless changes of the float32 reference, all different."""
    first = [_sdpa()] if can_switch_attention(network, OTHER_ATTENTION) else []
    # Seeds that no trial of a ladder of less than a thousand seeds carries.
    return (first + [_jitter(network, FIRST_SEED + seed) for seed in range(number)])[:number]


def all_of_scores(network: PreTrainedModel, prepared: Prepared, number: int) -> list[Change]:
    """So many harmless changes of a whole check, all different: attention, batches, last bits."""
    other, shape = _other_attention(network), prepared.in_another_shape()
    real = [] if other is None else [other]
    if shape is not None:
        real.append(
            Change(
                what=f"batches {shape.batch_shapes}",
                context=nullcontext,
                batch_tokens=shape.batch_tokens,
            )
        )
    return (real + [_last_bits(network, FIRST_SEED + seed) for seed in range(number)])[:number]


def _other_attention(network: PreTrainedModel) -> Change | None:
    other = "eager" if attention_of(network) != "eager" else OTHER_ATTENTION
    if not can_switch_attention(network, other):
        return None
    return Change(what=f"attention {other}", context=partial(with_attention, network, other))


def _last_bits(network: PreTrainedModel, seed: int) -> Change:
    number = FIRST_SEED + seed
    return Change(what=f"last bits, seed {number}", context=partial(flipped_last_bits, network, number))


def _sdpa() -> Change:
    return Change(what=f"attention {OTHER_ATTENTION}", context=nullcontext, attention=OTHER_ATTENTION)


def _jitter(network: PreTrainedModel, seed: int) -> Change:
    number = FIRST_SEED + seed
    if seed % 2 and any(name.endswith("inv_freq") for name, _ in network.named_buffers()):
        return Change(
            what=f"last bit of inv_freq, seed {number}", context=partial(jittered_frequencies, network, number)
        )
    return Change(what=f"last bit of layer outputs, seed {number}", context=partial(jittered_layers, network, number))
