"""The tokenizer that a GGUF file describes, built from its own metadata.

transformers' converter gives another tokenizer.json with each release, and puts a BOS in front of every text although
this model's metadata says that it has none; the tokens of a golden must depend on neither.
"""

import json
from pathlib import Path
from typing import Any

from esa_pytest.errors import CheckpointError

# What a GGUF calls `smollm`: every digit alone, then GPT-2's byte-level words.
_KNOWN_PRE_TOKENIZER = ("gpt2", "smollm")
_CONTROL_TOKEN = 3


def write_tokenizer(gguf_file: Path, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, readable by every release of transformers.

    Raises:
        CheckpointError: the file uses a tokenizer of another kind.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = GGUFReader(gguf_file).fields

    def content(key: str) -> Any:
        return fields[f"tokenizer.ggml.{key}"].contents()

    kind = (content("model"), content("pre"))
    if kind != _KNOWN_PRE_TOKENIZER:
        raise CheckpointError(
            f"{gguf_file.name} has the tokenizer {kind}; only {_KNOWN_PRE_TOKENIZER} is read from GGUF, "
            f"so give this model as a checkpoint folder with its tokenizer.json."
        )
    tokens: list[str] = content("tokens")
    merges = [tuple(merge.split(" ")) for merge in content("merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, content("token_type"), strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    # Saved by tokenizers itself: transformers 5 adds to the file what 4.x does not.
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # a class that every release knows
        "bos_token": tokens[content("bos_token_id")],
        "eos_token": tokens[content("eos_token_id")],
        "unk_token": tokens[content("unknown_token_id")],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
