"""The models that incidents are replayed with: what they score, and which of their modules are looked at."""

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from esa_pytest.baselines.catalog import Baseline, baseline_of, load_catalog
from esa_pytest.evaluation.checkpoints import Checkpoint
from esa_pytest.evaluation.fingerprints import fingerprinted_modules
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.quiet import quiet_transformers
from esa_pytest.measuring.shelf import ModelShelf
from tests.incidents.train import MODELS, OPT, QWEN2

TWINS = Path(__file__).parents[1] / "twins"
LLAMA, PYTHIA, PHI = "llama-3.1-8b@tiny", "pythia-1.4b@tiny", "phi-3-mini-4k-instruct@tiny"
MISTRAL, WINDOWED = "mistral-7b-v0.3@tiny", "mistral-7b-v0.3@tiny-window"
# Without a window Mistral is a Llama, and its twin's weights make one without RoPE scaling, which 4.31 can load.
PLAIN_LLAMA = "llama@tiny"
FAMILIES = (PLAIN_LLAMA, LLAMA, MISTRAL, WINDOWED, PHI, PYTHIA, QWEN2, OPT)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A tiny trained model with its smoke baseline.

    Attributes:
        name: as `opt@tiny`.
        baseline: its smoke baseline on the CPU.
        checkpoint: its folder, in the layout that transformers 4 and 5 both read, and hashes.
        prepared: what the baseline scores.
        points: names of the modules that leave a fingerprint, in the order of the network.
    """

    name: str
    baseline: Baseline
    checkpoint: Checkpoint
    prepared: Prepared
    points: tuple[str, ...]


@cache
def workspace() -> Path:
    """A folder for what this process makes, removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="esa-incidents-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def subject_of(name: str, *, context_length: int | None = None, one_window: bool = False) -> Subject:
    """A model of `FAMILIES`, prepared once.

    Args:
        name: of the model.
        context_length: of its windows, where that is not to be its baseline's.
        one_window: whether only the window is scored that the reference looks at.
    """
    subject = subject_in(name, _folder(name), context_length=context_length)
    if not one_window:
        return subject
    prepared = subject.prepared
    return replace(subject, prepared=prepared.only(np.array([prepared.probe_window], dtype=np.int32)))


def subject_in(name: str, folder: Path, *, context_length: int | None = None) -> Subject:
    """The model of a checkpoint folder."""
    bos = "none" if name in (PYTHIA, QWEN2, OPT) else "window"
    types = {} if context_length is None else {"smoke": {"context_lengths": [context_length]}}
    catalog = load_catalog({"models": {name: {"path": str(folder), "bos": bos}}, "types": types}, folder=folder)
    baseline = baseline_of(name, "smoke", catalog)
    shelved = ModelShelf(device="cpu").get(baseline)
    return Subject(
        name=name,
        baseline=baseline,
        checkpoint=shelved.checkpoint,
        prepared=prepare_for(shelved.model, baseline, hub=shelved.hub),
        points=tuple(point for point, _ in fingerprinted_modules(shelved.model.network)),
    )


def saved_by_this_release(name: str) -> Path:
    """The checkpoint as the installed transformers writes it, config.json included; the tokenizer goes along."""
    folder = workspace() / f"saved-{name}"
    with quiet_transformers():
        network = AutoModelForCausalLM.from_pretrained(_folder(name), dtype=torch.bfloat16, local_files_only=True)
        network.save_pretrained(folder)
    for file in _folder(name).glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def _folder(name: str) -> Path:
    if name == PLAIN_LLAMA:
        return _plain_llama(workspace() / name)
    return (MODELS if name in (QWEN2, OPT) else TWINS) / name


def _plain_llama(folder: Path) -> Path:
    """The Mistral twin under the name of a Llama."""
    if not folder.is_dir():
        shutil.copytree(TWINS / MISTRAL, folder)
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
        del config["sliding_window"]
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder
