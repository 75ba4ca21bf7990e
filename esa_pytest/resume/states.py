"""Hashes over files: of this package, of a test and its conftest.py, of a baseline's goldens. Loads no torch."""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import esa_pytest


def golden_state(folder: Path) -> str:
    """A hash over the goldens of one baseline for every device: names and bytes."""
    return files_sha256(path for path in folder.glob("[!.]*") if path.is_file())


def source_state(test: Path, root: Path) -> str:
    """A hash over the file of a test and every conftest.py above it, up to the rootdir."""
    above = [folder / "conftest.py" for folder in test.parents if folder == root or root in folder.parents]
    return files_sha256([test, *(path for path in above if path.is_file())])


@functools.cache
def code_state() -> str:
    """The version of this package and the content of its files."""
    root = Path(esa_pytest.__file__).parent
    files = (path for path in root.rglob("*") if path.suffix in (".py", ".toml"))
    return f"{esa_pytest.__version__} {files_sha256(files, below=root)}"


def files_sha256(paths: Iterable[Path], *, below: Path | None = None) -> str:
    """A hash over the names and the bytes of files; one that is not there has no bytes."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        name = path.name if below is None else path.relative_to(below).as_posix()
        content = path.read_bytes() if path.is_file() else b""
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
