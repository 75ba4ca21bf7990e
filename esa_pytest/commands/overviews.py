"""`esa report`: the last runs of all baselines, on the terminal, as Markdown, and as one HTML file."""

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from esa_pytest.commands.history import histories_of
from esa_pytest.errors import EsaError, LedgerError
from esa_pytest.evaluation.cache import write_atomically
from esa_pytest.golden.ledger_files import read_ledger
from esa_pytest.report.chronicle import History
from esa_pytest.report.comparison import comparison_lines
from esa_pytest.report.digest import digest_lines
from esa_pytest.report.documents import MANIFEST
from esa_pytest.report.overview import Overview, overview
from esa_pytest.report.page import html_page
from esa_pytest.report.runs import Run, Unreadable, read_run
from esa_pytest.report.tables import flat
from esa_pytest.settings import Settings

REPORT = "report.html"
# A manifest has some hundred kilobytes; what is larger than this was not written by a run.
_MOST_BYTES = 64 * 2**20


def report_lines(settings: Settings, folder: Path | None, *, output: Path | None, markdown: bool) -> Iterator[str]:
    """What to print; the HTML file is written on the way.

    Args:
        settings: the session's.
        folder: of the runs, a folder each; where the settings have them if None.
        output: the HTML file; `report.html` in the folder if None, and none then beside Markdown.
        markdown: whether to print Markdown instead of a table for terminals.

    Raises:
        EsaError: there is no run, the file cannot be written, or what draws it is not installed.
    """
    folder = settings.output_dir if folder is None else folder
    found = found_runs(folder)
    if not found:
        raise EsaError(f"There is no run in {folder}; run pytest -m smoke first, or name the folder that holds some.")
    seen = _seen(settings, folder, found)
    if markdown:
        yield from digest_lines(seen)
    else:
        yield from comparison_lines(found)
        yield from _unwanted_lines(settings, found)
    if output is None and markdown:
        return
    path = folder / REPORT if output is None else output
    page = html_page(seen)
    try:
        write_atomically(path, page)
    except OSError as error:
        raise EsaError(f"The report {path} cannot be written ({error.strerror}); name another with --output.") from None
    if not markdown:
        yield f"esa: the report is {path}"


def _unwanted_lines(settings: Settings, found: Sequence[Run | Unreadable]) -> Iterator[str]:
    wanted = {name for baseline in settings.baselines for name in (baseline.id, baseline.folder)}
    for name in (_name(run) for run in found):
        if name not in wanted:
            yield f"esa: no entry of the matrix wants {flat(name)}; remove its folder by hand if nobody needs it"


def _name(run: Run | Unreadable) -> str:
    """A run's baseline, and where that cannot be read its folder."""
    return run.baseline if isinstance(run, Run) else run.folder


def found_runs(folder: Path) -> list[Run | Unreadable]:
    """The run of each folder within, by name; one whose manifest is damaged says so."""
    return [
        _run(path / MANIFEST) for path in sorted(folder.glob("*")) if path.is_dir() and any(path.glob("[!.]*.json"))
    ]


def _run(path: Path) -> Run | Unreadable:
    name = path.parent.name
    try:
        if path.stat().st_size > _MOST_BYTES:
            return Unreadable(folder=name, cause=f"it has more than {_MOST_BYTES} bytes")
        return read_run(path.read_bytes(), folder=name)
    except OSError as error:
        return Unreadable(folder=name, cause=str(error.strerror))


def _seen(settings: Settings, folder: Path, found: Sequence[Run | Unreadable]) -> Overview:
    now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="minutes")
    there = {_name(run) for run in found}
    histories, trouble = _histories(settings)
    shown = folder.relative_to(settings.root) if folder.is_relative_to(settings.root) else folder
    return overview(
        found,
        made=f"Made {now} of {shown}",
        missing=[baseline.id for baseline in settings.baselines if there.isdisjoint((baseline.id, baseline.folder))],
        histories=histories,
        ledger_trouble=trouble,
    )


def _histories(settings: Settings) -> tuple[list[History], str | None]:
    try:
        return histories_of(settings, read_ledger(settings.golden_dir)), None
    except LedgerError as error:
        return [], str(error)
