"""A tokenizer that does not belong to the model or the text is refused, and one that does is not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from esa_pytest.baselines.corpus import Corpus, Document
from esa_pytest.errors import TokenizerMismatchError
from esa_pytest.evaluation.byte_tokenizer import BOS_ID, VOCABULARY
from esa_pytest.evaluation.loading import load_tokenizer
from esa_pytest.evaluation.tokenization import refuse_mismatch, tokenize

UNKNOWN = "<unk>"
LANGUAGES = "Zürich, façade, Łódź, Ålesund, ελληνικά, кириллица, 漢字かな交じり文, 한국어, العربية, हिन्दी 🍎"


@pytest.fixture(scope="module")
def byte_tokenizer(llama_checkpoint: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(llama_checkpoint)


def _corpus(*texts: str) -> Corpus:
    return Corpus(
        name="prose",
        sha256="",
        documents=tuple(Document(stratum="prose", text=text) for text in texts),
        repeat_to_tokens=None,
    )


def _of_letters(letters: str, *, normalizer: normalizers.Normalizer | None = None) -> PreTrainedTokenizerFast:
    """A token a letter, one for the line break, and `<unk>` for all others."""
    vocabulary = {letter: index for index, letter in enumerate(dict.fromkeys("\n" + letters))}
    model = models.WordLevel(vocab=vocabulary | {UNKNOWN: len(vocabulary)}, unk_token=UNKNOWN)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)


def _check(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, embeddings: int | None = None) -> None:
    refuse_mismatch(corpus, tokenize(corpus, tokenizer, bos="none"), tokenizer, embeddings=embeddings)


def test_a_token_without_an_embedding_is_refused(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    corpus = _corpus("abc")
    largest = max(byte_tokenizer("abc\n\n", add_special_tokens=False)["input_ids"])
    _check(corpus, byte_tokenizer, embeddings=largest + 1)
    with pytest.raises(TokenizerMismatchError) as caught:
        _check(corpus, byte_tokenizer, embeddings=largest)
    assert str(caught.value) == (
        f"The tokenizer does not fit the model: it gives the token {largest} for the corpus 'prose' and the model has "
        f"{largest} embeddings; use the tokenizer that the model was trained with."
    )


def test_a_bos_without_an_embedding_is_refused(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    corpus = _corpus("abc")
    stream = tokenize(corpus, byte_tokenizer, bos="window")
    refuse_mismatch(corpus, stream, byte_tokenizer, embeddings=BOS_ID + 1)
    with pytest.raises(TokenizerMismatchError, match=f"it gives the token {BOS_ID} for the corpus"):
        refuse_mismatch(corpus, stream, byte_tokenizer, embeddings=BOS_ID)


def test_unknown_tokens_are_refused_above_one_in_a_hundred() -> None:
    tokenizer = _of_letters("ab")
    _check(_corpus("ab" * 59 + "a?"), tokenizer)
    with pytest.raises(TokenizerMismatchError) as caught:
        _check(_corpus("ab" * 48 + "??"), tokenizer)
    assert str(caught.value) == (
        "The tokenizer does not fit the corpus 'prose': 2.00% of its tokens are '<unk>', allowed are 1%; use another "
        "corpus, or the model's tokenizer."
    )


def test_a_tokenizer_that_loses_its_text_is_refused() -> None:
    tokenizer = _of_letters("abcdefgh", normalizer=normalizers.Lowercase())
    _check(_corpus("abcdefgh" * 20), tokenizer)
    with pytest.raises(TokenizerMismatchError) as caught:
        _check(_corpus("ABCDefgh" * 20), tokenizer)
    assert str(caught.value) == (
        "The tokenizer does not fit the corpus 'prose': 50.00% of its characters do not come back when it is encoded "
        "and decoded, allowed are 1%; use the model's own tokenizer."
    )


def test_a_tokenizer_that_strips_accents_is_refused() -> None:
    stripping = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    with pytest.raises(TokenizerMismatchError, match=r"25\.00% of its characters do not come back"):
        _check(_corpus("éaei" * 40), _of_letters("aeiéx", normalizer=stripping))


def test_what_one_document_loses_is_not_made_up_for_by_another() -> None:
    tokenizer = _of_letters("abcdefgh", normalizer=normalizers.Lowercase())
    with pytest.raises(TokenizerMismatchError, match=r"50\.00% of its characters"):
        _check(_corpus("ABCDEFGH" * 20, "abcdefgh" * 20), tokenizer)


@pytest.mark.parametrize("separator", [" ", "\n", "\n\n", "\t"])
def test_accents_and_all_scripts_come_back_from_bytes(byte_tokenizer: PreTrainedTokenizerBase, separator: str) -> None:
    _check(_corpus(separator.join([LANGUAGES] * 3), "漢" * 300), byte_tokenizer, embeddings=VOCABULARY)


@given(text=st.text())
def test_the_byte_tokenizer_gives_every_text_back(text: str, byte_tokenizer: PreTrainedTokenizerBase) -> None:
    ids = byte_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert byte_tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    if "<bos>" not in text and "<eos>" not in text:
        assert len(ids) == len(text.encode())
        assert max(ids, default=0) < BOS_ID
