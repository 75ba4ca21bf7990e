"""What lies in the hub's cache at its pinned commit needs no hub."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esa_pytest.baselines.catalog import Catalog, load_catalog
from esa_pytest.baselines.sources import HubModel
from esa_pytest.errors import HubUnreachableError
from esa_pytest.evaluation.availability import Availability, availability
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.hub import Hub, cached_snapshot
from esa_pytest.evaluation.loading import LoadedModel, load_model
from tests.model.fake_hub import TWINS, put_in_cache
from tests.model.tiny import evaluate_tiny, load_folder, tiny_baseline

pytestmark = pytest.mark.usefixtures("own_cache", "offline")
CPU = torch.device("cpu")
LLAMA = "llama-3.1-8b"
CLASSES = {
    "pythia-1.4b": "GPTNeoXForCausalLM",
    LLAMA: "LlamaForCausalLM",
    "phi-3-mini-4k-instruct": "Phi3ForCausalLM",
    "mistral-7b-v0.3": "MistralForCausalLM",
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog({}, folder=Path())


def _entry(catalog: Catalog, name: str) -> HubModel:
    entry = catalog.models[name]
    assert isinstance(entry, HubModel)
    return entry


def _loaded(entry: HubModel) -> LoadedModel:
    return load_model(entry.repo, locate(entry, hub=Hub()), device=CPU, attention=entry.attention)


@pytest.mark.parametrize("name", CLASSES)
def test_each_model_of_the_catalog_is_evaluated_from_the_cache_alone(
    name: str, catalog: Catalog, hub_cache: Path, corpus: Path
) -> None:
    entry = _entry(catalog, name)
    put_in_cache(hub_cache, entry, TWINS / f"{name}@tiny")
    model = _loaded(entry)
    baseline = tiny_baseline(Path(), corpus).model_copy(update={"model": entry})
    prepared, done = evaluate_tiny(model, baseline)
    assert type(model.network).__name__ == CLASSES[name]
    begins_with_bos = bool((prepared.batches[0].input_ids[:, 0] == model.tokenizer.bos_token_id).all())
    assert begins_with_bos is (entry.bos == "window")
    assert done.non_finite is None
    # The same tiny checkpoint as a folder gives the same.
    again = evaluate_tiny(load_folder(TWINS / f"{name}@tiny"), baseline)[1]
    assert done.scores.nll.tobytes() == again.scores.nll.tobytes()


def test_a_model_in_the_cache_is_ready(catalog: Catalog, hub_cache: Path) -> None:
    entry = _entry(catalog, LLAMA)
    put_in_cache(hub_cache, entry, TWINS / f"{LLAMA}@tiny")
    assert availability(entry, hub=Hub()) == Availability(state="ready")


def test_a_model_that_is_not_in_the_cache_is_unreachable(catalog: Catalog, hub_cache: Path) -> None:
    entry = _entry(catalog, LLAMA)
    sentence = (
        "The model meta-llama/Llama-3.1-8B at d04e592bb4f6 is not in the hub's cache, and HF_HUB_OFFLINE forbids to "
        "ask the hub; connect to the hub, or bring the cache from a machine that can (HF_HUB_CACHE)."
    )
    with pytest.raises(HubUnreachableError) as caught:
        locate(entry, hub=Hub())
    assert str(caught.value) == sentence
    assert availability(entry, hub=Hub()) == Availability(
        state="unreachable", reason="HF_HUB_OFFLINE forbids to ask the hub, and its cache lacks the model"
    )


def test_another_commit_in_the_cache_is_another_model(catalog: Catalog, hub_cache: Path) -> None:
    entry = _entry(catalog, LLAMA)
    put_in_cache(hub_cache, entry.model_copy(update={"revision": "f" * 40}), TWINS / f"{LLAMA}@tiny")
    with pytest.raises(HubUnreachableError):
        locate(entry, hub=Hub())


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The tiny Llama with its weights in several files and an index."""
    source, folder = TWINS / f"{LLAMA}@tiny", tmp_path / "sharded"
    load_folder(source).network.save_pretrained(folder, max_shard_size="1MB")
    for path in (*source.glob("tokenizer*"), source / "config.json"):
        shutil.copy(path, folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return folder


def test_weights_in_several_files_are_the_same_model(catalog: Catalog, hub_cache: Path, sharded: Path) -> None:
    entry = _entry(catalog, LLAMA)
    put_in_cache(hub_cache, entry, sharded)
    whole = load_folder(TWINS / f"{LLAMA}@tiny").network.state_dict()
    loaded = _loaded(entry).network.state_dict()
    assert loaded.keys() == whole.keys()
    assert all(torch.equal(loaded[name], whole[name]) for name in whole)


def _drop_tokenizer(snapshot: Path) -> None:
    for path in snapshot.glob("tokenizer*"):
        path.unlink()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a-shard-less": lambda snapshot: next(snapshot.glob("model-*2-of-*.safetensors")).unlink(),
    "half-an-index": lambda snapshot: (snapshot / "model.safetensors.index.json").write_text("{", encoding="utf-8"),
    "a-list-for-an-index": lambda snapshot: (snapshot / "model.safetensors.index.json").write_text("[]", "utf-8"),
    "no-index": lambda snapshot: (snapshot / "model.safetensors.index.json").unlink(),
    "no-config": lambda snapshot: (snapshot / "config.json").unlink(),
    "no-tokenizer": _drop_tokenizer,
    "no-vocabulary": lambda snapshot: (snapshot / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_incomplete_transfer_counts_as_none(damage: str, catalog: Catalog, hub_cache: Path, sharded: Path) -> None:
    entry = _entry(catalog, LLAMA)
    snapshot = put_in_cache(hub_cache, entry, sharded)
    assert cached_snapshot(entry) == snapshot
    DAMAGES[damage](snapshot)
    assert cached_snapshot(entry) is None
    with pytest.raises(HubUnreachableError, match=r"is not in the hub's cache, and HF_HUB_OFFLINE forbids"):
        locate(entry, hub=Hub())
