"""How much of the machine an evaluation used: its FLOP/s over those of matrix products of the model's own shapes.

The products are done in small portions within the very run that they are compared with: in front of some of the model's
own products, an eighth of that product. Whatever takes cores or clocks away takes them from both, so a busy machine
moves their ratio much less than it moves tokens a second.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.evaluation.ranks import is_split
from esa_pytest.evaluation.timing import Stopwatch
from esa_pytest.records import Batch

# An eighth of a product, for one product in five: a fortieth of the time of all of them, and less of a run's, which
# does more than products.
PART = 8
LEAST_APART = 5
# A narrower product is another kernel's.
LEAST_COLUMNS = 64


@dataclass(frozen=True, kw_only=True)
class Portion:
    """One matrix product that was timed.

    Attributes:
        shape: which product it is a part of; those of one shape do the same work.
        flops: floating-point operations.
        seconds: how long it took.
    """

    shape: tuple[int, ...]
    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What the matrix products of a run took.

    Attributes:
        flops_per_second: of all portions together.
        error: relative standard error of it, by how portions of one shape differ; infinite where none can be compared.
        freedom: how many comparisons that rests on.
    """

    flops_per_second: float
    error: float
    freedom: int


class Yardstick:
    """Does portions of matrix products while a network runs, and knows afterwards how long they took."""

    def __init__(self, network: PreTrainedModel, watch: Stopwatch) -> None:
        self._watch = watch
        # What a layer takes lies whole on each rank, and a matrix that is split does not: there is no product of them.
        layers = [] if is_split(network) else [layer for _, layer in decoder_layers(network)]
        self._products: list[tuple[nn.Module, Tensor]] = [
            (m, m.weight) for layer in layers for m in layer.modules() if isinstance(m, nn.Linear)
        ]
        each = len(self._products) // len(layers) + 1 if layers else 1
        if self._products:
            # The head is applied apart from its module: each layer does its share of it.
            head = network.get_output_embeddings().weight
            self._products += [(layer, head[: math.ceil(len(head) / len(layers))]) for layer in layers]
        self._apart = _coprime(each)
        self._calls = 0
        self._marked: list[tuple[int, int, tuple[int, ...], float]] = []

    @contextmanager
    def laid(self) -> Iterator[None]:
        """Do a portion in front of every so many products of the network; no device is made to wait."""
        handles = [
            module.register_forward_pre_hook(self._hook(matrix), with_kwargs=True) for module, matrix in self._products
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def portions(self, begin: int, end: int) -> list[Portion]:
        """Those between two marks of the stopwatch."""
        return [
            Portion(shape=shape, flops=flops, seconds=self._watch.seconds(first, last))
            for first, last, shape, flops in self._marked
            if begin <= first and last <= end
        ]

    def _hook(self, matrix: Tensor) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            # Counted across batches and layers, and of no common divisor with a layer's products: each has its turn.
            self._calls += 1
            values = next((value for value in (*inputs, *named.values()) if isinstance(value, Tensor)), None)
            if self._calls % self._apart == 0 and values is not None:
                self._measure(values, matrix)

        return before

    def _measure(self, values: Tensor, matrix: Tensor) -> None:
        if (values.dtype, values.device, values.shape[-1]) != (matrix.dtype, matrix.device, matrix.shape[1]):
            return
        part = matrix[: max(LEAST_COLUMNS, len(matrix) // PART)]
        begin = self._watch.mark()
        linear(values, part)
        end = self._watch.mark()
        shape = (values.numel() // values.shape[-1], *part.shape)
        self._marked.append((begin, end, shape, 2.0 * math.prod(shape)))


def ceiling_of(portions: Sequence[Portion]) -> Ceiling | None:
    """The rate of some portions together, and how far it can be believed; None of no portions."""
    if not portions or not all(portion.seconds > 0 for portion in portions):
        return None
    by_shape: dict[tuple[int, ...], list[float]] = {}
    for portion in portions:
        by_shape.setdefault(portion.shape, []).append(portion.seconds)
    usual = {shape: statistics.fmean(times) for shape, times in by_shape.items()}
    seconds = sum(portion.seconds for portion in portions)
    freedom = len(portions) - len(by_shape)
    error = math.inf
    if freedom > 0:
        # The spread of a portion about what is usual of its shape, as a share of that; then of the sum of all.
        spread = sum((p.seconds / usual[p.shape] - 1) ** 2 for p in portions) / freedom
        error = math.sqrt(spread * sum(usual[p.shape] ** 2 for p in portions)) / seconds
    return Ceiling(flops_per_second=sum(portion.flops for portion in portions) / seconds, error=error, freedom=freedom)


def _coprime(number: int) -> int:
    """The least distance between portions that has no divisor in common with a number."""
    return next(apart for apart in range(LEAST_APART, LEAST_APART + number + 1) if math.gcd(apart, number) == 1)


def forward_flops(network: PreTrainedModel, batches: tuple[Batch, ...]) -> float:
    """Floating-point operations of scoring some batches, one multiply-add counted as two.

    Every weight matrix but the embedding table takes part once a token, the head once a scored token, and causal
    attention adds `2 * hidden * context_length` a token and layer (half of the square: PaLM, appendix B).
    """
    config = network.config.get_text_config()
    head = network.get_output_embeddings().weight
    matrices = sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if parameter.dim() == 2 and parameter is not head and parameter is not network.get_input_embeddings().weight
    )
    total = 0.0
    for batch in batches:
        windows, context_length = batch.input_ids.shape
        attention = 2 * config.num_hidden_layers * config.hidden_size * context_length
        total += windows * context_length * (2 * matrices + attention) + 2 * batch.num_scored * head.numel()
    return total
