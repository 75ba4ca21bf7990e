from pathlib import Path
from typing import Any

import pytest

from esa_pytest.baselines.sources import DatasetCorpus, FileCorpus, FolderModel, HubModel, RandomModel
from tests.unit.catalogs import REVISION, ROOT, catalog, refusal


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        ({"path": "m"}, FolderModel(path=ROOT / "m")),
        ({"repo": "org/name", "revision": REVISION}, HubModel(repo="org/name", revision=REVISION)),
        ({"config": "c.json"}, RandomModel(config=ROOT / "c.json", seed=1337)),
        ({"config": "/abs/c.json", "seed": 7}, RandomModel(config=Path("/abs/c.json"), seed=7)),
    ],
)
def test_model_is_of_the_kind_that_its_fields_tell(entry: dict[str, Any], model: object) -> None:
    assert catalog(models={"mine": entry}).models["mine"] == model


@pytest.mark.parametrize(
    ("entry", "corpus"),
    [
        ({"path": "a.txt"}, FileCorpus(path=ROOT / "a.txt")),
        ({"path": "a.txt", "repeat_to_tokens": 9}, FileCorpus(path=ROOT / "a.txt", repeat_to_tokens=9)),
        (
            {"path": "saved", "split": "test"},
            DatasetCorpus(source="dataset", path=ROOT / "saved", split="test"),
        ),
        (
            {"repo": "org/name", "revision": REVISION, "split": "test", "column": "body"},
            DatasetCorpus(source="dataset", repo="org/name", revision=REVISION, split="test", column="body"),
        ),
    ],
)
def test_corpus_is_of_the_kind_that_its_fields_tell(entry: dict[str, Any], corpus: object) -> None:
    assert catalog(corpora={"mine": entry}).corpora["mine"] == corpus


def test_given_source_outranks_what_the_fields_tell() -> None:
    message = refusal(models={"mine": {"source": "folder", "config": "c.json"}})
    assert message == "[tool.esa] is not valid: models.mine.path: Field required."


@pytest.mark.parametrize(
    "origin",
    [
        {},
        {"repo": "org/name"},
        {"revision": REVISION},
        {"path": "saved", "repo": "org/name", "revision": REVISION},
    ],
)
def test_data_set_with_no_origin_or_two_is_refused(origin: dict[str, str]) -> None:
    assert refusal(corpora={"mine": {"split": "test", **origin}}) == (
        "[tool.esa] is not valid: corpora.mine: a data set has either a path or a repo with its revision."
    )


@pytest.mark.parametrize("half", [{"repo": "org/name"}, {"revision": REVISION}])
def test_data_set_of_a_folder_names_no_part_of_a_repository(half: dict[str, str]) -> None:
    assert "a data set has either a path or a repo with its revision" in refusal(
        corpora={"mine": {"split": "test", "path": "saved", **half}}
    )


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"split": "test", "repo": "name", "revision": REVISION}, "corpora.mine.repo"),
        ({"split": "test", "repo": "org/name", "revision": "main"}, "(seen: 'main')"),
        ({"split": "test", "path": "saved", "max_documents": 0}, "(seen: 0)"),
        ({"split": "test", "path": "saved", "streaming": True}, "corpora.mine.streaming: there is no such key"),
        ({"source": "sdist", "package": "p", "version": "1"}, "corpora.mine.sha256: Field required"),
        ({"path": "a.txt", "column": "body"}, "corpora.mine.column: there is no such key"),
    ],
)
def test_corpus_that_is_not_valid_is_told_by_its_name(entry: dict[str, Any], told: str) -> None:
    message = refusal(corpora={"mine": entry})
    assert message.startswith("[tool.esa] is not valid: ")
    assert told in message
