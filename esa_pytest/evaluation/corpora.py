"""From a corpus' entry in the catalog to its text, fetched where it has to be."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from esa_pytest.baselines.corpus import Corpus, Document, read_corpus
from esa_pytest.baselines.sources import CorpusSource, DatasetCorpus, FileCorpus, SdistCorpus
from esa_pytest.errors import CorpusError, CorpusUnavailableError
from esa_pytest.evaluation.archives import fetch_texts
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.quiet import quiet_datasets


def load_corpus(name: str, source: CorpusSource, *, hub: Hub) -> Corpus:
    """Read a corpus.

    Args:
        name: its name in the catalog.
        source: its entry there.
        hub: asked before anything is fetched from it.

    Raises:
        CorpusUnavailableError: it has to be fetched and cannot be.
        CorpusError: it is not what it should be.
    """
    match source:
        case FileCorpus():
            return read_corpus(name, source)
        case SdistCorpus():
            return _of_texts(name, [_decoded(name, path) for path in fetch_texts(name, source)])
        case DatasetCorpus():
            rows = _dataset_rows(name, source, hub=hub)
            return _of_texts(name, ["\n\n".join(rows)] if source.joined else rows)


def _of_texts(name: str, texts: Iterable[str]) -> Corpus:
    """Documents of one stratum, hashed by their content."""
    documents = tuple(Document(stratum=name, text=text) for text in texts if text.strip())
    if not documents:
        raise CorpusError(f"The corpus {name!r} holds no text; check its split, column and files.")
    digest = hashlib.sha256()
    for document in documents:
        encoded = document.text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return Corpus(name=name, sha256=digest.hexdigest(), documents=documents, repeat_to_tokens=None)


def _decoded(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"The corpus {name!r} is not UTF-8: offset {error.start} of {path}.") from None


def _dataset_rows(name: str, source: DatasetCorpus, *, hub: Hub) -> list[str]:
    try:
        import datasets
    except ImportError:
        raise CorpusUnavailableError(
            f"The corpus {name!r} is a data set, which needs datasets: pip install 'esa-pytest[datasets]'."
        ) from None
    with quiet_datasets():
        try:
            loaded = _loaded(datasets, source, hub=hub)
        except Exception as error:  # noqa: BLE001  (datasets and the file systems below it raise anything)
            if unreachable := hub.unreachable_reason() if source.path is None else None:
                raise CorpusUnavailableError(
                    f"The corpus {name!r} cannot be fetched: {unreachable}; connect to the hub, or give a local "
                    f"copy as path in [tool.esa.corpora.{name}]."
                ) from None
            cause = str(error).strip().split("\n")[0].rstrip(".")
            raise CorpusUnavailableError(
                f"The corpus {name!r} cannot be loaded by datasets ({type(error).__name__}: {cause}); check its repo, "
                f"revision, config and split, or its path, in [tool.esa.corpora.{name}]."
            ) from None
    if source.column not in loaded.column_names:
        raise CorpusError(
            f"The corpus {name!r} has no column {source.column!r}; it has {', '.join(loaded.column_names)}."
        )
    count = len(loaded) if source.max_documents is None else min(source.max_documents, len(loaded))
    return [str(text) for text in loaded.select(range(count))[source.column]]


@contextmanager
def _offline(datasets: Any, *, switched_off: bool) -> Iterator[None]:
    """Let datasets use its cache alone while the block runs, or the hub too."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = switched_off
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _loaded(datasets: Any, source: DatasetCorpus, *, hub: Hub) -> Any:
    """The split, from a folder that was saved, a folder of files, or the hub and its cache."""
    if source.path is None:
        # A data set in the cache needs no network; and a network that is not there is asked once, not per file.
        with _offline(datasets, switched_off=hub.unreachable_reason() is not None):
            return datasets.load_dataset(
                source.repo, source.config, split=source.split, revision=source.revision, data_files=source.data_files
            )
    if (source.path / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(source.path))
    if (source.path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(source.path))[source.split]
    return datasets.load_dataset(str(source.path), source.config, split=source.split, data_files=source.data_files)
