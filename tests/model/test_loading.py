"""A checkpoint is loaded as it will be scored, or refused in a sentence; nothing of it is ever executed."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from esa_pytest.baselines.sources import FolderModel
from esa_pytest.errors import (
    CheckpointError,
    DeviceError,
    RemoteCodeError,
    TokenizerMismatchError,
)
from esa_pytest.evaluation.byte_tokenizer import write_byte_tokenizer
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel, dtype_of, load_model, resolve_device
from tests.model.tiny import build_network, evaluate_tiny, load_folder, tiny_baseline

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"


def _located(folder: Path) -> Checkpoint:
    return locate(FolderModel(path=folder), hub=Hub())


def _change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_model_is_loaded_in_bf16_with_sdpa_for_evaluation(tiny_model: LoadedModel) -> None:
    network = tiny_model.network
    assert dtype_of(network) == "bfloat16"
    assert network.config._attn_implementation == "sdpa"
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert {parameter.device for parameter in network.parameters()} == {CPU}


def test_float32_weights_are_loaded_in_bf16(tmp_path: Path) -> None:
    network = build_network("llama").float()
    network.save_pretrained(tmp_path)
    write_byte_tokenizer(tmp_path)
    loaded = load_folder(tmp_path).network
    assert dtype_of(loaded) == "bfloat16"
    assert torch.equal(loaded.lm_head.weight, network.lm_head.weight.bfloat16())


def test_loading_leaves_the_verbosity_of_transformers_alone(own_checkpoint: Path) -> None:
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    checkpoint = _located(own_checkpoint)
    load_model("tiny", checkpoint, device=CPU)
    (own_checkpoint / WEIGHTS).unlink()
    with pytest.raises(CheckpointError):
        load_model("tiny", checkpoint, device=CPU)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_an_adapter_beside_the_weights_is_refused(own_checkpoint: Path) -> None:
    """It would change the model where peft is installed, and no hash of the weights."""
    (own_checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        _located(own_checkpoint)
    assert str(caught.value) == (
        f"The checkpoint {own_checkpoint} holds an adapter (adapter_config.json), which is laid over the weights only "
        f"where peft is installed; merge it into them (merge_and_unload() and save_pretrained), or remove it."
    )


def test_what_packs_the_weights_belongs_to_a_models_identity(own_checkpoint: Path) -> None:
    plain = _located(own_checkpoint)
    _change_config(own_checkpoint, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    packed = _located(own_checkpoint)
    assert packed.weights_sha256 == plain.weights_sha256
    assert packed.config != plain.config
    _change_config(own_checkpoint, quantization_config=None, transformers_version="4.0.0")
    assert _located(own_checkpoint).config == plain.config | {"quantization_config": None}


def test_pickled_weights_are_refused_and_never_opened(own_checkpoint: Path, tmp_path: Path) -> None:
    with_weights = _located(own_checkpoint)
    (own_checkpoint / WEIGHTS).unlink()
    trace = tmp_path / "opened"
    (own_checkpoint / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {trace}'\ntR.".encode())
    refused: tuple[Callable[[], object], ...] = (
        lambda: _located(own_checkpoint),
        lambda: load_model("tiny", with_weights, device=CPU),
    )
    for attempt in refused:
        with pytest.raises(CheckpointError) as caught:
            attempt()
        assert str(caught.value) == (
            f"There are no safetensors weights in {own_checkpoint}; pickled weights are never loaded, so convert them "
            f"with save_pretrained(..., safe_serialization=True)."
        )
    assert not trace.exists()


@pytest.mark.parametrize("model_type", ["of-its-own", "llama"])
@pytest.mark.parametrize("tokenizer_too", [True, False])
def test_code_of_a_checkpoint_is_never_executed(
    model_type: str, *, tokenizer_too: bool, own_checkpoint: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "executed"
    (own_checkpoint / "custom.py").write_text(f"open({str(trace)!r}, 'w').close()\n", encoding="utf-8")
    code = {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"}
    _change_config(own_checkpoint, model_type=model_type, auto_map=code, architectures=["Model"])
    if tokenizer_too:
        save = {"tokenizer_class": "Custom", "auto_map": {"AutoTokenizer": ["custom.Tokenizer", "custom.Fast"]}}
        (own_checkpoint / "tokenizer_config.json").write_text(json.dumps(save), encoding="utf-8")
    if model_type == "of-its-own":
        with pytest.raises(RemoteCodeError) as caught:
            load_folder(own_checkpoint)
        assert str(caught.value) == (
            f"The model tiny needs code of its own: transformers {transformers.__version__} does not know the "
            f"architecture 'of-its-own', and code from a repository is never run; use a model or a release of "
            f"transformers that does without."
        )
    elif tokenizer_too:
        with pytest.raises(CheckpointError, match="custom code"):
            load_folder(own_checkpoint)
    else:
        # A kind of model that transformers knows is loaded by its own class.
        assert type(load_folder(own_checkpoint).network).__module__.startswith("transformers.models.llama")
    assert not trace.exists()


def test_an_unknown_kind_of_model_is_refused(own_checkpoint: Path) -> None:
    _change_config(own_checkpoint, model_type="zzz")
    with pytest.raises(CheckpointError) as caught:
        load_folder(own_checkpoint)
    assert str(caught.value) == (
        f"The model tiny has the architecture 'zzz', which transformers {transformers.__version__} does not know; "
        f"upgrade transformers, or correct its config.json."
    )


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        _located(tmp_path / "gone")
    assert str(caught.value) == (
        f"There is no checkpoint folder {tmp_path / 'gone'}; correct the path of the model in [tool.esa.models]."
    )


def test_a_folder_without_a_tokenizer_is_refused(own_checkpoint: Path) -> None:
    (own_checkpoint / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        _located(own_checkpoint)
    assert str(caught.value) == (
        f"There is no tokenizer in {own_checkpoint}; one of tokenizer.json, tokenizer.model, vocab.json, merges.txt, "
        f"vocab.txt is needed, as tokenizer.save_pretrained writes it."
    )


def test_a_folder_without_a_config_is_refused(own_checkpoint: Path) -> None:
    (own_checkpoint / "config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        _located(own_checkpoint)
    assert str(caught.value) == f"There is no config.json in {own_checkpoint}; is it a transformers checkpoint?"


def test_a_damaged_config_is_refused(own_checkpoint: Path) -> None:
    (own_checkpoint / "config.json").write_text('{"model_type": ', encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        _located(own_checkpoint)
    assert str(caught.value) == (
        f"{own_checkpoint / 'config.json'} is no JSON (Expecting value: line 1 column 16 (char 15)); fetch it anew."
    )


def test_the_config_is_kept_without_what_names_its_writer(own_checkpoint: Path) -> None:
    content = json.loads((own_checkpoint / "config.json").read_text(encoding="utf-8"))
    assert content.pop("transformers_version")
    _change_config(own_checkpoint, transformers_version="0.1", _name_or_path="elsewhere")
    assert _located(own_checkpoint).config == content


def test_a_limit_of_infinity_in_the_config_can_be_kept(own_checkpoint: Path) -> None:
    _change_config(own_checkpoint, time_step_limit=[0.0, math.inf])
    assert "Infinity" in (own_checkpoint / "config.json").read_text(encoding="utf-8")
    config = _located(own_checkpoint).config
    assert config["time_step_limit"] == [0.0, "Infinity"]
    json.dumps(config, allow_nan=False)


def _drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a-tensor-less": _drop_tensor,
    "a-layer-more-in-the-config": lambda folder: _change_config(folder, num_hidden_layers=4),
    "another-kind-in-the-config": lambda folder: _change_config(folder, model_type="bert"),
    "other-shapes-in-the-config": lambda folder: _change_config(folder, hidden_size=32),
    "a-word-for-a-number": lambda folder: _change_config(folder, hidden_size="wide"),
    "a-list-for-a-config": lambda folder: (folder / "config.json").write_text("[]", encoding="utf-8"),
    "half-a-tokenizer": lambda folder: (folder / "tokenizer.json").write_text('{"model": ', encoding="utf-8"),
    "a-list-for-a-tokenizer": lambda folder: (folder / "tokenizer.json").write_text("[]", encoding="utf-8"),
    "half-a-tokenizer-config": lambda folder: (folder / "tokenizer_config.json").write_text("{", encoding="utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_config_and_tokenizer_that_do_not_fit_are_refused(own_checkpoint: Path, damage: str) -> None:
    """What transformers would fill with random numbers, or end in a traceback."""
    DAMAGES[damage](own_checkpoint)
    with pytest.raises(CheckpointError):
        load_folder(own_checkpoint)


def test_a_missing_tensor_is_named(own_checkpoint: Path) -> None:
    _drop_tensor(own_checkpoint)
    sentence = r"would make up 1 of its tensors, model\.layers\.1\.mlp\.up_proj\.weight first"
    with pytest.raises(CheckpointError, match=sentence):
        load_folder(own_checkpoint)


def test_tensors_of_other_shapes_are_named(own_checkpoint: Path) -> None:
    _change_config(own_checkpoint, intermediate_size=48)
    sentence = r"would make up 9 of its tensors, model\.layers\.0\.mlp\.down_proj\.weight first"
    with pytest.raises(CheckpointError, match=sentence):
        load_folder(own_checkpoint)


def test_a_head_that_is_the_embedding_need_not_be_in_the_file(tmp_path: Path) -> None:
    build_network("llama", tie_word_embeddings=True).save_pretrained(tmp_path)
    write_byte_tokenizer(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    network = load_folder(tmp_path).network
    assert network.lm_head.weight is network.model.embed_tokens.weight


def test_a_token_that_the_model_has_no_embedding_for_is_refused(tmp_path: Path, corpus: Path) -> None:
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    build_network("llama", vocab_size=40, **ids).save_pretrained(tmp_path)
    write_byte_tokenizer(tmp_path)
    model = load_folder(tmp_path)
    text = corpus.read_text(encoding="utf-8") + "\n\n"
    largest = max(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    with pytest.raises(TokenizerMismatchError) as caught:
        evaluate_tiny(model, tiny_baseline(tmp_path, corpus))
    assert str(caught.value) == (
        f"The tokenizer does not fit the model: it gives the token {largest} for the corpus 'tiny' and the model has "
        f"40 embeddings; use the tokenizer that the model was trained with."
    )


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda:7")
    assert str(caught.value) == (
        f"The device cuda:7 is not there: torch {torch.__version__} sees 0 CUDA devices; use --esa-device cpu, "
        f"or check CUDA_VISIBLE_DEVICES and the installed torch."
    )
    assert resolve_device("auto") == CPU
    assert resolve_device("cpu") == CPU
