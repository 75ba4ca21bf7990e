"""Every refusal of the hub has its class and its sentence, and nothing but safetensors is ever fetched."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load, save

from esa_pytest.baselines.sources import FolderModel
from esa_pytest.errors import (
    CheckpointError,
    EsaError,
    GatedModelError,
    ModelUnavailableError,
    RemoteCodeError,
    RevisionMissingError,
    UnsafeWeightsError,
)
from esa_pytest.evaluation import hub as hub_module
from esa_pytest.evaluation.availability import Availability, availability
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.hashing import INDEX_FILE
from esa_pytest.evaluation.hub import Hub, cached_snapshot
from esa_pytest.evaluation.loading import load_model
from tests.model.fake_hub import MODEL, TWINS, FakeHub, Refusal, twin_files

pytestmark = pytest.mark.usefixtures("own_cache")
TWIN = "llama-3.1-8b@tiny"


def _sentence(kind: type[EsaError]) -> str:
    with pytest.raises(kind) as caught:
        Hub().snapshot(MODEL)
    assert type(caught.value) is kind
    return str(caught.value)


def test_a_model_is_fetched_once_and_then_read_from_the_cache(fake_hub: FakeHub, hub_cache: Path) -> None:
    others = ("pytorch_model.bin", "modeling.py", "README.md", "consolidated.safetensors", "original/params.json")
    fake_hub.files = twin_files(TWIN) | dict.fromkeys(others, b"not to be fetched")
    assert availability(MODEL, hub=Hub()) == Availability(state="to be fetched")
    checkpoint = locate(MODEL, hub=Hub())
    assert hub_cache in checkpoint.folder.parents
    assert {path.name for path in checkpoint.folder.iterdir()} == set(twin_files(TWIN))
    network = load_model("fetched", checkpoint, device=torch.device("cpu")).network
    assert type(network).__name__ == "LlamaForCausalLM"
    assert not [question for question in fake_hub.asked if question.endswith(others)]
    num_asked = len(fake_hub.asked)
    assert locate(MODEL, hub=Hub()) == checkpoint
    assert len(fake_hub.asked) == num_asked


def test_shards_of_older_names_are_fetched_with_their_index(fake_hub: FakeHub) -> None:
    """As some hold them, `model.safetensors-00001-of-00002.safetensors`; and so is a vocabulary in vocab.txt."""
    files = twin_files(TWIN)
    tensors = load(files.pop("model.safetensors"))
    shards = {f"model.safetensors-0000{number + 1}-of-00002.safetensors": list(tensors)[number::2] for number in (0, 1)}
    weight_map = {tensor: name for name, shard in shards.items() for tensor in shard}
    wanted = files | {name: save({tensor: tensors[tensor] for tensor in shard}) for name, shard in shards.items()}
    wanted |= {INDEX_FILE: json.dumps({"metadata": {}, "weight_map": weight_map}).encode(), "vocab.txt": b"a\n"}
    fake_hub.files = wanted | dict.fromkeys(("model.fp16.safetensors", "consolidated.safetensors"), b"another copy")
    checkpoint = locate(MODEL, hub=Hub())
    assert {path.name for path in checkpoint.folder.iterdir()} == set(wanted)
    assert checkpoint.weights_sha256 == locate(FolderModel(path=TWINS / TWIN), hub=Hub()).weights_sha256
    assert cached_snapshot(MODEL) == checkpoint.folder


def test_a_gated_model_without_a_token(fake_hub: FakeHub) -> None:
    fake_hub.files, fake_hub.gated = twin_files(TWIN), "manual"
    assert _sentence(GatedModelError) == (
        f"The model somebody/a-model is gated and no token is set; accept its licence at "
        f"{fake_hub.endpoint}/somebody/a-model and set HF_TOKEN to a token of that account."
    )
    assert not [question for question in fake_hub.asked if "/resolve/" in question]


def test_a_gated_model_with_a_token_that_has_no_access(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    fake_hub.files, fake_hub.gated = twin_files(TWIN), "manual"
    fake_hub.of_files = Refusal(status=403, code="GatedRepo", message="Access to the model is restricted")
    assert _sentence(GatedModelError) == (
        f"The model somebody/a-model is gated and the token that is set has no access; accept its licence at "
        f"{fake_hub.endpoint}/somebody/a-model and set HF_TOKEN to a token of that account."
    )


def test_a_gated_model_with_a_token_that_has_access(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_friend")
    fake_hub.files, fake_hub.gated = twin_files(TWIN), "auto"
    assert (Hub().snapshot(MODEL) / "model.safetensors").is_file()


def test_a_commit_that_is_not_there(fake_hub: FakeHub) -> None:
    fake_hub.of_repository = Refusal(status=404, code="RevisionNotFound", message="Invalid rev id")
    assert _sentence(RevisionMissingError) == (
        "The repository somebody/a-model has no commit 0123456789abcdef0123456789abcdef01234567; correct the revision "
        "in [tool.esa.models]."
    )


@pytest.mark.parametrize("status", [401, 404])
def test_a_repository_that_is_not_there_or_private(fake_hub: FakeHub, status: int) -> None:
    fake_hub.of_repository = Refusal(status=status, code="RepoNotFound", message="Repository not found")
    assert _sentence(RevisionMissingError) == (
        "The hub has no repository somebody/a-model, or it is private and no token with access is set; correct its "
        "name in [tool.esa.models], or set HF_TOKEN."
    )


def test_a_repository_of_pickles(fake_hub: FakeHub) -> None:
    fake_hub.files = {"config.json": b"{}", "pytorch_model.bin": b"pickled", "tokenizer.json": b"{}"}
    assert _sentence(UnsafeWeightsError) == (
        "The repository somebody/a-model at 0123456789ab has no safetensors, only pytorch_model.bin and the like; "
        "pickled weights are never loaded, so pin a commit that has safetensors, or convert it and name the folder as "
        "path."
    )
    assert not [question for question in fake_hub.asked if "/resolve/" in question]


def test_a_repository_without_weights(fake_hub: FakeHub) -> None:
    fake_hub.files = {"config.json": b"{}", "README.md": b"soon"}
    assert _sentence(UnsafeWeightsError) == (
        "The repository somebody/a-model at 0123456789ab has no safetensors, no weights; pickled weights are never "
        "loaded, so pin a commit that has safetensors, or convert it and name the folder as path."
    )


def test_a_model_with_code_of_its_own_is_refused_before_its_weights_are_fetched(fake_hub: FakeHub) -> None:
    config = {"model_type": "of-its-own", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    fake_hub.files = twin_files(TWIN) | {"config.json": json.dumps(config).encode(), "modeling.py": b"code"}
    assert _sentence(RemoteCodeError) == (
        f"The model somebody/a-model needs code of its own: transformers {transformers.__version__} does not know the "
        f"architecture 'of-its-own', and code from a repository is never run; use a model or a release of "
        f"transformers that does without."
    )
    assert not [question for question in fake_hub.asked if question.endswith((".safetensors", ".py"))]


def test_an_architecture_that_transformers_does_not_know(fake_hub: FakeHub) -> None:
    fake_hub.files = twin_files(TWIN) | {"config.json": b'{"model_type": "tomorrow"}'}
    assert _sentence(CheckpointError) == (
        f"The model somebody/a-model has the architecture 'tomorrow', which transformers {transformers.__version__} "
        f"does not know; upgrade transformers, or correct its config.json."
    )


def test_a_config_that_is_nested_too_deep_is_no_hub_that_breaks(fake_hub: FakeHub) -> None:
    fake_hub.files = twin_files(TWIN) | {"config.json": b"[" * 100_000}
    assert "config.json is no JSON (maximum recursion depth exceeded" in _sentence(CheckpointError)


def test_a_known_architecture_with_code_beside_it_is_loaded_without_the_code(fake_hub: FakeHub) -> None:
    """As that of Phi-3, whose repository brings modelling code from before transformers knew it."""
    files = twin_files(TWIN)
    config = json.loads(files["config.json"]) | {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    fake_hub.files = files | {"config.json": json.dumps(config).encode(), "modeling.py": b"raise SystemExit"}
    network = load_model("plain", locate(MODEL, hub=Hub()), device=torch.device("cpu")).network
    assert type(network).__module__.startswith("transformers.models.llama")
    assert not [question for question in fake_hub.asked if question.endswith(".py")]


def test_any_other_refusal_is_told_as_it_came(fake_hub: FakeHub) -> None:
    fake_hub.of_repository = Refusal(status=418, message="a teapot")
    sentence = _sentence(ModelUnavailableError)
    assert sentence.startswith(
        "The model somebody/a-model at 0123456789ab could not be fetched from the hub (HfHubHTTPError: "
    )
    assert "418" in sentence
    assert sentence.endswith("); try again, and check the network and the space on the disk.")


def _is_unavailable(cause: str = "") -> None:
    sentence = _sentence(ModelUnavailableError)
    assert sentence.startswith(f"The model somebody/a-model at 0123456789ab could not be fetched from the hub ({cause}")
    assert sentence.endswith("); try again, and check the network and the space on the disk.")


def test_a_hub_that_hangs_up_is_unavailable(fake_hub: FakeHub) -> None:
    fake_hub.files, fake_hub.hangs_up = twin_files(TWIN), True
    _is_unavailable()


def test_an_answer_of_something_else_than_a_hub_is_unavailable(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a proxy, say, which answers everything."""
    monkeypatch.setattr(fake_hub, "answer", lambda _: ({"Content-Type": "application/json"}, b"[]"))
    _is_unavailable()


def test_a_transfer_that_a_library_below_gives_up_is_unavailable(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*_: object, **__: object) -> None:
        message = "Data processing error: File reconstruction error.\nCaused by: a timeout"
        raise RuntimeError(message)

    fake_hub.files = twin_files(TWIN)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", give_up)
    monkeypatch.setattr(hub_module, "cached_snapshot", lambda _: None)
    _is_unavailable("RuntimeError: Data processing error: File reconstruction error); ")


def test_a_transfer_that_breaks_off_leaves_no_model(fake_hub: FakeHub) -> None:
    fake_hub.files = twin_files(TWIN)
    fake_hub.missing = {"model.safetensors"}
    assert _sentence(ModelUnavailableError).startswith(
        "The model somebody/a-model at 0123456789ab could not be fetched"
    )
    assert cached_snapshot(MODEL) is None
    fake_hub.missing = set()
    weights = (Hub().snapshot(MODEL) / "model.safetensors").read_bytes()
    assert weights == fake_hub.files["model.safetensors"]
