"""The logits of a batch are never held as a whole."""

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from esa_pytest.evaluation import scoring
from esa_pytest.evaluation.scoring import CHUNK_ROWS, rows_at_once, score_batch
from tests.model.operations import Operations
from tests.model.oracle import random_windows
from tests.model.tiny import build_network

pytestmark = pytest.mark.usefixtures("native_head")

VOCABULARY = 50_000
NUM_TOKENS = 4096
FLOAT32_LOGITS = NUM_TOKENS * VOCABULARY * 4
# In bf16.
CHUNK_LOGITS = CHUNK_ROWS * VOCABULARY * 2
# What is no logits: parameters seen through a view, activations of a tiny model.
SLACK = 12 << 20


class Allocations(Operations):
    """The largest tensor that an operation put out, and the most bytes that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = 0
        self._alive: Counter[int] = Counter()
        self._bytes: dict[int, int] = {}

    def seen(self, name: str, args: Sequence[Any], output: Any) -> None:
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        self.peak = max(self.peak, sum(self._bytes.values()))

    def _note(self, tensor: Tensor) -> None:
        self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        self._alive[address] += 1
        self._bytes[address] = storage.nbytes()
        weakref.finalize(tensor, self._forget, address)

    def _forget(self, address: int) -> None:
        self._alive[address] -= 1
        if not self._alive[address]:
            del self._alive[address], self._bytes[address]


def _scored(
    *, split_head: bool, probabilities: bool = False, num_windows: int = 1, hooked: bool = False
) -> Allocations:
    network = build_network(
        "llama", vocab_size=VOCABULARY, hidden_size=32, num_attention_heads=2, max_position_embeddings=NUM_TOKENS
    )
    if hooked:
        network.get_output_embeddings().register_forward_hook(lambda _head, _inputs, _output: None)
    input_ids, targets = random_windows(num_windows, NUM_TOKENS // num_windows, vocabulary=VOCABULARY)
    seen = Allocations()
    with seen:
        score_batch(network, input_ids, targets, split_head=split_head, probabilities=probabilities)
    return seen


@pytest.fixture(params=["as-on-a-cpu", "as-on-a-gpu"])
def float64_logits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of the float64 logits that are summed up together."""
    device = torch.device("cpu" if request.param == "as-on-a-cpu" else "cuda")
    rows = rows_at_once(device, VOCABULARY)
    monkeypatch.setattr(scoring, "rows_at_once", lambda _device, _vocabulary: rows)
    return rows * VOCABULARY * 8


def test_no_tensor_is_larger_than_a_chunk_of_logits(float64_logits: int) -> None:
    seen = _scored(split_head=True)
    largest = max(CHUNK_LOGITS, float64_logits)
    assert largest <= seen.largest <= largest + SLACK
    assert seen.largest < FLOAT32_LOGITS / 10


@pytest.mark.parametrize("hooked", [False, True])
def test_no_more_than_a_chunk_of_logits_is_alive_at_once(float64_logits: int, *, hooked: bool) -> None:
    seen = _scored(split_head=True, hooked=hooked)
    # A chunk's logits, and of some rows of it a float64 and a float32 copy.
    assert seen.peak <= CHUNK_LOGITS + 1.5 * float64_logits + SLACK
    assert seen.peak < FLOAT32_LOGITS / 5


def test_examining_the_distributions_takes_one_more_copy(float64_logits: int) -> None:
    seen = _scored(split_head=True, probabilities=True)
    assert seen.peak <= CHUNK_LOGITS + 2.5 * float64_logits + SLACK


def test_a_head_that_cannot_be_split_holds_one_window_of_logits(float64_logits: int) -> None:
    seen = _scored(split_head=False, num_windows=4)
    window = NUM_TOKENS // 4 * VOCABULARY * 2
    assert window <= seen.largest <= window + SLACK
    assert seen.peak <= window + 1.5 * float64_logits + SLACK
