"""Texts: read from .txt, .jsonl or .parquet, checked, and hashed."""

import codecs
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esa_pytest.baselines.sources import FileCorpus
from esa_pytest.errors import CorpusError

READABLE = ".txt, .jsonl, .parquet"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A piece of running text and the stratum it belongs to: the one it names, else that of its corpus."""

    stratum: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A named text in documents.

    Attributes:
        name: the name in the catalog.
        sha256: over its content.
        documents: in the order of the file.
        repeat_to_tokens: how long the text becomes by repetition; None for running text.
    """

    name: str
    sha256: str
    documents: tuple[Document, ...]
    repeat_to_tokens: int | None


def read_corpus(name: str, source: FileCorpus) -> Corpus:
    """Read a corpus file.

    Raises:
        CorpusError: the file is missing, of an unknown kind, not UTF-8, malformed, or holds no text.
    """
    path = source.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(
            f"The corpus {name!r} cannot be read: {path}: {error.strerror}; "
            f"correct its path in [tool.esa.corpora.{name}]."
        ) from None
    documents = tuple(document for document in _documents(name, path, data) if document.text.strip())
    if not documents:
        raise CorpusError(f"The corpus {name!r} holds no text: {path} has {len(data)} bytes; give a file with text.")
    return Corpus(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        documents=documents,
        repeat_to_tokens=source.repeat_to_tokens,
    )


def _documents(name: str, path: Path, data: bytes) -> Iterator[Document]:
    match path.suffix:
        case ".txt":
            yield Document(stratum=name, text=_decoded(name, path, data))
        case ".jsonl":
            yield from _json_lines(name, path, _decoded(name, path, data))
        case ".parquet":
            yield from _parquet_rows(name, path, data)
        case other:
            raise CorpusError(f"The corpus {name!r} is a {other or 'nameless'} file: {path}; it may be {READABLE}.")


def _decoded(name: str, path: Path, data: bytes) -> str:
    if data.startswith(codecs.BOM_UTF8):
        raise CorpusError(
            f"The corpus {name!r} begins with a byte order mark: {path}; it is no part of the text, so save the file "
            f"as UTF-8 without it."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"The corpus {name!r} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start} of {path}; "
            f"convert it, as with iconv -t utf-8."
        ) from None


def _json_lines(name: str, path: Path, text: str) -> Iterator[Document]:
    # splitlines() would also cut at U+2028 and its kin, which JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise CorpusError(
                    f"The corpus {name!r} has no JSON on line {number} of {path}; mend the line."
                ) from None
            yield _labelled(name, f"line {number} of {path}", row)


def _parquet_rows(name: str, path: Path, data: bytes) -> Iterator[Document]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise CorpusError(
            f"The corpus {name!r} is a parquet file, which needs pyarrow: pip install 'esa-pytest[parquet]'."
        ) from None
    try:
        held = parquet.read_schema(io.BytesIO(data)).names
        # Other columns may be large, or hold what Python has no value for.
        read = [column for column in ("text", "stratum") if column in held]
        rows = parquet.read_table(io.BytesIO(data), columns=read).to_pylist()
    except (OSError, ValueError) as error:
        cause = str(error).partition("\n")[0].rstrip(".")
        raise CorpusError(f"The corpus {name!r} is no parquet file of texts: {path}: {cause}; write it anew.") from None
    for number, row in enumerate(rows, start=1):
        yield _labelled(name, f"row {number} of {path}", row)


def _labelled(name: str, where: str, row: Any) -> Document:
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise CorpusError(
            f'The corpus {name!r} has no text on {where}; each entry is {{"text": "...", "stratum": "..."}}, '
            f"the stratum optional."
        )
    document = Document(stratum=str(row.get("stratum") or name), text=row["text"])
    for what, content in (("text", document.text), ("stratum", document.stratum)):
        if _has_lone_surrogate(content):
            raise CorpusError(
                f"The corpus {name!r} has half of a surrogate pair in the {what} on {where}, which is no character; "
                f"mend the escape."
            )
    return document


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
