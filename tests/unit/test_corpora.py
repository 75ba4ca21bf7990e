import hashlib
import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from esa_pytest.baselines.corpus import Corpus, Document, read_corpus
from esa_pytest.baselines.sources import DatasetCorpus, FileCorpus, SdistCorpus
from esa_pytest.errors import CorpusError, CorpusUnavailableError
from esa_pytest.evaluation import corpora
from esa_pytest.evaluation.corpora import load_corpus
from esa_pytest.evaluation.hub import Hub

REVISION = "0123456789abcdef" * 2 + "01234567"
SDIST = SdistCorpus(
    source="sdist", package="plays", version="1.0", sha256="a" * 64, members="*.txt", license="public domain"
)


class FakeHub:
    """A hub that does not answer, or that nobody may ask."""

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason

    def unreachable_reason(self) -> str | None:
        if self.reason is None:
            pytest.fail("the hub was asked")
        return self.reason


def loaded(source: Any, hub: FakeHub | None = None) -> Corpus:
    return load_corpus("mine", source, hub=cast("Hub", hub or FakeHub()))


def refusal(source: Any, hub: FakeHub | None = None, *, kind: type[Exception] = CorpusError) -> str:
    with pytest.raises(kind) as caught:
        loaded(source, hub)
    return str(caught.value)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of JSON rows, as a local copy of a data set, and a cache of this test's own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    # The product sets it; the value of before comes back after the test.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", datasets.config.HF_HUB_OFFLINE)
    folder = tmp_path / "copy"
    folder.mkdir()
    lines = [
        json.dumps({"text": text, "number": index, "title": f"No. {index}"})
        for index, text in enumerate(["one", " ", "two", "drei"])
    ]
    (folder / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def dataset(path: Path, **parts: Any) -> DatasetCorpus:
    return DatasetCorpus(source="dataset", path=path, split="test", **parts)


def texts(corpus: Corpus) -> list[str]:
    assert {document.stratum for document in corpus.documents} == {"mine"}
    return [document.text for document in corpus.documents]


def test_file_is_read_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word", encoding="utf-8")
    source = FileCorpus(path=path, repeat_to_tokens=7)
    assert loaded(source) == read_corpus("mine", source)


def archived(monkeypatch: pytest.MonkeyPatch, folder: Path, *contents: bytes) -> None:
    paths = []
    for index, content in enumerate(contents):
        paths.append(folder / f"{index}.txt")
        paths[-1].write_bytes(content)
    monkeypatch.setattr(corpora, "fetch_texts", lambda name, source: paths)


def test_archive_is_a_document_a_file_hashed_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(monkeypatch, tmp_path, b"one\n", b" \n", b"two\n")
    content = b"".join(len(text).to_bytes(8, "little") + text for text in (b"one\n", b"two\n"))
    assert loaded(SDIST) == Corpus(
        name="mine",
        sha256=hashlib.sha256(content).hexdigest(),
        documents=(Document(stratum="mine", text="one\n"), Document(stratum="mine", text="two\n")),
        repeat_to_tokens=None,
    )


def test_border_between_two_texts_is_part_of_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(monkeypatch, tmp_path, b"ab", b"c")
    first = loaded(SDIST).sha256
    archived(monkeypatch, tmp_path, b"a", b"bc")
    assert loaded(SDIST).sha256 != first


def test_archived_text_that_is_not_utf8_is_told_with_its_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(monkeypatch, tmp_path, b"caf\xe9")
    assert refusal(SDIST) == f"The corpus 'mine' is not UTF-8: offset 3 of {tmp_path / '0.txt'}."


def test_archive_of_blank_texts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(monkeypatch, tmp_path, b" \n")
    assert refusal(SDIST) == "The corpus 'mine' holds no text; check its split, column and files."


def test_rows_of_a_local_data_set_are_documents(rows: Path) -> None:
    assert texts(loaded(dataset(rows))) == ["one", "two", "drei"]


def test_rows_that_are_pieces_of_one_text_are_joined_by_blank_lines(rows: Path) -> None:
    assert texts(loaded(dataset(rows, joined=True))) == ["one\n\n \n\ntwo\n\ndrei"]


@pytest.mark.parametrize(("most", "expected"), [(1, ["one"]), (3, ["one", "two"]), (99, ["one", "two", "drei"])])
def test_first_rows_are_taken(rows: Path, most: int, expected: list[str]) -> None:
    assert texts(loaded(dataset(rows, max_documents=most))) == expected


def test_other_column_is_taken_where_it_is_named(rows: Path) -> None:
    assert texts(loaded(dataset(rows, column="title"))) == ["No. 0", "No. 1", "No. 2", "No. 3"]


def test_column_that_is_not_there_is_told_with_those_that_are(rows: Path) -> None:
    assert (
        refusal(dataset(rows, column="body")) == "The corpus 'mine' has no column 'body'; it has text, number, title."
    )


@pytest.mark.parametrize("many", [True, False])
def test_saved_data_set_is_read_as_its_rows(rows: Path, tmp_path: Path, *, many: bool) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": ["saved"]})
    (datasets.DatasetDict({"test": one}) if many else one).save_to_disk(tmp_path / "saved")
    assert texts(loaded(dataset(tmp_path / "saved"))) == ["saved"]


def test_folder_that_is_not_there_is_told_and_no_hub_is_asked(rows: Path) -> None:
    assert refusal(dataset(rows / "gone")) == (
        f"The corpus 'mine' is a data set and {rows / 'gone'} is no folder; correct its path in "
        f"[tool.esa.corpora.mine]."
    )


def test_split_that_a_folder_of_files_lacks_is_told(rows: Path) -> None:
    message = refusal(dataset(rows).model_copy(update={"split": "validation"}))
    assert message.startswith(f"The corpus 'mine' cannot be loaded by datasets from {rows} (")
    assert "validation" in message
    assert message.endswith("); check its path, config, split and data_files in [tool.esa.corpora.mine].")


@pytest.mark.parametrize(
    ("column", "row", "told"), [("text", 2, "None"), ("tokens", 1, "['a', 'b']"), ("number", 1, "0")]
)
def test_row_that_is_no_text_is_told_with_its_number(rows: Path, column: str, row: int, told: str) -> None:
    lines = ['{"text": "one", "tokens": ["a", "b"], "number": 0}', '{"text": null, "tokens": ["c"], "number": 1}']
    (rows / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert refusal(dataset(rows, column=column)) == (
        f"The corpus 'mine' has {told} in row {row} of its column {column!r}, which is no text; give a column of text, "
        f"or take that row out."
    )
    if column == "text":
        assert texts(loaded(dataset(rows, max_documents=1))) == ["one"]


def test_data_set_of_a_hub_that_does_not_answer_is_told(rows: Path) -> None:
    source = DatasetCorpus(source="dataset", repo="org/no-such-data", revision=REVISION, split="test")
    assert refusal(source, FakeHub("the hub does not answer"), kind=CorpusUnavailableError) == (
        "The corpus 'mine' cannot be fetched: the hub does not answer; connect to the hub, or give a local copy as "
        "path in [tool.esa.corpora.mine]."
    )


def test_data_set_without_datasets_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal(dataset(tmp_path), kind=CorpusUnavailableError) == (
        "The corpus 'mine' is a data set, which needs datasets: pip install 'esa-pytest[datasets]'."
    )
