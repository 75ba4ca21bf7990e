"""Where the memory does not suffice everything is scored again in smaller batches, and nothing of it is lost."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import InsufficientMemoryError
from esa_pytest.evaluation import prefill
from esa_pytest.evaluation.evaluate import Round, evaluate, ran_out_of_memory
from esa_pytest.evaluation.likelihoods import BatchScores
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.scoring import score_batch
from tests.model.tiny import evaluate_tiny, prepare_tiny, tiny_baseline

# Each is made anew: an exception keeps the traceback of where it was raised, and all that hangs on it.
SHORTAGES: dict[str, Callable[[], Exception]] = {
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "accelerate": lambda: RuntimeError("CUDA out of memory."),
    "cpu": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
    "cudnn": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."),
    "python": MemoryError,
}


class Short:
    """In the place of `score_batch`: fails at one batch of the first attempt, or at every batch above a size."""

    def __init__(self, error: Callable[[], Exception], *, at: int | None = None, above: int = 0) -> None:
        self.sizes: list[int] = []
        self.results: list[weakref.ref[Tensor]] = []
        self.alive_when_tried_again: list[int] = []
        self._error, self._at, self._above = error, at, above
        self._failed = False

    def __call__(self, network: PreTrainedModel, input_ids: Tensor, targets: Tensor, **options: Any) -> BatchScores:
        if self._failed:
            self.alive_when_tried_again.append(sum(result() is not None for result in self.results))
            self.results, self._failed = [], False
        self.sizes.append(len(input_ids))
        fails = len(input_ids) > self._above if self._at is None else len(self.sizes) == self._at + 1
        scores = score_batch(network, input_ids, targets, **options)
        self.results += [weakref.ref(scores.nll), weakref.ref(scores.argmax), weakref.ref(scores.finite)]
        if fails:
            self._failed = True
            raise self._error()
        return scores


@pytest.fixture
def baseline(corpus: Path) -> Baseline:
    """Sixteen windows in four batches of four."""
    return tiny_baseline(Path(), corpus, scored_tokens={"cpu": 512}, batch_tokens={"cpu": 128}, calibration=True)


def _evaluated_short(model: LoadedModel, baseline: Baseline, short: Short, monkeypatch: pytest.MonkeyPatch) -> Round:
    monkeypatch.setattr(prefill, "score_batch", short)
    try:
        return evaluate(model, prepare_tiny(model, baseline), seed=1337, description="short", probabilities=True)
    finally:
        monkeypatch.undo()


def _evaluated_small(model: LoadedModel, baseline: Baseline, *, batch_tokens: int) -> Round:
    prepared = prepare_tiny(model, baseline).rebatched(batch_tokens)
    return evaluate(model, prepared, seed=1337, description="small", probabilities=True)


def _assert_equal(first: Round, second: Round) -> None:
    for name in ("nll", "argmax", "target", "position", "window", "stratum"):
        assert np.array_equal(getattr(first.scores, name), getattr(second.scores, name)), name
    assert first.scores.nll.tobytes() == second.scores.nll.tobytes()
    assert first.probabilities is not None
    assert second.probabilities is not None
    for name in ("confidence", "entropy", "brier", "top_k_mass"):
        assert getattr(first.probabilities, name).tobytes() == getattr(second.probabilities, name).tobytes(), name


@pytest.mark.parametrize("at", [0, 2, 3], ids=["first", "middle", "last"])
def test_a_shortage_at_any_batch_ends_as_a_run_that_began_smaller(
    llama: LoadedModel, baseline: Baseline, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    short = Short(SHORTAGES["torch"], at=at)
    done = _evaluated_short(llama, baseline, short, monkeypatch)
    _assert_equal(done, _evaluated_small(llama, baseline, batch_tokens=64))
    assert len(done.scores.nll) == 512
    assert (done.halvings, done.batch_shapes, done.prepared.batch_tokens) == (1, "2x32", 64)
    assert short.sizes == [4] * (at + 1) + [2] * 8
    # Not one result of the failed attempt was left when the next one began.
    assert short.alive_when_tried_again == [0]
    assert done.prepared.tokens_sha256() == prepare_tiny(llama, baseline).tokens_sha256()


@pytest.mark.parametrize("cause", SHORTAGES)
def test_every_sign_of_a_shortage_is_known(
    llama: LoadedModel, baseline: Baseline, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    done = _evaluated_short(llama, baseline, Short(SHORTAGES[cause], at=1), monkeypatch)
    assert (done.halvings, done.batch_shapes) == (1, "2x32")


def test_the_batch_is_halved_until_it_fits(
    llama: LoadedModel, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Short(SHORTAGES["torch"], above=1)
    done = _evaluated_short(llama, baseline, short, monkeypatch)
    _assert_equal(done, _evaluated_small(llama, baseline, batch_tokens=32))
    assert (done.halvings, done.batch_shapes) == (2, "1x32")
    assert short.sizes == [4, 2] + [1] * 16


def test_only_the_batches_that_are_too_large_become_smaller(
    llama: LoadedModel, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two context lengths the longer has a single window a batch already."""
    baseline = tiny_baseline(
        Path(), corpus, context_lengths=(16, 32), scored_tokens={"cpu": 128}, batch_tokens={"cpu": 32}
    )
    assert prepare_tiny(llama, baseline).batch_shapes == "2x16 1x32"
    done = _evaluated_short(llama, baseline, Short(SHORTAGES["torch"], at=3), monkeypatch)
    assert (done.halvings, done.batch_shapes) == (1, "1x16 1x32")


def test_a_single_window_that_is_too_much_is_told(
    llama: LoadedModel, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InsufficientMemoryError) as caught:
        _evaluated_short(llama, baseline, Short(SHORTAGES["torch"], above=0), monkeypatch)
    assert str(caught.value) == (
        "The device cpu ran out of memory with a single window a batch (1x32); free some, use a larger device, or "
        "lower context_lengths of the baseline type."
    )


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA out of memory.")]
)
def test_any_other_error_comes_through(
    llama: LoadedModel, baseline: Baseline, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    short = Short(lambda: error, at=1)
    with pytest.raises(type(error)) as caught:
        _evaluated_short(llama, baseline, short, monkeypatch)
    assert caught.value is error
    assert short.sizes == [4, 4]


def test_an_interrupt_is_no_shortage() -> None:
    assert not ran_out_of_memory(KeyboardInterrupt())


def test_a_model_that_runs_short_leaves_no_activation_behind(
    llama: LoadedModel, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traceback of the failure reaches into the model: nothing of it may live on."""
    seen: list[weakref.ref[Tensor]] = []

    def keep(_module: object, _inputs: object, output: Tensor) -> None:
        if len(output) == 4:
            seen.append(weakref.ref(output))
            raise torch.OutOfMemoryError

    llama.network.get_submodule("model.layers.1.mlp").register_forward_hook(keep)
    done = evaluate_tiny(llama, baseline)[1]
    gc.collect()
    assert done.halvings == 1
    assert [reference() for reference in seen] == [None]
