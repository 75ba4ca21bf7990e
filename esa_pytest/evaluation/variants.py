"""Changes that must not matter: other kernels, and rounding errors of the smallest size, each undone on leaving."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from esa_pytest.evaluation.finiteness import decoder_layers

# One flipped bit of one weight often changes nothing; so many always reach every token, and mean nothing either.
FLIPPED_WEIGHTS = 64
# Variables that lead torch and oneDNN to the kernels of a smaller processor, the nearest to this one first.
_SMALLER_PROCESSORS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    # what torch must be able to do for it to be smaller, its name, the variables
    ("AVX512", "avx512 without bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    ("AVX512", "avx2", {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
    ("AVX2", "baseline x86-64", {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    ("AVX2", "that MKL has everywhere", {"MKL_CBWR": "COMPATIBLE"}),
)


def smaller_processors() -> dict[str, Mapping[str, str]]:
    """Instruction sets that this machine has beside its own, by name, with the variables that choose them."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        name: variables
        for needed, name, variables in _SMALLER_PROCESSORS
        if needed == capability or (needed == "AVX2" and capability == "AVX512")
    }


@contextmanager
def flipped_last_bits(network: PreTrainedModel, seed: int) -> Iterator[None]:
    """Flip the last bit of some weights of the first layer: a difference of 2^-8 of each, as a rounding would make."""
    matrices = [p.data for p in _first_block(network).parameters() if p.dim() == 2 and p.element_size() == 2]
    generator = torch.Generator().manual_seed(seed)
    flipped: list[tuple[torch.Tensor, int]] = []
    try:
        for _ in range(FLIPPED_WEIGHTS):
            matrix = matrices[int(torch.randint(len(matrices), (), generator=generator))]
            place = int(torch.randint(matrix.numel(), (), generator=generator))
            _flip(matrix, place)
            flipped.append((matrix, place))
        yield
    finally:
        for matrix, place in flipped:
            _flip(matrix, place)


def _flip(matrix: torch.Tensor, place: int) -> None:
    """Flip the last bit of one bf16 number; twice is never."""
    row, column = divmod(place, matrix.shape[1])
    matrix.view(torch.int16)[row, column] ^= 1


def _first_block(network: PreTrainedModel) -> nn.Module:
    return decoder_layers(network)[0][1]


def sdp_backends() -> dict[str, Mapping[str, bool]]:
    """Each backend of scaled-dot-product attention on CUDA alone, by name, as switches of `determinism`."""
    names = ("flash", "mem_efficient", "math")
    return {name: {f"sdp.{other}": other == name for other in names} for name in names}
