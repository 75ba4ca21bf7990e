"""Products of bf16 matrices where a processor has no bf16 arithmetic: in float32, rounded to bf16 at the end.

torch multiplies bf16 matrices a number at a time there, several times slower than float32 ones. The products of two
bf16 numbers are exact in float32, so that this is the same sum in another order.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Widened weights stay in a processor's cache from the copy to the product.
_WIDENED_ENTRIES = 4096
# Fewer are filled up: float32 products of a row or two take other kernels, whose sums round otherwise.
_LEAST_ROWS = 16
_WITHOUT_BF16 = ("AVX2", "NO AVX", "DEFAULT")
_X86 = ("x86_64", "amd64", "i386", "i686")
# Neither quantised nor spread over ranks: both are classes of their own.
PLAIN_TENSORS = (Tensor, nn.Parameter)
# As modules call them, and as `@` does.
_MATMULS = (
    torch.matmul,
    Tensor.matmul,
    Tensor.__matmul__,
    torch.bmm,
    Tensor.bmm,
    torch.addmm,
    torch.baddbmm,
)


def multiplies_bf16() -> bool:
    """Whether torch hands products of bf16 matrices to kernels made for them; on x86 from AVX-512 on."""
    return platform.machine().lower() not in _X86 or torch.backends.cpu.get_cpu_capability() not in _WITHOUT_BF16


def can_widen(*matrices: Tensor) -> bool:
    """Whether all are plain bf16 matrices of a processor that cannot multiply those; none lies on several ranks."""
    return (
        all(type(m) in PLAIN_TENSORS and m.dtype is torch.bfloat16 and m.device.type == "cpu" for m in matrices)
        and not multiplies_bf16()
    )


class WideLinear:
    """`functional.linear` of bf16 numbers, multiplied and summed in float32, in a buffer that is used again."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.float32)

    def __call__(
        self, values: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None
    ) -> Tensor:
        """Products in bf16, shape (..., outputs), of values (..., inputs) and weights (outputs, inputs) in bf16.

        They are put into `out`, of shape (rows, outputs), where that is given. A row of values has the same bits
        whatever rows are beside it.
        """
        num_outputs, num_inputs = weight.shape
        rows = values.reshape(values.numel() // num_inputs, num_inputs)
        wide = rows.float()
        if len(rows) < _LEAST_ROWS:
            wide = functional.pad(wide, (0, 0, 0, _LEAST_ROWS - len(rows)))
        products = torch.empty(len(rows), num_outputs, dtype=values.dtype) if out is None else out
        for begin in range(0, num_outputs, _WIDENED_ENTRIES):
            some = slice(begin, begin + _WIDENED_ENTRIES)
            some_bias = None if bias is None else bias[some].float()
            products[:, some] = functional.linear(wide, self._widened(weight[some]), some_bias)[: len(rows)]
        return products.reshape(*values.shape[:-1], num_outputs)

    def _widened(self, weight: Tensor) -> Tensor:
        if self._buffer.numel() < weight.numel():
            self._buffer = torch.empty(weight.numel(), dtype=torch.float32)
        return self._buffer[: weight.numel()].view(weight.shape).copy_(weight)


@contextmanager
def widened_products(*, wanted: bool) -> Iterator[bool]:
    """Let products of bf16 matrices (`linear`, `matmul`, `addmm` and their like) run in float32 within the block.

    Args:
        wanted: whether the baseline asks for it; else, and on every processor with bf16 arithmetic, nothing changes.

    Yields:
        Whether they do.
    """
    if not wanted or multiplies_bf16():
        yield False
        return
    with _Widened():
        yield True


class _Widened(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self._linear = WideLinear()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or MappingProxyType({})
        if func is functional.linear:
            if len(args) > 1 and not named.keys() - {"bias"} and can_widen(*args[:2]) and args[1].dim() == 2:
                return self._linear(*args, **named)
        elif func in _MATMULS and not named and can_widen(*args):
            return func(*(matrix.float() for matrix in args)).to(torch.bfloat16)
        return func(*args, **named)
