"""Which files of a checkpoint folder are its tokenizer, and which may decide something beside its vocabulary."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from esa_pytest.errors import CheckpointError
from esa_pytest.evaluation.hashing import read_files_sha256, tokenizer_sha256


def tokenizer(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_layout_of_the_tokenizer_does_not_matter(tmp_path: Path) -> None:
    dense = tokenizer(tmp_path / "dense", {"tokenizer.json": '{"b":{"y":1,"x":"é"},"a":[1,2]}'})
    airy = tokenizer(tmp_path / "airy", {"tokenizer.json": '{\n "a": [1, 2],\n "b": {"x": "\\u00e9", "y": 1}}\n'})
    assert tokenizer_sha256(dense) == tokenizer_sha256(airy)


@pytest.mark.parametrize("text", ['{"vocab": {"b": 0, "a": 1}}', '{"vocab": {"a": 0, "b": 2}}', '{"vocab": {}}'])
def test_other_vocabulary_is_another_tokenizer(tmp_path: Path, text: str) -> None:
    old = tokenizer(tmp_path / "old", {"tokenizer.json": '{"vocab": {"a": 0, "b": 1}}'})
    assert tokenizer_sha256(old) != tokenizer_sha256(tokenizer(tmp_path / "new", {"tokenizer.json": text}))


def test_other_merges_are_another_tokenizer_where_they_have_a_file_of_their_own(tmp_path: Path) -> None:
    old = tokenizer(tmp_path / "old", {"vocab.json": '{"a": 0}', "merges.txt": "a b\n"})
    new = tokenizer(tmp_path / "new", {"vocab.json": '{"a": 0}', "merges.txt": "b a\n"})
    assert tokenizer_sha256(old) != tokenizer_sha256(new)


def test_files_beside_a_whole_tokenizer_do_not_matter(tmp_path: Path) -> None:
    alone = tokenizer(tmp_path / "alone", {"tokenizer.json": "{}"})
    more = tokenizer(tmp_path / "more", {"tokenizer.json": "{}", "merges.txt": "a b\n", "README.md": "words"})
    assert tokenizer_sha256(alone) == tokenizer_sha256(more)


def test_folder_without_a_tokenizer_is_told_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        tokenizer_sha256(tmp_path)
    assert str(caught.value) == (
        f"There is no tokenizer in {tmp_path}; one of tokenizer.json, tokenizer.model, vocab.json, merges.txt, "
        "vocab.txt is needed, as tokenizer.save_pretrained writes it."
    )


@pytest.mark.parametrize("text", ["", '{"vocab": ', "<html>"])
def test_damaged_tokenizer_is_told_with_its_file(tmp_path: Path, text: str) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": text})
    with pytest.raises(CheckpointError) as caught:
        tokenizer_sha256(folder)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tekken.json", "spiece.model"]
)
def test_file_that_a_tokenizer_may_be_read_from_counts(tmp_path: Path, name: str) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": "{}"})
    seen = [read_files_sha256(folder)]
    for text in ('{"bos_token": "a"}', '{"bos_token": "b"}'):
        (folder / name).write_text(text, encoding="utf-8")
        seen.append(read_files_sha256(folder))
    (folder / name).unlink()
    assert len(set(seen)) == 3
    assert read_files_sha256(folder) == seen[0]


@pytest.mark.parametrize("name", ["README.md", "generation_config.json", "chat_template.jinja", "chat_template.json"])
def test_file_that_decides_nothing_does_not_count(tmp_path: Path, name: str) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": "{}"})
    before = read_files_sha256(folder)
    (folder / name).write_text("{}", encoding="utf-8")
    assert read_files_sha256(folder) == before


def test_file_that_may_not_be_read_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tokenizer(tmp_path / "model", {"tokenizer.json": "{}"})
    before = read_files_sha256(folder)
    (folder / "private.json").write_text("{}", encoding="utf-8")
    # Permissions hold nobody back who runs the tests as root.
    monkeypatch.setattr("os.access", lambda path, _mode: path.name != "private.json")
    assert read_files_sha256(folder) == before
