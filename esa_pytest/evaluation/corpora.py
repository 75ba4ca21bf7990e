"""From a corpus' entry in the catalog to its text, fetched where it has to be."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from esa_pytest.baselines.corpus import Corpus, Document, read_corpus
from esa_pytest.baselines.sources import CorpusSource, DatasetCorpus, FileCorpus, SdistCorpus
from esa_pytest.errors import CorpusError
from esa_pytest.evaluation.archives import fetch_texts
from esa_pytest.evaluation.data_sets import dataset_rows
from esa_pytest.evaluation.hub import Hub


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
            rows = dataset_rows(name, source, hub=hub)
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
