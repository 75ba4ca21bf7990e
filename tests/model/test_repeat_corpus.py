"""The regime of the reported figures: a short paragraph, repeated; and the warning that belongs to it."""

import warnings
from pathlib import Path

import pytest

from esa_pytest.baselines.catalog import Baseline, baseline_of, load_catalog
from esa_pytest.errors import EsaWarning
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel, load_model, resolve_device
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.preparation import limits_of, prepare
from esa_pytest.evaluation.prepared import Prepared


def _baseline(corpus: str) -> Baseline:
    smoke_of = {"types": {"smoke": {"corpora": [corpus]}}}
    return baseline_of("smollm2-135m", "smoke", load_catalog(smoke_of, folder=Path()))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    checkpoint = locate(_baseline("repeat").model, hub=Hub())
    return load_model("smollm2-135m", checkpoint, device=resolve_device("cpu"))


def _prepared(corpus: str, model: LoadedModel) -> Prepared:
    return prepare(_baseline(corpus), model.tokenizer, device_type="cpu", limits=limits_of(model.network), hub=Hub())


@pytest.mark.xdist_group("smollm2-135m")
def test_a_repeated_paragraph_gives_the_reported_regime_and_a_warning(model: LoadedModel) -> None:
    with pytest.warns(
        EsaWarning, match=r"^The corpus 'repeat' is degenerate: 9\d\.\d% of its \d-grams are repetitions "
    ):
        prepared = _prepared("repeat", model)
    metrics = compute_metrics(evaluate(model, prepared, seed=1337, description="repeat").scores)
    assert metrics.token_accuracy > 0.94
    assert metrics.perplexity < 1.4


@pytest.mark.xdist_group("smollm2-135m")
@pytest.mark.parametrize("corpus", ["embedded", "shakespeare"])
def test_running_text_gives_no_warning(corpus: str, model: LoadedModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", EsaWarning)
        assert _prepared(corpus, model).notes == ()
