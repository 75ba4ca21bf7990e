"""A model runs with the attention that was asked for, on the devices that were asked for, or not at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from esa_pytest.baselines.sources import FolderModel
from esa_pytest.errors import CheckpointError, DeviceError
from esa_pytest.evaluation.checkpoints import Checkpoint, locate
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_model
from esa_pytest.golden.environment import environment_of
from tests.model.tiny import load_folder, prepare_tiny, tiny_baseline

pytestmark = pytest.mark.usefixtures("own_cache")
CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(own_checkpoint: Path) -> Checkpoint:
    return locate(FolderModel(path=own_checkpoint), hub=Hub())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_attention_that_was_asked_for_is_used(checkpoint: Checkpoint, corpus: Path, attention: str) -> None:
    model = load_model("tiny", checkpoint, device=CPU, attention=attention)
    assert model.network.config._attn_implementation == attention
    done = evaluate(model, prepare_tiny(model, tiny_baseline(Path(), corpus)), seed=1337, description="")
    environment = environment_of(model, done)
    assert (environment["attention"], environment["placement"]) == (attention, "cpu")


def test_both_attentions_give_the_same_scores_but_for_rounding(checkpoint: Checkpoint, corpus: Path) -> None:
    scores = []
    for attention in ("sdpa", "eager"):
        model = load_model("tiny", checkpoint, device=CPU, attention=attention)
        model = replace(model, network=model.network.float())
        prepared = prepare_tiny(model, tiny_baseline(Path(), corpus))
        scores.append(torch.from_numpy(evaluate(model, prepared, seed=1337, description="").scores.nll))
    torch.testing.assert_close(scores[0], scores[1], rtol=0.0, atol=1e-4)


def test_an_attention_that_cannot_be_had_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be loaded: .*lash"):
        load_model("tiny", checkpoint, device=CPU, attention="flash_attention_2")


def test_an_attention_that_was_replaced_silently_is_refused(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transformers.AutoModelForCausalLM.from_pretrained

    def otherwise(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **(options | {"attn_implementation": "eager"}))

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", otherwise)
    with pytest.raises(CheckpointError) as caught:
        load_model("tiny", checkpoint, device=CPU, attention="sdpa")
    assert str(caught.value) == (
        "The model tiny runs with the attention implementation 'eager' and was asked to use 'sdpa'; set attention in "
        "[tool.esa.models] to one that its architecture has."
    )


def test_a_model_that_lies_nowhere_in_part_is_refused(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """As accelerate leaves what fits on no device."""
    network = load_folder(checkpoint.folder).network
    network.model.layers[2].to("meta")
    monkeypatch.setattr("esa_pytest.evaluation.loading._network", lambda *_arguments: network)
    with pytest.raises(DeviceError) as caught:
        load_model("tiny", checkpoint, device=CPU)
    assert str(caught.value) == (
        "The model tiny was offloaded in part (cpu meta), which no baseline is measured on; free memory on the device, "
        "or use a larger one."
    )
