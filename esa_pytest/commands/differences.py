"""`esa diff`: every golden beside what was measured last, or beside the golden of another revision."""

from collections.abc import Sequence
from pathlib import Path

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.check.accepting import RECORD_PREFIX
from esa_pytest.commands.artifacts import read_record
from esa_pytest.drift.judge import judge
from esa_pytest.drift.rules import Rules
from esa_pytest.errors import EsaError, GoldenError
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.revisions import Revision, revision
from esa_pytest.records import Record
from esa_pytest.report.markdown import Comparison, markdown_lines
from esa_pytest.settings import Settings


def difference_lines(settings: Settings, names: Sequence[str], *, against: str | None) -> list[str]:
    """A table in Markdown, golden -> measured.

    Args:
        settings: the session's.
        names: of the baselines to show; all of the matrix where none is given.
        against: a git revision whose goldens are compared with those of the working tree; None for the last runs.

    Raises:
        EsaError: a name is not known, there is nothing to compare, or the revision is none.
    """
    chosen = chosen_baselines(settings, names)
    if against is not None:
        before = revision(against, golden_dir=settings.golden_dir)
        compared = [found for baseline in chosen for found in _since(before, baseline, settings)]
        return markdown_lines(compared, old=f"golden of {against}", new="golden")
    compared = [found for baseline in chosen for found in _measured(baseline, settings)]
    if not compared:
        raise EsaError(
            f"There is no measured record in {settings.output_dir}; run pytest -m smoke first, set --esa-output-dir, "
            f"or compare goldens with --against REV."
        )
    return markdown_lines(compared, old="golden", new="measured")


def chosen_baselines(settings: Settings, names: Sequence[str]) -> list[Baseline]:
    """The baselines of the matrix that have these names, all where there are none.

    Raises:
        EsaError: the matrix has none of that name.
    """
    known = {baseline.id: baseline for baseline in settings.baselines}
    for name in names:
        if name not in known:
            raise EsaError(f"The matrix has no baseline {name!r}; valid baselines are {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def _measured(baseline: Baseline, settings: Settings) -> list[Comparison]:
    """What the last runs of a baseline measured, a device a row."""
    folder = settings.output_dir / baseline.folder
    found = []
    for path in sorted(folder.glob(f"{RECORD_PREFIX}*.json")):
        location = _location(settings.golden_dir, baseline, path.stem.removeprefix(RECORD_PREFIX))
        found.append(_compared(location, baseline, _try_golden(location), _try_record(path), settings.rules))
    return found


def _since(before: Revision, baseline: Baseline, settings: Settings) -> list[Comparison]:
    """What became of a baseline's goldens since a revision, a device a row."""
    here = {path.stem for path in (settings.golden_dir / baseline.folder).glob("[!.]*.json")}
    there = {Path(name).stem for name in before.jsons() if name.split("/")[0] == baseline.folder}
    found = []
    for stem in sorted(here | there):
        location = _location(settings.golden_dir, baseline, stem)
        old = _try_old(before, location)
        found.append(_compared(location, baseline, old, _try_golden(location), settings.rules))
    return found


def _location(golden_dir: Path, baseline: Baseline, stem: str) -> GoldenLocation:
    device, _, dtype = stem.rpartition("-")
    return GoldenLocation(root=golden_dir, folder=baseline.folder, device=device, dtype=dtype)


def _compared(
    location: GoldenLocation, baseline: Baseline, old: Record | str | None, new: Record | str | None, rules: Rules
) -> Comparison:
    """A pair, judged where both sides can be read; a text says why one cannot."""
    name = f"{baseline.id} ({location.device})"
    troubles = tuple(side for side in (old, new) if isinstance(side, str))
    before = None if isinstance(old, str) else old
    now = None if isinstance(new, str) else new
    verdict = judge(before, now, rules) if before is not None and now is not None else None
    return Comparison(name=name, old=before, new=now, verdict=verdict, troubles=troubles)


def _try_golden(location: GoldenLocation) -> Record | str | None:
    try:
        return read_golden(location)
    except GoldenError as error:
        return str(error)


def _try_old(before: Revision, location: GoldenLocation) -> Record | str | None:
    try:
        return before.golden(location)
    except GoldenError as error:
        return str(error)


def _try_record(path: Path) -> Record | str | None:
    try:
        return read_record(path)
    except GoldenError as error:
        return str(error)
