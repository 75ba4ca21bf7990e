"""Train the models of families that have no twin: `python -m tests.incidents.train [NAME ...]`.

As `tests/twins/train.py` does, whose recipe this is, and smaller. Qwen2 has a sliding window of 128 in every layer, OPT
learned positions and biases; both are the family that one release broke.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from esa_pytest.evaluation.byte_tokenizer import BOS_ID, EOS_ID, VOCABULARY, write_byte_tokenizer
from tests.twins.train import build, corpus_tokens, save, train

MODELS = Path(__file__).parent / "models"
QWEN2, OPT = "qwen2@tiny-window", "opt@tiny"
SLIDING_WINDOW = 128

_SIZES = {
    "vocab_size": VOCABULARY,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": EOS_ID,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
CONFIGS: dict[str, dict[str, Any]] = {
    QWEN2: _SIZES
    | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "intermediate_size": 320,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "use_sliding_window": True,
        "sliding_window": SLIDING_WINDOW,
        # Layers from this one on have the window: every layer, in whichever way a release reads it.
        "max_window_layers": 0,
    },
    OPT: _SIZES
    | {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "activation_function": "relu",
        "ffn_dim": 384,
        "word_embed_proj_dim": 128,
        "max_position_embeddings": 1024,
        "do_layer_norm_before": True,
        "dropout": 0.0,
    },
}


def main() -> None:
    """Train the named models, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=list(CONFIGS), metavar="NAME", help=", ".join(CONFIGS))
    # A dead ReLU leaves moments that decay into denormal numbers, which are slow; and so small a model gains nothing
    # from a second thread.
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    for name in parser.parse_args().names:
        folder = MODELS / name
        folder.mkdir(parents=True, exist_ok=True)
        write_byte_tokenizer(folder)
        network = build(CONFIGS[name])
        loss = train(network, corpus_tokens(folder), bos=False)
        save(network, CONFIGS[name], folder)
        sys.stdout.write(f"{name}: {network.num_parameters():,} parameters, {loss:.3f} nats a byte\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
