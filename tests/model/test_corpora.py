"""A corpus comes from a file, a data set or an archive, whole, in order, or not at all and with a sentence."""

import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from esa_pytest.baselines.corpus import Corpus
from esa_pytest.baselines.sources import DatasetCorpus, SdistCorpus
from esa_pytest.errors import CorpusError, CorpusUnavailableError
from esa_pytest.evaluation.corpora import load_corpus
from esa_pytest.evaluation.hub import Hub
from tests.model.fake_hub import FakeHub, Refusal

pytestmark = pytest.mark.usefixtures("own_cache", "own_datasets_cache")
ROWS = ["One line.\n", "", "Zwei Zeilen: ä, 漢字 🍎.\n", " \n", "three"]
FULL = [row for row in ROWS if row.strip()]
REVISION = "b" * 40


@pytest.fixture
def own_datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of datasets instead of the user's."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict({"text": ROWS, "number": list(range(len(ROWS)))}).save_to_disk(folder)
    return folder


@pytest.fixture
def saved_splits(tmp_path: Path) -> Path:
    folder = tmp_path / "splits"
    splits = {
        "train": datasets.Dataset.from_dict({"text": ["wrong"]}),
        "test": datasets.Dataset.from_dict({"text": ROWS}),
    }
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


@pytest.fixture
def of_parquet(tmp_path: Path) -> Path:
    folder = tmp_path / "parquet"
    folder.mkdir()
    parquet.write_table(pyarrow.table({"text": ROWS[:2]}), folder / "test-00000-of-00002.parquet")
    parquet.write_table(pyarrow.table({"text": ROWS[2:]}), folder / "test-00001-of-00002.parquet")
    parquet.write_table(pyarrow.table({"text": ["wrong"]}), folder / "train-00000-of-00001.parquet")
    return folder


def _loaded(path: Path, *, split: str = "test", **changes: Any) -> Corpus:
    return load_corpus("mine", DatasetCorpus(source="dataset", path=path, split=split, **changes), hub=Hub())


def _texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents]


@pytest.mark.parametrize("kind", ["saved", "saved_splits", "of_parquet"])
def test_rows_with_text_are_documents_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    corpus = _loaded(request.getfixturevalue(kind))
    assert _texts(corpus) == FULL
    assert {document.stratum for document in corpus.documents} == {"mine"}
    assert corpus.repeat_to_tokens is None


def test_the_same_texts_are_the_same_corpus_wherever_they_lie(
    saved: Path, saved_splits: Path, of_parquet: Path
) -> None:
    hashes = {_loaded(folder).sha256 for folder in (saved, saved_splits, of_parquet)}
    digest = hashlib.sha256()
    for text in FULL:
        digest.update(len(text.encode()).to_bytes(8, "little") + text.encode())
    assert hashes == {digest.hexdigest()}


def test_a_split_that_is_not_there(saved_splits: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        _loaded(saved_splits, split="validation")
    assert str(caught.value) == (
        f"The corpus 'mine' asks for the split 'validation' and the data set saved in {saved_splits} holds train, "
        f"test; correct its split in [tool.esa.corpora.mine]."
    )


@pytest.mark.parametrize(("named", "asked"), [("train", "test"), ("train", "train[:2]"), (None, "test[:2]")])
def test_a_saved_split_is_taken_for_no_other_and_for_no_part_of_it(
    named: str | None, asked: str, tmp_path: Path
) -> None:
    folder = tmp_path / "named"
    datasets.Dataset.from_dict({"text": ROWS}, split=named).save_to_disk(folder)
    held = named or "test"
    assert _texts(_loaded(folder, split=held)) == FULL
    with pytest.raises(
        CorpusError, match=f"asks for the split '{re.escape(asked)}' .* holds {held}; correct its split"
    ):
        _loaded(folder, split=asked)


@pytest.mark.parametrize("choice", [{"config": "long"}, {"data_files": "a.txt"}])
@pytest.mark.parametrize("kind", ["saved", "saved_splits"])
def test_what_chooses_nothing_of_a_saved_data_set_is_told(
    kind: str, choice: dict[str, str], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    (key, value) = next(iter(choice.items()))
    with pytest.raises(CorpusError) as caught:
        _loaded(folder, **choice)
    assert str(caught.value) == (
        f"The corpus 'mine' has {key} = {value!r} and {folder} holds a data set that was saved, where {key} chooses "
        f"nothing; leave it out of [tool.esa.corpora.mine]."
    )


def test_rows_without_any_text(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["", " \n"]}).save_to_disk(tmp_path / "blank")
    with pytest.raises(CorpusError) as caught:
        _loaded(tmp_path / "blank")
    assert str(caught.value) == "The corpus 'mine' holds no text; check its split, column and files."


def test_a_local_data_set_asks_no_hub(of_parquet: Path, fake_hub: FakeHub) -> None:
    assert _texts(_loaded(of_parquet)) == FULL
    assert fake_hub.asked == []


def _of_the_hub() -> Corpus:
    source = DatasetCorpus(source="dataset", repo="somebody/texts", revision=REVISION, split="test")
    return load_corpus("mine", source, hub=Hub())


@pytest.mark.usefixtures("hub_cache", "offline")
def test_a_data_set_of_a_hub_that_is_switched_off() -> None:
    with pytest.raises(CorpusUnavailableError) as caught:
        _of_the_hub()
    assert str(caught.value) == (
        "The corpus 'mine' cannot be fetched: HF_HUB_OFFLINE forbids to ask the hub; connect to the hub, or give a "
        "local copy as path in [tool.esa.corpora.mine]."
    )


def test_a_data_set_that_the_hub_does_not_have(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", fake_hub.endpoint)
    fake_hub.of_repository = Refusal(status=404, code="RepoNotFound", message="Repository not found")
    with pytest.raises(CorpusUnavailableError, match=r"'mine' cannot be loaded by datasets \(\w*NotFoundError: "):
        _of_the_hub()
    assert [question for question in fake_hub.asked if "/api/datasets/somebody/texts" in question]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.usefixtures("hub_cache", "offline")
def test_the_switches_of_datasets_are_as_they_were(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", before)
    logging = datasets.utils.logging
    state = (logging.get_verbosity(), datasets.are_progress_bars_disabled())
    with pytest.raises(CorpusUnavailableError):
        _of_the_hub()
    assert datasets.config.HF_HUB_OFFLINE is before
    assert constants.HF_HUB_OFFLINE is True
    assert (logging.get_verbosity(), datasets.are_progress_bars_disabled()) == state


def test_the_texts_of_a_source_archive_come_by_way_of_pip_and_nothing_of_it_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    archive = tmp_path / "fake-texts-1.0.tar.gz"
    members = {
        "setup.py": "raise SystemExit('nothing of the archive is executed')",
        "texts/b.txt": "Second, ä.",
        "texts/a.txt": "First.",
        "texts/notes.md": "Not a text.",
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(f"fake-texts-1.0/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    source = SdistCorpus(
        source="sdist",
        package="fake-texts",
        version="1.0",
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        members="texts/*.txt",
        license="public domain",
    )
    corpus = load_corpus("plays", source, hub=Hub())
    assert _texts(corpus) == ["First.", "Second, ä."]
    assert {document.stratum for document in corpus.documents} == {"plays"}
    archive.unlink()
    assert load_corpus("plays", source, hub=Hub()) == corpus
