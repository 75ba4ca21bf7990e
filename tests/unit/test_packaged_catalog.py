import json
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.baselines.catalog import Catalog, Reported, baseline_of, expand_matrix, load_catalog
from esa_pytest.baselines.sources import DatasetCorpus, FileCorpus, HubModel, RandomModel, SdistCorpus, WheelModel
from esa_pytest.golden.blocks import MOST_TOKENS
from esa_pytest.settings import tool_table

ROOT = Path(__file__).parents[2]

FIGURES = ("loss", "perplexity", "token_accuracy", "peak_vram_gib", "tokens_per_second")
HUB = {
    "pythia-1.4b": ("EleutherAI/pythia-1.4b", "fedc38a16eea3bd36a96b906d78d11d2ce18ed79", "none"),
    "llama-3.1-8b": ("meta-llama/Llama-3.1-8B", "d04e592bb4f6aa9cfee91e2e20afa771667e1d4b", "window"),
    "phi-3-mini-4k-instruct": (
        "microsoft/Phi-3-mini-4k-instruct",
        "0a67737cc96d2554230f90338b163bc6380a2a85",
        "window",
    ),
    "mistral-7b-v0.3": ("mistralai/Mistral-7B-v0.3", "caa1feb0e54d415e2df31207e5f4e273e33509b1", "window"),
}
# hidden size, intermediate size, layers, heads, key-value heads (None: as many as heads), vocabulary
SHAPES = {
    "pythia-1.4b": ("gpt_neox", 2048, 8192, 24, 16, None, 50304),
    "llama-3.1-8b": ("llama", 4096, 14336, 32, 32, 8, 128256),
    "phi-3-mini-4k-instruct": ("phi3", 3072, 8192, 32, 32, 32, 32064),
    "mistral-7b-v0.3": ("mistral", 4096, 14336, 32, 32, 8, 32768),
}
REPORTED = {
    ("pythia-1.4b", "smoke"): (0.1826, 1.2004, 0.9688, 2.86, 8507.4),
    ("llama-3.1-8b", "smoke"): (0.1084, 1.1145, 0.9761, 15.49, 5791.4),
    ("llama-3.1-8b", "standard"): (0.0248, 1.0251, 0.9944, 16.95, 24277.1),
    ("phi-3-mini-4k-instruct", "smoke"): (0.1052, 1.1110, 0.9731, 7.30, 5451.2),
    ("phi-3-mini-4k-instruct", "standard"): (0.0276, 1.0280, 0.9927, 7.64, 28336.8),
    ("mistral-7b-v0.3", "smoke"): (0.1321, 1.1412, 0.9727, 13.71, 5186.8),
    ("mistral-7b-v0.3", "standard"): (0.0295, 1.0300, 0.9934, 14.03, 25533.1),
}


def catalog(**additions: Any) -> Catalog:
    return load_catalog(additions, folder=Path("/project"))


def reported_of(model_name: str, type_name: str, **additions: Any) -> Reported | None:
    return baseline_of(model_name, type_name, catalog(**additions)).reported


def test_catalog_names_its_models_corpora_and_types() -> None:
    found = catalog()
    assert list(found.models) == ["smollm2-135m", *HUB, *(f"{name}@full" for name in HUB)]
    assert list(found.corpora) == ["embedded", "repeat", "shakespeare", "wikitext-2", "wikitext-103", "c4"]
    assert list(found.types) == ["smoke", "standard", "extended"]
    assert [name for name, kind in found.types.items() if kind.widened_products] == ["extended"]
    assert isinstance(found.models["smollm2-135m"], WheelModel)


def test_every_model_says_whether_its_windows_begin_with_a_bos() -> None:
    """Else a note would ask for it wherever a tokenizer adds one."""
    repository = load_catalog(tool_table(ROOT) or {}, folder=ROOT)
    assert {name for name, model in repository.models.items() if "bos" not in model.model_fields_set} == set()


@pytest.mark.parametrize("name", HUB)
def test_hub_models_are_pinned_to_a_commit(name: str) -> None:
    model = catalog().models[name]
    assert isinstance(model, HubModel)
    assert (model.repo, model.revision, model.bos) == HUB[name]
    assert model.attention == "sdpa"


@pytest.mark.parametrize("name", HUB)
def test_full_twin_has_the_true_shape_and_the_bos_of_its_model(name: str) -> None:
    found = catalog()
    twin = found.models[f"{name}@full"]
    assert isinstance(twin, RandomModel)
    assert twin.bos == found.models[name].bos
    shape = json.loads(twin.config.read_text(encoding="utf-8"))
    fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    assert (
        shape["model_type"],
        *(shape[field] for field in fields),
        shape.get("num_key_value_heads"),
        shape["vocab_size"],
    ) == SHAPES[name]


def test_corpora_are_of_their_sources() -> None:
    corpora = catalog().corpora
    assert [type(corpus) for corpus in corpora.values()] == [
        FileCorpus,
        FileCorpus,
        SdistCorpus,
        DatasetCorpus,
        DatasetCorpus,
        DatasetCorpus,
    ]
    assert all(corpus.path.is_file() for corpus in corpora.values() if isinstance(corpus, FileCorpus))


def test_data_sets_of_the_hub_are_pinned_to_a_commit() -> None:
    found = [corpus for corpus in catalog().corpora.values() if isinstance(corpus, DatasetCorpus)]
    assert [(corpus.repo, corpus.path) for corpus in found] == [
        ("Salesforce/wikitext", None),
        ("Salesforce/wikitext", None),
        ("allenai/c4", None),
    ]
    assert all(corpus.revision is not None for corpus in found)


def test_smoke_is_one_pass_over_the_embedded_text() -> None:
    smoke = catalog().types["smoke"]
    assert (smoke.corpora, smoke.seeds, smoke.rounds) == (("embedded",), (1337,), 1)
    assert (smoke.calibration, smoke.other_batch_shape, smoke.fresh_process) == (False, False, False)


def test_standard_asks_for_everything() -> None:
    standard = catalog().types["standard"]
    assert standard.corpora == ("embedded", "shakespeare")
    assert standard.context_lengths == (1024, 4096)
    assert standard.seeds == (1337, 123, 999)
    assert standard.scored_tokens["cuda"] == 500_000
    assert (standard.rounds, standard.calibration, standard.other_batch_shape, standard.fresh_process) == (
        2,
        True,
        True,
        True,
    )


def test_extended_asks_for_long_contexts() -> None:
    extended = catalog().types["extended"]
    assert extended.context is not None
    assert (extended.context.longest, extended.context_lengths) == ({"cpu": 8192, "cuda": 131_072}, (131_072,))
    # As many as a golden keeps one by one.
    assert extended.scored_tokens["cpu"] == 12_288 < MOST_TOKENS
    assert extended.calibration


def test_every_entry_makes_a_baseline() -> None:
    found = catalog()
    matrix: dict[str, Any] = {name: list(found.models) for name in found.types}
    baselines = expand_matrix(matrix, found)
    assert [(baseline.id, baseline.folder) for baseline in baselines] == [
        (f"{model}-{kind}", f"{model}__{kind}") for model in found.models for kind in found.types
    ]
    assert baselines[0].type == found.types["smoke"]
    assert baselines[0].corpora == {"embedded": found.corpora["embedded"]}


def test_what_is_reported_is_of_seven_baselines() -> None:
    found = catalog().reported
    assert {(model, kind) for model, kinds in found.items() for kind in kinds} == set(REPORTED)


@pytest.mark.parametrize(("model", "kind"), REPORTED)
def test_reported_figures_belong_to_their_baseline(model: str, kind: str) -> None:
    assert reported_of(model, kind) == Reported(**dict(zip(FIGURES, REPORTED[model, kind], strict=True)))


@pytest.mark.parametrize(("model", "kind"), REPORTED)
def test_reported_perplexity_is_the_exponential_of_the_reported_loss(model: str, kind: str) -> None:
    loss, perplexity, *_ = REPORTED[model, kind]
    assert perplexity == pytest.approx(2.718281828459045**loss, abs=2e-4)


@pytest.mark.parametrize(("model", "kind"), REPORTED)
def test_full_twin_is_compared_by_memory_and_throughput_alone(model: str, kind: str) -> None:
    *_, peak, speed = REPORTED[model, kind]
    assert reported_of(f"{model}@full", kind) == Reported(
        loss=None, perplexity=None, token_accuracy=None, peak_vram_gib=peak, tokens_per_second=speed
    )


@pytest.mark.parametrize("twin", ["tiny", "tiny-window", "Full", "full2"])
def test_no_other_twin_is_compared(twin: str) -> None:
    name = f"llama-3.1-8b@{twin}"
    assert reported_of(name, "smoke", models={name: {"path": "m"}}) is None


@pytest.mark.parametrize(("model", "kind"), [("pythia-1.4b", "standard"), ("smollm2-135m", "smoke")])
def test_nothing_is_made_up_where_nobody_reported(model: str, kind: str) -> None:
    assert reported_of(model, kind) is None
