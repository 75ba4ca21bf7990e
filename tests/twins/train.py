"""Train the `@tiny` twins: `python -m tests.twins.train [NAME ...]` writes tests/twins/<NAME>/.

A twin has the architecture of a catalogued model (the packaged shape with other sizes, and limits small enough to bite
in a short context), a byte-level tokenizer, and weights trained for a minute or two on the embedded corpus: a random
model is far less sensitive to a changed weight than a trained one. Training is seeded; another machine gives other
bits all the same, so the committed checkpoints are what the goldens belong to.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.baselines.catalog import PACKAGED
from esa_pytest.evaluation.byte_tokenizer import BOS_ID, EOS_ID, VOCABULARY, write_byte_tokenizer

FOLDER = Path(__file__).parent
SEED = 1337
# Many small steps teach a small model more than few large ones; the last ones are as long as what smoke scores.
STEPS = 1400
LONG_FROM = 1000
SHORT, LONG = (4, 256), (1, 1024)
PEAK_RATE = 3e-3
WARM_UP_STEPS = 50

_SIZES = {
    "vocab_size": VOCABULARY,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": EOS_ID,
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "torch_dtype": "bfloat16",
}
_GROUPED_QUERIES = {"intermediate_size": 448, "num_attention_heads": 8, "num_key_value_heads": 2}
_LLAMA3_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 512,
    "rope_type": "llama3",
}
# transformers 5 reads the older name too, and 4 knows no other.
HUB_NAMES = {("gpt_neox", "lm_head.weight"): "embed_out.weight"}
# What differs from the shape of the same name; a window of 255 bites in a context of 1,024.
TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "pythia-1.4b@tiny": ("pythia-1.4b", {"intermediate_size": 512, "num_attention_heads": 4}),
    "llama-3.1-8b@tiny": (
        "llama-3.1-8b",
        _GROUPED_QUERIES | {"max_position_embeddings": 8192, "rope_scaling": _LLAMA3_ROPE},
    ),
    "phi-3-mini-4k-instruct@tiny": (
        "phi-3-mini-4k-instruct",
        {"intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 4, "sliding_window": 255},
    ),
    "mistral-7b-v0.3@tiny": ("mistral-7b-v0.3", _GROUPED_QUERIES | {"max_position_embeddings": 8192}),
    "mistral-7b-v0.3@tiny-window": (
        "mistral-7b-v0.3",
        _GROUPED_QUERIES | {"max_position_embeddings": 8192, "sliding_window": 255},
    ),
}


def twin_config(name: str) -> dict[str, Any]:
    """The config.json of a twin, in the layout that transformers 4 and 5 both read."""
    shape, changes = TWINS[name]
    config: dict[str, Any] = json.loads((PACKAGED / "shapes" / f"{shape}.json").read_text(encoding="utf-8"))
    return config | _SIZES | changes


def build(config: dict[str, Any]) -> PreTrainedModel:
    """A network with seeded random weights in float32."""
    torch.manual_seed(SEED)
    made = transformers.AutoConfig.for_model(**config)
    network: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(
        made, dtype=torch.float32, attn_implementation="sdpa"
    )
    return network


def corpus_tokens(folder: Path) -> Tensor:
    """The embedded corpus in the tokens of the twin in `folder`, shape (bytes,)."""
    lines = (PACKAGED / "corpora/embedded.jsonl").read_text(encoding="utf-8").splitlines()
    text = "\n\n".join(json.loads(line)["text"] for line in lines)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids)


def rate(step: int) -> float:
    """The learning rate: a short warm-up, then half a cosine to a tenth."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.55 + 0.45 * math.cos(math.pi * step / STEPS))


def draw(tokens: Tensor, step: int, *, bos: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one step, shape (windows, context_length) each."""
    windows, length = SHORT if step < LONG_FROM else LONG
    starts = torch.randint(0, len(tokens) - length - 1, (windows,), generator=generator)
    rows = torch.stack([tokens[start : start + length + 1] for start in starts.tolist()])
    if bos:
        return torch.cat([torch.full((windows, 1), BOS_ID), rows[:, :-2]], dim=1), rows[:, :-1]
    return rows[:, :-1], rows[:, 1:]


def train(network: PreTrainedModel, tokens: Tensor, *, bos: bool) -> float:
    """Train; returns the mean loss of the last fifty steps, in nats a byte."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    network.train()
    losses: list[float] = []
    for step in range(STEPS):
        inputs, targets = draw(tokens, step, bos=bos, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        logits = network(input_ids=inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    network.eval()
    return sum(losses[-50:]) / len(losses[-50:])


def save(network: PreTrainedModel, config: dict[str, Any], folder: Path) -> None:
    """Write config.json as given, and the weights in bf16 under the names that the hub's checkpoints give them."""
    state = {
        HUB_NAMES.get((config["model_type"], name), name): tensor.to(torch.bfloat16).contiguous()
        for name, tensor in network.state_dict().items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Train the named twins, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=list(TWINS), metavar="NAME", help=", ".join(TWINS))
    arguments = parser.parse_args()
    for name in arguments.names:
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        write_byte_tokenizer(folder)
        config = twin_config(name)
        network = build(config)
        tokens = corpus_tokens(folder)
        # The BOS policy of the model that this is a twin of.
        loss = train(network, tokens, bos=not name.startswith("pythia"))
        save(network, config, folder)
        sys.stdout.write(f"{name}: {network.num_parameters():,} parameters, {loss:.3f} nats a byte\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
