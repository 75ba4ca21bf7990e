"""`esa history`: what the ledger tells of each baseline, and whether it is still the truth."""

from collections.abc import Sequence

from esa_pytest.errors import EsaError
from esa_pytest.golden.ledger import LEDGER_NAME, LedgerEntry, by_golden
from esa_pytest.golden.ledger_files import read_ledger, seal_at
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.report.chronicle import History, chronicle_lines
from esa_pytest.settings import Settings


def history_lines(settings: Settings, names: Sequence[str]) -> list[str]:
    """The ledger, a baseline and device at a time.

    Args:
        settings: the session's.
        names: of the baselines to show; every one that the ledger knows where none is given.

    Raises:
        EsaError: a name is not known, nothing was accepted yet, or the ledger cannot be read.
    """
    entries = read_ledger(settings.golden_dir)
    folders = {baseline.id: baseline.folder for baseline in settings.baselines}
    known = list(dict.fromkeys([*folders, *(entry.baseline for entry in entries)]))
    for name in names:
        if name not in known:
            raise EsaError(
                f"Neither the matrix nor the ledger has a baseline {name!r}; valid baselines are {', '.join(known)}."
            )
    wanted = [entry for entry in entries if not names or entry.baseline in names]
    if not wanted:
        raise EsaError(
            f"The ledger {settings.golden_dir / LEDGER_NAME} tells of no acceptance{' of these' if names else ''}; "
            f'record a golden with: pytest --snapshot-update --esa-reason "...".'
        )
    return chronicle_lines(histories_of(settings, wanted))


def histories_of(settings: Settings, entries: Sequence[LedgerEntry]) -> list[History]:
    """Entries of the ledger by golden, each beside the golden that is there now."""
    folders = {baseline.id: baseline.folder for baseline in settings.baselines}
    histories = []
    for (baseline, device, dtype), group in by_golden(entries).items():
        folder = folders.get(baseline)
        location = (
            None
            if folder is None
            else GoldenLocation(root=settings.golden_dir, folder=folder, device=device, dtype=dtype)
        )
        histories.append(
            History(
                name=f"{baseline} ({device}, {dtype})",
                entries=tuple(group),
                golden_sha256=None if location is None else seal_at(location),
                wanted=location is not None,
            )
        )
    return histories
