"""Tiny checkpoints of real architectures, with a byte-level tokenizer, and baselines over them."""

import random
import string
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from esa_pytest.baselines.catalog import Baseline, BaselineType
from esa_pytest.baselines.sources import BosPolicy, FileCorpus, FolderModel
from esa_pytest.evaluation.byte_tokenizer import BOS_ID, EOS_ID, VOCABULARY, write_byte_tokenizer
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel, load_model
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.quiet import quiet_transformers

FAMILIES = ("llama", "gpt-neox", "phi3", "mistral")
CONTEXT_LENGTH = 32
NUM_LAYERS = 3

# Weights this large give logits that differ, so that a wrong position or label shows.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": EOS_ID,
}
_GROUPED_QUERIES: dict[str, Any] = {"num_key_value_heads": 2}
_FAMILY_CONFIGS: dict[str, Any] = {
    "llama": (transformers.LlamaConfig, _GROUPED_QUERIES),
    "gpt-neox": (transformers.GPTNeoXConfig, {"rotary_pct": 0.25, "use_parallel_residual": True}),
    "phi3": (transformers.Phi3Config, _GROUPED_QUERIES | {"sliding_window": 16}),
    "mistral": (transformers.MistralConfig, _GROUPED_QUERIES | {"sliding_window": 16}),
    "mixtral": (transformers.MixtralConfig, _GROUPED_QUERIES | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    # Learned positions, and a head that is the embedding.
    "gpt2": (transformers.GPT2Config, {"n_inner": 96}),
    # Their logits are more than the head's output: a soft-cap, a scale.
    "gemma3": (
        transformers.Gemma3TextConfig,
        _GROUPED_QUERIES | {"head_dim": 16, "query_pre_attn_scalar": 16, "final_logit_softcapping": 2.0},
    ),
    "cohere": (transformers.CohereConfig, _GROUPED_QUERIES | {"logit_scale": 0.3}),
}


def build_network(family: str, **changes: Any) -> PreTrainedModel:
    """A seeded network in bf16, in evaluation mode; `changes` replace entries of its config."""
    config_class, particular = _FAMILY_CONFIGS[family]
    config = config_class(**(_SIZES | particular | changes), attn_implementation="sdpa")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240607)
        network = transformers.AutoModelForCausalLM.from_config(config)
    return network.to(torch.bfloat16).eval()


def saved_tiny(family: str, factory: pytest.TempPathFactory) -> Path:
    """A new checkpoint folder of a family."""
    folder = factory.mktemp("checkpoints") / family
    save_tiny(family, folder)
    return folder


def save_tiny(family: str, folder: Path) -> None:
    """Write a checkpoint folder: config.json, safetensors, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        build_network(family).save_pretrained(folder)
    write_byte_tokenizer(folder)


def load_folder(folder: Path) -> LoadedModel:
    """The model of a checkpoint folder, on the CPU."""
    return load_model("tiny", locate(FolderModel(path=folder), hub=Hub()), device=torch.device("cpu"))


def running_text(length: int, *, seed: int = 0) -> str:
    """Seeded words without repetition worth speaking of, `length` ASCII characters and as many bytes."""
    draw = random.Random(seed)
    words = ("".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(length))
    return " ".join(words)[: length - 1] + "."


def write_corpus(folder: Path, text: str | None = None) -> Path:
    """A corpus file, of 1,000 bytes where no text is given."""
    path = folder / "corpus.txt"
    path.write_text(running_text(1000) if text is None else text, encoding="utf-8")
    return path


def tiny_baseline(checkpoint: Path, corpus: Path, *, bos: BosPolicy = "none", **changes: Any) -> Baseline:
    """A baseline of four windows of 32 tokens in two batches; `changes` replace fields of its type."""
    fields: dict[str, Any] = {
        "corpora": ("tiny",),
        "context_lengths": (CONTEXT_LENGTH,),
        "scored_tokens": {"cpu": 128, "cuda": 128},
        "seeds": (1337,),
        "batch_tokens": {"cpu": 64, "cuda": 64},
    }
    return Baseline(
        model_name="tiny",
        type_name="tiny",
        model=FolderModel(path=checkpoint, bos=bos),
        type=BaselineType(**(fields | changes)),
        corpora={"tiny": FileCorpus(path=corpus)},
    )


def prepare_tiny(model: LoadedModel, baseline: Baseline) -> Prepared:
    """What a baseline scores on the CPU."""
    return prepare_for(model, baseline, hub=Hub())


def evaluate_tiny(model: LoadedModel, baseline: Baseline) -> tuple[Prepared, Round]:
    """What a baseline scores, and one round of it on the CPU."""
    prepared = prepare_tiny(model, baseline)
    return prepared, evaluate(model, prepared, seed=1337, description="tiny")
