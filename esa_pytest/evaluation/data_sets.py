"""The rows of a data set: of a folder that was saved, of a folder of files, or of the hub and its cache."""

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from esa_pytest.baselines.sources import DatasetCorpus
from esa_pytest.errors import CorpusError, CorpusUnavailableError
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.quiet import quiet_datasets


def dataset_rows(name: str, source: DatasetCorpus, *, hub: Hub) -> list[str]:
    """The texts of a data set's column, in order.

    Args:
        name: of the corpus in the catalog.
        source: its entry there.
        hub: asked before anything is fetched from it.

    Raises:
        CorpusUnavailableError: it has to be fetched and cannot be, or datasets is not installed.
        CorpusError: the local copy is not what its entry says, or a row is no text.
    """
    try:
        import datasets
    except ImportError:
        raise CorpusUnavailableError(
            f"The corpus {name!r} is a data set, which needs datasets: pip install 'esa-pytest[datasets]'."
        ) from None
    with quiet_datasets():
        try:
            loaded = _loaded(datasets, name, source, hub=hub)
        except CorpusError:
            raise
        except Exception as error:  # noqa: BLE001  (datasets and the file systems below it raise anything)
            raise _explained(name, source, error, hub=hub) from None
    if source.column not in loaded.column_names:
        raise CorpusError(
            f"The corpus {name!r} has no column {source.column!r}; it has {', '.join(loaded.column_names)}."
        )
    count = len(loaded) if source.max_documents is None else min(source.max_documents, len(loaded))
    rows = list(loaded.select(range(count))[source.column])
    _refuse_other_than_text(name, source.column, rows)
    return rows


def _refuse_other_than_text(name: str, column: str, rows: list[Any]) -> None:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, str):
            raise CorpusError(
                f"The corpus {name!r} has {reprlib.repr(row)} in row {number} of its column {column!r}, which is no "
                f"text; give a column of text, or take that row out."
            )


def _explained(name: str, source: DatasetCorpus, error: Exception, *, hub: Hub) -> CorpusError | CorpusUnavailableError:
    """A local copy that cannot be loaded is wrong; what is on the hub may be had elsewhere, or later."""
    where = f"[tool.esa.corpora.{name}]"
    cause = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0].rstrip('.')}"
    if source.path is not None:
        return CorpusError(
            f"The corpus {name!r} cannot be loaded by datasets from {source.path} ({cause}); check its path, config, "
            f"split and data_files in {where}."
        )
    if unreachable := hub.unreachable_reason():
        return CorpusUnavailableError(
            f"The corpus {name!r} cannot be fetched: {unreachable}; connect to the hub, or give a local copy as path "
            f"in {where}."
        )
    return CorpusUnavailableError(
        f"The corpus {name!r} cannot be loaded by datasets ({cause}); check its repo, revision, config and split in "
        f"{where}."
    )


def _loaded(datasets: Any, name: str, source: DatasetCorpus, *, hub: Hub) -> Any:
    if source.path is not None:
        return _local(datasets, name, source, source.path)
    # A data set in the cache needs no network; and a network that is not there is asked once, not per file.
    with _offline(datasets, switched_off=hub.unreachable_reason() is not None):
        return datasets.load_dataset(
            source.repo, source.config, split=source.split, revision=source.revision, data_files=source.data_files
        )


@contextmanager
def _offline(datasets: Any, *, switched_off: bool) -> Iterator[None]:
    """Let datasets use its cache alone while the block runs, or the hub too."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = switched_off
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _local(datasets: Any, name: str, source: DatasetCorpus, path: Path) -> Any:
    """The split, of one or several that `save_to_disk` wrote, or of a folder of files."""
    if not path.is_dir():
        raise CorpusError(
            f"The corpus {name!r} is a data set and {path} is no folder; correct its path in [tool.esa.corpora.{name}]."
        )
    single = (path / "dataset_info.json").is_file()
    if not single and not (path / "dataset_dict.json").is_file():
        return datasets.load_dataset(str(path), source.config, split=source.split, data_files=source.data_files)
    _refuse_choices(name, source, path)
    saved = datasets.load_from_disk(str(path))
    # One that was saved without a name is the split that is asked for, but never a slice of it.
    splits = {str(saved.split or source.split.partition("[")[0]): saved} if single else saved
    if source.split not in splits:
        raise CorpusError(
            f"The corpus {name!r} asks for the split {source.split!r} and the data set saved in {path} holds "
            f"{', '.join(splits)}; correct its split in [tool.esa.corpora.{name}]."
        )
    return splits[source.split]


def _refuse_choices(name: str, source: DatasetCorpus, path: Path) -> None:
    for key, value in (("config", source.config), ("data_files", source.data_files)):
        if value is not None:
            raise CorpusError(
                f"The corpus {name!r} has {key} = {value!r} and {path} holds a data set that was saved, where "
                f"{key} chooses nothing; leave it out of [tool.esa.corpora.{name}]."
            )
