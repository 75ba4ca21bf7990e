"""What the distributions were like is that of a plain float64 softmax, and examining them changes no score."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.evaluation import scoring
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.likelihoods import TOP_K
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.scoring import score_batch
from esa_pytest.records import TokenProbabilities
from tests.model.tiny import build_network, prepare_tiny, tiny_baseline


@pytest.fixture
def baseline(corpus: Path) -> Baseline:
    return tiny_baseline(Path(), corpus)


def _oracle(model: LoadedModel, baseline: Baseline) -> dict[str, Tensor]:
    """Each value in the plainest way, in float64."""
    batches = prepare_tiny(model, baseline).batches
    with torch.inference_mode():
        logits = [model.network(input_ids=torch.from_numpy(batch.input_ids)).logits for batch in batches]
    targets = torch.cat([torch.from_numpy(batch.targets).flatten() for batch in batches]).long()
    shares = torch.cat(logits).double().flatten(0, 1).softmax(dim=-1)
    one_hot = torch.nn.functional.one_hot(targets, shares.shape[-1]).double()
    return {
        "confidence": shares.max(dim=-1).values,
        "entropy": -(shares * shares.clamp_min(1e-300).log()).sum(dim=-1),
        "brier": (shares - one_hot).square().sum(dim=-1),
        "top_k_mass": shares.sort(dim=-1, descending=True).values[:, :10].sum(dim=-1),
    }


def _examined(model: LoadedModel, baseline: Baseline) -> TokenProbabilities:
    found = evaluate(
        model, prepare_tiny(model, baseline), seed=1337, description="examined", probabilities=True
    ).probabilities
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["confidence", "entropy", "brier", "top_k_mass"])
def test_each_value_is_that_of_a_float64_softmax(tiny_model: LoadedModel, baseline: Baseline, name: str) -> None:
    value = getattr(_examined(tiny_model, baseline), name)
    assert value.dtype == np.float32
    expected = _oracle(tiny_model, baseline)[name]
    # They differ from token to token, so that a value of another token shows.
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(torch.from_numpy(value).double(), expected, rtol=1e-5, atol=1e-6)


def test_scores_have_the_same_bits_with_and_without(tiny_model: LoadedModel, baseline: Baseline) -> None:
    prepared = prepare_tiny(tiny_model, baseline)
    without, examined = (
        evaluate(tiny_model, prepared, seed=1337, description="", probabilities=wanted) for wanted in (False, True)
    )
    assert without.scores.nll.tobytes() == examined.scores.nll.tobytes()
    assert without.scores.argmax.tobytes() == examined.scores.argmax.tobytes()
    assert without.probabilities is None


@pytest.mark.parametrize("rows", [1, 7, 128])
def test_values_do_not_depend_on_how_many_rows_are_summed_up_together(
    tiny_model: LoadedModel, baseline: Baseline, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    expected = _examined(tiny_model, baseline)
    monkeypatch.setattr(scoring, "rows_at_once", lambda _device, _vocabulary: rows)
    found = _examined(tiny_model, baseline)
    for name in ("confidence", "entropy", "brier", "top_k_mass"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_model_that_knows_nothing_spreads_its_probability() -> None:
    network = build_network("llama")
    torch.nn.init.zeros_(network.get_output_embeddings().weight)
    ids = torch.arange(32)[None]
    found = score_batch(network, ids, ids, split_head=True, probabilities=True).probabilities
    assert found is not None
    share = 1 / 258
    expected = torch.tensor([share, float(np.log(258)), 258 * share**2 - 2 * share + 1, TOP_K * share])
    torch.testing.assert_close(found, expected.expand(32, 4), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("vocabulary", [3, TOP_K])
def test_no_more_tokens_than_are_asked_for_have_all_of_the_probability(vocabulary: int) -> None:
    network = build_network("llama", vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    ids = torch.arange(32)[None] % vocabulary
    found = score_batch(network, ids, ids, split_head=True, probabilities=True).probabilities
    assert found is not None
    torch.testing.assert_close(found[:, 3], torch.ones(32))
