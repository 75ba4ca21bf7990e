"""The bytes of what was scored: those of the text, whatever the tokenizer makes of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from esa_pytest.evaluation.byte_tokenizer import write_byte_tokenizer
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.rectangle import Rectangle
from esa_pytest.evaluation.text_bytes import scored_bytes

TEXT = "Plain words, ünïcödé, 漢字 and 🙂 emoji.\n\n  Blanks  kept , and stops ."


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerBase:
    write_byte_tokenizer(tmp_path)
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tmp_path)
    return found


def prepared_of(windows: list[list[int]]) -> Prepared:
    targets = np.array(windows, dtype=np.int32)
    rectangle = Rectangle(input_ids=targets.astype(np.int64), targets=targets, strata=np.zeros_like(targets))
    return Prepared(
        segments=(),
        rectangles=(rectangle,),
        batch_tokens=1,
        strata=(),
        corpora_sha256={},
        notes=(),
        probe_ids=np.zeros(0, dtype=np.int64),
        probe_window=0,
        sample_every=1,
    )


def test_a_window_of_whole_characters_has_the_bytes_of_its_text(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    once = prepared_of([ids])
    assert scored_bytes(once, tokenizer) == len(TEXT.encode())
    assert scored_bytes(replace(once, rectangles=once.rectangles * 3), tokenizer) == 3 * len(TEXT.encode())


def test_a_character_cut_at_a_border_costs_a_few_bytes_at_most(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    for cut in range(1, len(ids)):
        halves = scored_bytes(prepared_of([ids[:cut]]), tokenizer) + scored_bytes(prepared_of([ids[cut:]]), tokenizer)
        # A torn character of up to four bytes is decoded as up to three signs of three bytes each.
        assert abs(halves - len(TEXT.encode())) <= 9
