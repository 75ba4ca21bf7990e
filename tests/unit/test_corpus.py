import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.baselines.corpus import Corpus, Document, read_corpus
from esa_pytest.baselines.degeneracy import DEGENERATE_ABOVE, repeated_ngram_share
from esa_pytest.baselines.sources import FileCorpus
from esa_pytest.errors import CorpusError


def read(path: Path, data: bytes) -> Corpus:
    path.write_bytes(data)
    return read_corpus("mine", FileCorpus(path=path))


def refusal(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        read_corpus("mine", FileCorpus(path=path))
    return str(caught.value)


def refusal_of(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return refusal(path)


def test_txt_is_one_document_of_its_text(tmp_path: Path) -> None:
    data = "Grüße\n\nzweiter Absatz\n".encode()
    corpus = read(tmp_path / "a.txt", data)
    assert corpus == Corpus(
        name="mine",
        sha256=hashlib.sha256(data).hexdigest(),
        documents=(Document(stratum="mine", text="Grüße\n\nzweiter Absatz\n"),),
        repeat_to_tokens=None,
    )


def test_jsonl_is_a_document_a_line_in_order(tmp_path: Path) -> None:
    lines = ['{"text": "one", "stratum": "prose"}', "", '{"text": "two"}', '{"text": "three", "stratum": null}', ""]
    corpus = read(tmp_path / "a.jsonl", "\n".join(lines).encode())
    assert corpus.documents == (
        Document(stratum="prose", text="one"),
        Document(stratum="mine", text="two"),
        Document(stratum="mine", text="three"),
    )


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\u000b"])
def test_separator_inside_a_json_string_does_not_cut_the_line(tmp_path: Path, separator: str) -> None:
    text = f"before{separator}after"
    escaped = json.dumps({"text": text}, ensure_ascii=separator < " ")
    corpus = read(tmp_path / "a.jsonl", f'{escaped}\n{{"text": "next"}}\n'.encode())
    assert [document.text for document in corpus.documents] == [text, "next"]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    corpus = read(tmp_path / "a.jsonl", b'{"text": "one"}\r\n{"text": "two"}\r\n')
    assert [document.text for document in corpus.documents] == ["one", "two"]


def test_parquet_is_a_document_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", "zwei"], "stratum": ["prose", None]}), path)
    corpus = read_corpus("mine", FileCorpus(path=path))
    assert corpus.documents == (Document(stratum="prose", text="one"), Document(stratum="mine", text="zwei"))
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_other_columns_of_a_parquet_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    # Beyond what Python has dates for.
    pq.write_table(pa.table({"when": pa.array([2**62], pa.timestamp("us")), "text": ["one"]}), path)
    assert read_corpus("mine", FileCorpus(path=path)).documents == (Document(stratum="mine", text="one"),)


def test_documents_of_whitespace_are_left_out(tmp_path: Path) -> None:
    corpus = read(tmp_path / "a.jsonl", b'{"text": " \\n\\t"}\n{"text": "word"}\n{"text": ""}\n')
    assert [document.text for document in corpus.documents] == ["word"]


def test_repetition_of_the_source_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word", encoding="utf-8")
    assert read_corpus("mine", FileCorpus(path=path, repeat_to_tokens=7)).repeat_to_tokens == 7


def test_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    assert refusal(path) == (
        f"The corpus 'mine' cannot be read: {path}: No such file or directory; "
        "correct its path in [tool.esa.corpora.mine]."
    )


def test_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"The corpus 'mine' cannot be read: {tmp_path}: Is a directory; correct its path in [tool.esa.corpora.mine]."
    )


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n  ", "\u2003\u2028".encode()])
@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_file_without_text_is_told_with_its_size(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    assert refusal_of(path, data) == (
        f"The corpus 'mine' holds no text: {path} has {len(data)} bytes; give a file with text."
    )


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_byte_that_is_not_utf8_is_told_with_its_offset(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    assert refusal_of(path, b"caf\xc3\xa9 caf\xe9 more") == (
        f"The corpus 'mine' is not UTF-8: byte 0xe9 at offset 9 of {path}; convert it, as with iconv -t utf-8."
    )


@pytest.mark.parametrize(
    "line",
    [b'{"text": "two"', b"plain words", b'{"text": "two"} {}', pytest.param(b"[" * 100_000, id="nested too deeply")],
)
def test_malformed_json_is_told_with_its_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    assert refusal_of(path, b'{"text": "one"}\n\n' + line + b'\n{"text": "three"}\n') == (
        f"The corpus 'mine' has no JSON on line 3 of {path}; mend the line."
    )


@pytest.mark.parametrize("row", ['{"content": "two"}', '{"text": 2}', '{"text": null}', '["text"]', '"text"', "null"])
def test_line_without_a_text_is_told_with_its_number(tmp_path: Path, row: str) -> None:
    path = tmp_path / "a.jsonl"
    assert refusal_of(path, f'{{"text": "one"}}\n{row}\n'.encode()) == (
        f"The corpus 'mine' has no text on line 2 of {path}; "
        'each entry is {"text": "...", "stratum": "..."}, the stratum optional.'
    )


@pytest.mark.parametrize(
    ("row", "what"),
    [(b'{"text": "half a pair \\ud800 here"}', "text"), (b'{"text": "whole", "stratum": "\\udc00"}', "stratum")],
)
def test_lone_surrogate_that_nothing_can_encode_is_told(tmp_path: Path, row: bytes, what: str) -> None:
    path = tmp_path / "a.jsonl"
    assert refusal_of(path, row + b"\n") == (
        f"The corpus 'mine' has half of a surrogate pair in the {what} on line 1 of {path}, which is no character; "
        f"mend the escape."
    )


@pytest.mark.parametrize(("suffix", "content"), [("txt", "words"), ("jsonl", '{"text": "words"}')])
def test_byte_order_mark_is_told(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"a.{suffix}"
    assert refusal_of(path, content.encode("utf-8-sig")) == (
        f"The corpus 'mine' begins with a byte order mark: {path}; it is no part of the text, so save the file as "
        f"UTF-8 without it."
    )
    assert read(path, content.encode()).documents == (Document(stratum="mine", text="words"),)


def test_parquet_without_texts_or_with_two_columns_of_them_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["one"]}), path)
    assert refusal(path).startswith(f"The corpus 'mine' has no text on row 1 of {path}; ")
    pq.write_table(pa.table([["one"], ["two"]], names=["text", "text"]), path)
    message = refusal(path)
    assert message.startswith(f"The corpus 'mine' is no parquet file of texts: {path}: Multiple matches ")
    assert "\n" not in message


def test_parquet_row_without_a_text_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None]}), path)
    assert refusal(path) == (
        f"The corpus 'mine' has no text on row 2 of {path}; "
        'each entry is {"text": "...", "stratum": "..."}, the stratum optional.'
    )


@pytest.mark.parametrize(
    "data", [b"", b"not a parquet file", pytest.param(b"PAR1" + b"\xff" * 40 + b"PAR1", id="damaged")]
)
def test_file_that_is_no_parquet_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.parquet"
    assert refusal_of(path, data).startswith(f"The corpus 'mine' is no parquet file of texts: {path}: ")


def test_parquet_without_pyarrow_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert refusal_of(tmp_path / "a.parquet", b"PAR1") == (
        "The corpus 'mine' is a parquet file, which needs pyarrow: pip install 'esa-pytest[parquet]'."
    )


@pytest.mark.parametrize(("name", "kind"), [("a.csv", ".csv"), ("a", "nameless"), ("a.txt.gz", ".gz")])
def test_file_of_an_unknown_kind_is_told_with_the_known(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    assert refusal_of(path, b"words") == (
        f"The corpus 'mine' is a {kind} file: {path}; it may be .txt, .jsonl, .parquet."
    )


def packaged(name: str) -> Corpus:
    source = load_catalog({}, folder=Path()).corpora[name]
    assert isinstance(source, FileCorpus)
    return read_corpus(name, source)


def word_share(text: str) -> float:
    ids: dict[str, int] = {}
    words = [ids.setdefault(word, len(ids)) for word in text.split()]
    return repeated_ngram_share(np.array(words, dtype=np.int64), length=8)


def test_embedded_corpus_has_six_strata_of_nine_documents() -> None:
    strata = [document.stratum for document in packaged("embedded").documents]
    assert {stratum: strata.count(stratum) for stratum in strata} == dict.fromkeys(
        ("narrative", "code", "dialogue", "numbers", "technical", "languages"), 9
    )


def test_embedded_corpus_repeats_no_passage() -> None:
    texts = [document.text for document in packaged("embedded").documents]
    passages = [passage.strip() for text in texts for passage in text.split("\n\n")]
    assert len(passages) == len(set(passages)) > 200


def test_embedded_corpus_is_no_repetition() -> None:
    assert word_share("\n\n".join(document.text for document in packaged("embedded").documents)) < 0.01


def test_repeat_corpus_is_a_repetition_once_it_is_repeated() -> None:
    corpus = packaged("repeat")
    (document,) = corpus.documents
    assert corpus.repeat_to_tokens == 16384
    assert word_share(document.text) < DEGENERATE_ABOVE < 0.9 < word_share(document.text * 100)
