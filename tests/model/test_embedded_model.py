"""The model that needs no hub: what was converted is the model, and it reads its own corpus as it should."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from esa_pytest.baselines.catalog import Baseline, Catalog, expand_matrix, load_catalog
from esa_pytest.baselines.corpus import read_corpus
from esa_pytest.baselines.sources import CorpusSource, FileCorpus, WheelModel
from esa_pytest.errors import EsaWarning
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel, dtype_of, load_model
from esa_pytest.evaluation.metrics import compute_metrics, stratum_metrics
from tests.model.tiny import prepare_tiny

NAME = "smollm2-135m"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog({}, folder=Path())


@pytest.fixture(scope="module")
def checkpoint(catalog: Catalog) -> Checkpoint:
    return locate(catalog.models[NAME], hub=Hub())


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> LoadedModel:
    return load_model(NAME, checkpoint, device=CPU)


def _baseline(catalog: Catalog, *, corpus: str, context_length: int, num_tokens: int) -> Baseline:
    (smoke,) = expand_matrix({"smoke": [NAME]}, catalog)
    changes: dict[str, Any] = {
        "corpora": (corpus,),
        "context_lengths": (context_length,),
        "scored_tokens": {"cpu": num_tokens},
    }
    return smoke.model_copy(
        update={"type": smoke.type.model_copy(update=changes), "corpora": {corpus: catalog.corpora[corpus]}}
    )


def test_weights_and_tokenizer_are_those_that_the_catalog_pins(catalog: Catalog, checkpoint: Checkpoint) -> None:
    pinned = catalog.models[NAME]
    assert isinstance(pinned, WheelModel)
    assert checkpoint.weights_sha256 == pinned.weights_sha256
    assert checkpoint.tokenizer_sha256 == pinned.tokenizer_sha256


def test_the_config_has_the_rope_base_where_every_transformers_looks(checkpoint: Checkpoint) -> None:
    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    assert config["rope_theta"] == 100_000
    assert config["rope_parameters"]["rope_theta"] == 100_000
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
    assert "quantization_config" not in config
    assert "transformers_version" not in config


def test_the_checkpoint_folder_holds_no_gguf_and_nothing_to_unpickle(checkpoint: Checkpoint) -> None:
    assert {path.suffix for path in checkpoint.folder.iterdir()} == {".json", ".safetensors"}


def test_it_is_the_llama_that_its_name_says(model: LoadedModel) -> None:
    assert type(model.network).__name__ == "LlamaForCausalLM"
    assert dtype_of(model.network) == "bfloat16"
    assert sum(parameter.numel() for parameter in model.network.parameters()) == 134_515_008
    assert model.network.config.rope_parameters["rope_theta"] == 100_000
    assert model.network.model.rotary_emb.inv_freq[1].item() == pytest.approx(100_000 ** (-2 / 64))


def test_the_tokenizer_gives_every_text_back_and_adds_nothing(model: LoadedModel) -> None:
    text = "Zürich, 1887: 1,024 µg\n\tif x != y:  # 漢字 🍎\r\n\n"
    ids = model.tokenizer(text)["input_ids"]
    assert model.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert ids == model.tokenizer(text, add_special_tokens=False)["input_ids"]
    digits = model.tokenizer("2048")["input_ids"]
    assert [model.tokenizer.decode([digit]) for digit in digits] == ["2", "0", "4", "8"]


def test_the_embedded_corpus_reads_as_running_text_in_every_stratum(model: LoadedModel, catalog: Catalog) -> None:
    # Warnings are errors here: that the corpus is running text is a part of what is tested.
    prepared = prepare_tiny(model, _baseline(catalog, corpus="embedded", context_length=256, num_tokens=6 * 256))
    done = evaluate(model, prepared, seed=1337, description="embedded")
    metrics = compute_metrics(done.scores)
    by_stratum = stratum_metrics(done.scores, prepared.strata)
    assert done.non_finite is None
    assert done.head.startswith("split")
    assert metrics.num_scored_tokens == 6 * 256
    assert 2.5 < metrics.mean_nll < 4.5
    assert set(by_stratum) == {"narrative", "code", "dialogue", "numbers", "technical", "languages"}
    losses = {name: part.mean_nll for name, part in by_stratum.items()}
    assert all(1.0 < loss < 6.0 for loss in losses.values()), losses
    assert len(set(losses.values())) == 6


def test_a_text_that_was_seen_before_is_predicted_almost_entirely(model: LoadedModel, catalog: Catalog) -> None:
    """Positions, masks and RoPE must work over a thousand tokens for that.

    The first tokens of the window, as many as the paragraph has, can only be guessed.
    """
    with pytest.warns(EsaWarning, match=r"degenerate: 9\d\.\d%"):
        prepared = prepare_tiny(model, _baseline(catalog, corpus="repeat", context_length=1024, num_tokens=1024))
    scores = evaluate(model, prepared, seed=1337, description="repeat").scores
    paragraph = len(model.tokenizer(_text_of(catalog.corpora["repeat"]) + "\n\n")["input_ids"])
    right, seen = scores.argmax == scores.target, scores.position >= paragraph
    assert (len(right), int(seen.sum())) == (1024, 1024 - paragraph)
    assert right[seen].mean() > 0.97
    assert scores.nll[seen].mean() < 0.2
    # Days of the week can be guessed, and the rest of it cannot.
    assert right[~seen].mean() < 0.7
    assert scores.nll[~seen].mean() > 10 * scores.nll[seen].mean()
    assert right.mean() > 0.85


def _text_of(source: CorpusSource) -> str:
    assert isinstance(source, FileCorpus)
    (document,) = read_corpus("text", source).documents
    return document.text
