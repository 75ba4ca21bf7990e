"""How much text the scored tokens stand for: tokens of two tokenizers are not of one length, bytes are."""

from transformers import PreTrainedTokenizerBase

from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.quiet import quiet_transformers


def scored_bytes(prepared: Prepared, tokenizer: PreTrainedTokenizerBase) -> int:
    """The bytes of UTF-8 that the scored tokens decode to.

    Each window is decoded by itself, so that a character or blank that is cut at its border may count for up to three
    bytes more or less.
    """
    with quiet_transformers():
        return sum(
            len(tokenizer.decode(window.tolist(), clean_up_tokenization_spaces=False).encode())
            for rectangle in prepared.rectangles
            for window in rectangle.targets
        )
