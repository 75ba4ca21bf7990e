"""A tokenizer that every model of 258 tokens and more can be given: one token a byte, and `<bos>`, `<eos>`."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

BOS_ID, EOS_ID = 256, 257
VOCABULARY = 258


def write_byte_tokenizer(folder: Path, *, bos: bool = True) -> None:
    """Write tokenizer.json and tokenizer_config.json.

    Args:
        folder: where they go.
        bos: whether the tokenizer names its BOS; a plain call of it puts one in front either way.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<bos>", "<eos>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>"}
    if bos:
        config |= {"bos_token": "<bos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
