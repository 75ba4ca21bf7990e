import math
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.evaluation.metrics import compute_metrics, frequency_loss, stratum_metrics
from esa_pytest.records import METRIC_NAMES, Metrics, TokenScores
from tests.unit.builders import STRATA, score_arrays, token_scores


def chosen(scores: TokenScores, tokens: list[int]) -> TokenScores:
    return TokenScores(**{name: array[tokens] for name, array in vars(scores).items()})


def concatenated(chunks: list[TokenScores]) -> TokenScores:
    return TokenScores(**{name: np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in vars(chunks[0])})


def bits(metrics: Metrics) -> tuple[str, int, int]:
    return metrics.nll_sum.hex(), metrics.num_scored_tokens, metrics.num_correct_tokens


@given(score_arrays(max_tokens=40), st.randoms(use_true_random=False))
def test_order_of_the_tokens_changes_no_bit(scores: TokenScores, shuffler: random.Random) -> None:
    tokens = list(range(scores.nll.size))
    shuffler.shuffle(tokens)
    assert bits(compute_metrics(chosen(scores, tokens))) == bits(compute_metrics(scores))


@given(st.lists(score_arrays(), min_size=1, max_size=6))
def test_order_of_the_chunks_changes_no_bit(chunks: list[TokenScores]) -> None:
    assert bits(compute_metrics(concatenated(chunks[::-1]))) == bits(compute_metrics(concatenated(chunks)))


@given(score_arrays(max_tokens=40))
def test_sum_is_the_exact_one_rounded_once(scores: TokenScores) -> None:
    exact = sum((Fraction(value) for value in scores.nll.tolist()), start=Fraction(0))
    assert compute_metrics(scores).nll_sum == float(exact)


def test_small_terms_are_not_lost_beside_large_ones() -> None:
    metrics = compute_metrics(token_scores([2.0**60, 1.0, -(2.0**60), 2.0**-40]))
    assert metrics.nll_sum == 1.0 + 2.0**-40


@given(score_arrays(max_tokens=40))
def test_counts_are_those_of_the_tokens(scores: TokenScores) -> None:
    metrics = compute_metrics(scores)
    pairs = list(zip(scores.argmax.tolist(), scores.target.tolist(), strict=True))
    assert metrics.num_scored_tokens == len(pairs)
    assert metrics.num_correct_tokens == sum(argmax == target for argmax, target in pairs)


@given(st.floats(-1e3, 1e5), st.integers(1, 10**6), st.integers(0, 10**6))
def test_what_people_quote_follows_from_sums_and_counts(nll_sum: float, scored: int, correct: int) -> None:
    metrics = Metrics(nll_sum=nll_sum, num_scored_tokens=scored, num_correct_tokens=correct)
    assert metrics.mean_nll == nll_sum / scored
    assert metrics.token_accuracy == correct / scored
    if nll_sum / scored < 700:
        assert metrics.perplexity == math.exp(nll_sum / scored)


def test_perplexity_is_no_mean_over_windows() -> None:
    scores = token_scores([1.0, 1.0, 3.0, 5.0, 0.25])
    windows = [chosen(scores, np.flatnonzero(scores.window == index).tolist()) for index in range(3)]
    of_windows = [compute_metrics(window) for window in windows]
    perplexity = compute_metrics(scores).perplexity
    assert perplexity == math.exp(10.25 / 5)
    assert perplexity != pytest.approx(sum(metrics.perplexity for metrics in of_windows) / 3, rel=0.01)
    assert perplexity != pytest.approx(math.exp(sum(metrics.mean_nll for metrics in of_windows) / 3), rel=0.01)


@pytest.mark.parametrize("nll_sum", [710.0, 1e300, math.inf])
def test_perplexity_that_overflows_is_infinite(nll_sum: float) -> None:
    metrics = Metrics(nll_sum=nll_sum, num_scored_tokens=1, num_correct_tokens=0)
    assert metrics.perplexity == math.inf
    assert metrics.as_dict()["perplexity"] == math.inf


def test_every_metric_has_its_name() -> None:
    metrics = Metrics(nll_sum=4.0, num_scored_tokens=2, num_correct_tokens=1)
    assert metrics.as_dict() == {
        "mean_nll": 2.0,
        "nll_sum": 4.0,
        "num_correct_tokens": 1,
        "num_scored_tokens": 2,
        "perplexity": math.exp(2.0),
        "token_accuracy": 0.5,
    }
    assert tuple(metrics.as_dict()) == METRIC_NAMES


@given(score_arrays(max_tokens=40))
def test_strata_add_up_to_the_whole(scores: TokenScores) -> None:
    whole, parts = compute_metrics(scores), stratum_metrics(scores, STRATA).values()
    assert sum(part.num_scored_tokens for part in parts) == whole.num_scored_tokens
    assert sum(part.num_correct_tokens for part in parts) == whole.num_correct_tokens
    size = math.fsum(np.abs(scores.nll).tolist())
    assert abs(math.fsum(part.nll_sum for part in parts) - whole.nll_sum) <= 1e-15 * size


def test_stratum_holds_its_own_tokens_only() -> None:
    scores = token_scores([1.0, 2.0, 4.0], argmax=[0, 9, 2], target=[0, 1, 2], stratum=[1, 0, 1])
    assert stratum_metrics(scores, ("prose", "code", "verse")) == {
        "prose": Metrics(nll_sum=2.0, num_scored_tokens=1, num_correct_tokens=0),
        "code": Metrics(nll_sum=5.0, num_scored_tokens=2, num_correct_tokens=2),
    }


def test_guessing_by_frequency_costs_the_entropy_of_the_counts() -> None:
    scores = token_scores([1.0, 2.0, 3.0, 4.0])
    even = replace(scores, target=np.array([5, 7, 5, 7], dtype=np.int32))
    assert frequency_loss(even) == pytest.approx(math.log(2))
    uneven = replace(scores, target=np.array([5, 5, 5, 7], dtype=np.int32))
    assert frequency_loss(uneven) == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert frequency_loss(replace(scores, target=np.array([5, 5, 5, 5], dtype=np.int32))) == 0.0
