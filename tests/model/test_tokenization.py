"""The tokens are those the model is meant to see: no second BOS, no missing one, each in its stratum."""

import json
from pathlib import Path

import pytest

from esa_pytest.baselines.corpus import Corpus, read_corpus
from esa_pytest.baselines.sources import FileCorpus, FolderModel, ModelSource, RandomModel
from esa_pytest.errors import TokenizationError
from esa_pytest.evaluation.byte_tokenizer import BOS_ID, write_byte_tokenizer
from esa_pytest.evaluation.loading import load_tokenizer
from esa_pytest.evaluation.tokenization import TokenStream, bos_notes, tokenize


def _corpus(folder: Path, text: str) -> Corpus:
    path = folder / "corpus.txt"
    path.write_text(text, encoding="utf-8")
    return read_corpus("prose", FileCorpus(path=path))


def test_a_bos_in_the_text_and_one_from_the_policy_are_refused(llama_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TokenizationError) as caught:
        tokenize(_corpus(tmp_path, "abc<bos>def"), load_tokenizer(llama_checkpoint), bos="window")
    assert str(caught.value) == (
        "The corpus 'prose' would give a double BOS: token 256 stands at 3 of its tokens and the BOS policy "
        '"window" puts another in front; remove it from the text, or set bos = "none".'
    )


def test_two_bos_in_the_text_are_refused(llama_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TokenizationError) as caught:
        tokenize(_corpus(tmp_path, "<bos>ab<bos><bos>"), load_tokenizer(llama_checkpoint), bos="none")
    assert str(caught.value) == (
        "The corpus 'prose' has a double BOS: token 256 stands at 3 and 4 of its tokens; remove one from the text."
    )


def test_a_single_bos_in_the_text_is_kept(llama_checkpoint: Path, tmp_path: Path) -> None:
    stream = tokenize(_corpus(tmp_path, "<bos>ab<bos>"), load_tokenizer(llama_checkpoint), bos="none")
    assert (stream.ids == BOS_ID).tolist() == [True, False, False, True, False, False]
    assert stream.bos_id is None


def test_a_bos_asked_for_and_missing_is_refused(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path, bos=False)
    with pytest.raises(TokenizationError) as caught:
        tokenize(_corpus(tmp_path, "abc"), load_tokenizer(tmp_path), bos="window")
    assert str(caught.value) == (
        'The model\'s BOS policy is "window" and its tokenizer has no BOS token; an EOS is no substitute, '
        'so set bos = "none" or give the tokenizer its BOS.'
    )


def test_without_a_policy_a_tokenizer_needs_no_bos(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path, bos=False)
    assert len(tokenize(_corpus(tmp_path, "abc"), load_tokenizer(tmp_path), bos="none").ids) == 5


def test_the_tokenizer_adds_nothing_of_its_own(llama_checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(llama_checkpoint)
    assert tokenizer("abc")["input_ids"][0] == BOS_ID
    for bos in ("none", "window"):
        stream = tokenize(_corpus(tmp_path, "abc"), tokenizer, bos=bos)
        assert tokenizer.decode(stream.ids.tolist()) == "abc\n\n"
    assert stream.bos_id == BOS_ID


SAID_NOTHING = FolderModel(path=Path("mine"))


def test_a_bos_that_the_tokenizer_would_add_and_nobody_spoke_of_is_told(llama_checkpoint: Path) -> None:
    (note,) = bos_notes(load_tokenizer(llama_checkpoint), SAID_NOTHING)
    assert note == (
        "The tokenizer begins a text with its BOS '<bos>', and the windows have none, so the loss of a model that was "
        'trained with one says nothing; set bos = "window" in the model\'s entry, or bos = "none" if it was trained '
        "without."
    )


@pytest.mark.parametrize(
    "model",
    [
        FolderModel(path=Path("mine"), bos="window"),
        FolderModel(path=Path("mine"), bos="none"),
        RandomModel(config=Path("shape.json")),
    ],
)
def test_a_model_that_was_spoken_of_or_is_random_has_no_note(model: ModelSource, llama_checkpoint: Path) -> None:
    assert bos_notes(load_tokenizer(llama_checkpoint), model) == []


def test_a_tokenizer_that_adds_no_bos_has_no_note(tmp_path: Path) -> None:
    # Without a name it could not be put in front of windows either.
    write_byte_tokenizer(tmp_path, bos=False)
    assert bos_notes(load_tokenizer(tmp_path), SAID_NOTHING) == []
    write_byte_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"post_processor": None}), "utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.bos_token_id == BOS_ID
    assert bos_notes(tokenizer, SAID_NOTHING) == []


def _labelled_tokens(stream: TokenStream) -> list[str]:
    return [stream.strata[index] for index in stream.stratum]


def test_each_token_has_the_stratum_of_its_document(llama_checkpoint: Path, tmp_path: Path) -> None:
    documents = [("verse", "Æble 🍎"), ("prose", "a"), ("verse", "\u2028x"), ("code", "if (a) {}\n"), ("prose", "ßß")]
    path = tmp_path / "mixed.jsonl"
    lines = [json.dumps({"stratum": stratum, "text": text}, ensure_ascii=False) for stratum, text in documents]
    path.write_text("\n".join(lines), encoding="utf-8")
    stream = tokenize(read_corpus("mixed", FileCorpus(path=path)), load_tokenizer(llama_checkpoint), bos="none")
    expected = [stratum for stratum, text in documents for _ in (text + "\n\n").encode()]
    assert _labelled_tokens(stream) == expected
    assert stream.strata == ("verse", "prose", "code")


def test_a_repeated_text_keeps_its_labels(llama_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"stratum": "x", "text": "abc"}\n{"stratum": "y", "text": "d"}\n', encoding="utf-8")
    source = FileCorpus(path=path, repeat_to_tokens=17)
    tokenizer = load_tokenizer(llama_checkpoint)
    stream = tokenize(read_corpus("again", source), tokenizer, bos="none")
    assert tokenizer.decode(stream.ids.tolist()) == "abc\n\nd\n\n" * 3
    assert _labelled_tokens(stream) == (["x"] * 5 + ["y"] * 3) * 3
