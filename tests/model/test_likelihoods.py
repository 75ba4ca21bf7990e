"""What is read of rows of logits, against the plainest way to read them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from esa_pytest.evaluation.likelihoods import TOP_K, BatchScores, LogitsReader

# Below a group, a group, one more, several groups and a rest.
VOCABULARIES = (3, 128, 129, 1000)


def drawn(rows: int, vocabulary: int, *, seed: int = 1, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits in bf16, of which many are equal, and targets."""
    draw = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, vocabulary, generator=draw) * scale).bfloat16()
    return logits, torch.randint(0, vocabulary, (rows,), generator=draw)


def read(logits: Tensor, targets: Tensor, *, sampled: Tensor | None = None, probabilities: bool = False) -> BatchScores:
    reader = LogitsReader(logits, rows=len(logits))
    return reader.read(logits, targets, sampled=sampled, probabilities=probabilities)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 5),
    vocabulary=st.integers(1, 700),
    seed=st.integers(0, 2**31),
    # From all equal to far beyond what exp can hold.
    scale=st.sampled_from([0.0, 0.01, 1.0, 30.0, 1e30]),
)
def test_scores_are_those_of_the_plain_formula(rows: int, vocabulary: int, seed: int, scale: float) -> None:
    logits, targets = drawn(rows, vocabulary, seed=seed, scale=scale)
    scores = read(logits, targets)
    expected = -logits.double().log_softmax(dim=-1).gather(-1, targets[:, None])[:, 0]
    # Beside a logit of 1e30 a float64 sum is known to 1e14, and so is its difference to the target's.
    rounding = 4 * torch.finfo(torch.float64).eps * float(logits.abs().max())
    torch.testing.assert_close(scores.nll.double(), expected, rtol=1e-7, atol=rounding)
    assert torch.equal(scores.argmax.long(), logits.argmax(dim=-1))
    assert scores.finite.all()


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_likeliest_tokens_are_the_likeliest(vocabulary: int) -> None:
    logits, targets = drawn(40, vocabulary)
    scores = read(logits, targets)
    k = min(TOP_K, vocabulary)
    log_probability = logits.double().log_softmax(dim=-1)
    torch.testing.assert_close(scores.top_log_probability, log_probability.topk(k).values.float(), rtol=1e-6, atol=1e-6)
    # Among equal ones any may be kept, so the ids are asked what they stand for, and to be different.
    torch.testing.assert_close(
        log_probability.gather(-1, scores.top_ids.long()).float(), scores.top_log_probability, rtol=1e-6, atol=1e-6
    )
    assert all(len(set(ids)) == k for ids in scores.top_ids.tolist())


def test_the_first_of_equal_logits_is_the_argmax() -> None:
    logits = torch.zeros(3, 1000, dtype=torch.bfloat16)
    logits[1, [700, 260, 259]] = 2.0
    logits[2] = -5.0
    logits[2, [999, 131]] = -4.0
    assert read(logits, torch.zeros(3, dtype=torch.long)).argmax.tolist() == [0, 259, 131]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 127, 128, 999])
@pytest.mark.parametrize("probabilities", [False, True])
def test_a_row_with_what_is_no_number_is_told_apart(bad: float, place: int, *, probabilities: bool) -> None:
    logits, targets = drawn(4, 1000)
    logits[2, place] = bad
    scores = read(logits, targets, probabilities=probabilities)
    assert scores.finite.tolist() == [True, True, False, True]
    good = [0, 1, 3]
    assert torch.equal(scores.nll[good], read(logits[good], targets[good]).nll)
    if bad != -math.inf:
        assert int(scores.argmax[2]) == place


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_ids_stay_in_the_vocabulary_where_no_logit_is_a_number(vocabulary: int) -> None:
    logits = torch.full((2, vocabulary), -torch.inf, dtype=torch.bfloat16)
    scores = read(logits, torch.zeros(2, dtype=torch.long), probabilities=True)
    assert not scores.finite.any()
    assert int(scores.top_ids.max()) < vocabulary
    assert int(scores.argmax.max()) < vocabulary


@pytest.mark.parametrize("probabilities", [False, True])
def test_sampled_rows_have_what_they_have_when_all_are_kept(*, probabilities: bool) -> None:
    logits, targets = drawn(9, 1000)
    every = read(logits, targets, probabilities=probabilities)
    for chosen in ([], [0], [2, 5, 8]):
        some = read(logits, targets, sampled=torch.tensor(chosen, dtype=torch.long), probabilities=probabilities)
        assert torch.equal(some.top_ids, every.top_ids[chosen])
        assert torch.equal(some.top_log_probability, every.top_log_probability[chosen])
        assert torch.equal(some.nll, every.nll)


def test_nothing_is_left_in_the_buffers_of_the_rows_before() -> None:
    logits, targets = drawn(8, 300)
    reader = LogitsReader(logits, rows=8)
    # What is returned belongs to the caller, too: the second call must not change the first one's.
    first = reader.read(logits * 50, targets, sampled=None, probabilities=True)
    kept = first.nll.clone(), first.top_ids.clone()
    second = reader.read(logits[:3], targets[:3], sampled=None, probabilities=True)
    alone = read(logits[:3], targets[:3], probabilities=True)
    for name in ("nll", "argmax", "finite", "top_ids", "top_log_probability", "probabilities"):
        assert torch.equal(getattr(second, name), getattr(alone, name)), name
    assert torch.equal(first.nll, kept[0])
    assert torch.equal(first.top_ids, kept[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_logits_of_any_precision_lose_none_of_it(dtype: torch.dtype) -> None:
    logits = torch.randn(6, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).to(dtype)
    # As far apart as only this precision tells.
    logits[:, 77] = logits.amax(dim=-1).nextafter(torch.tensor(9.0, dtype=dtype)) if dtype.itemsize > 2 else 9.0
    scores = read(logits, torch.full((6,), 5))
    assert scores.argmax.tolist() == [77] * 6
    assert torch.equal(scores.nll, -logits.double().log_softmax(dim=-1)[:, 5].float())
