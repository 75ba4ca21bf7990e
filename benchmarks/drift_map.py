"""Which release of transformers moved which family of models, in which tier, and by how much.

    python -m benchmarks.drift_map

Scores every tiny model under each release, with sdpa and with eager attention, and judges each release by the golden of
the one before it that ran the family: a step that moved something is a step that an upgrade takes, wherever it begins.
Writes docs/drift-map.md and docs/drift-map.svg. Answers are kept in the cache, so that a run that was stopped goes on.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.drift_picture import draw
from benchmarks.drift_steps import Row, Step
from benchmarks.drift_text import lines
from esa_pytest.drift.judge import judge
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.golden.environment import instruction_set
from tests.incidents.arrays import scores_of
from tests.incidents.jobs import Job, Scored, run
from tests.incidents.recording import Setting, golden_jobs, measured, recorded
from tests.incidents.subjects import FAMILIES

DOCS = Path(__file__).resolve().parents[1] / "docs"
RELEASES = (
    "4.31.0", "4.34.1", "4.35.2", "4.36.2", "4.37.2", "4.38.2", "4.47.1", "4.48.0", "4.49.0",
    "4.51.3", "4.52.2", "4.52.4", "4.57.6", "5.0.0", "5.23.0",
)  # fmt: skip
ATTENTIONS = ("sdpa", "eager")


def main() -> None:
    """Measure, and write the text and the picture."""
    rows = [Row(model=m, attention=a) for m in FAMILIES for a in ATTENTIONS]
    for release in RELEASES:
        rows = _scored(release, rows)
        _say(f"{release}: scored")
    _prepare(rows)
    rows = [replace(row, steps=dict(_steps(row)), upgrades=dict(_upgrades(row))) for row in rows]
    made_with = f"torch {torch.__version__} on {instruction_set()}"
    (DOCS / "drift-map.md").write_text("\n".join(lines(rows, RELEASES, made_with=made_with)) + "\n", encoding="utf-8")
    draw(rows, RELEASES, DOCS / "drift-map.svg")


def _scored(release: str, rows: list[Row]) -> list[Row]:
    """The rows with what a release gives, all of it scored in one process."""
    wanted = [_setting(release, row, probed=False) for row in rows]
    answers = run(release, [(setting.subject, setting.job) for setting in wanted])
    grown = []
    for row, setting, answer in zip(rows, wanted, answers, strict=True):
        if isinstance(answer, Scored):
            scores = scores_of(setting.subject, answer)
            bits, loss = bits_of(scores), compute_metrics(scores).mean_nll
            grown.append(replace(row, bits={**row.bits, release: bits}, loss={**row.loss, release: loss}))
        else:
            grown.append(replace(row, refused={**row.refused, release: answer.reason}))
    return grown


def _prepare(rows: list[Row]) -> None:
    """Let each release do in few processes what the verdicts need of it, which then find the answers kept."""
    moved = [(row, before, after) for row in rows for before, after in _neighbours(row) if _moved(row, before, after)]
    for release in RELEASES:
        goldens = [_setting(release, row) for row, before, _ in moved if before == release]
        others = [_setting(release, row) for row, _, after in moved if release in (after, _newest(row))]
        run(release, [(setting.subject, setting.job) for setting in others])
        run(release, [(setting.subject, job) for setting in goldens for job in _golden_jobs(setting)])
        _say(f"{release}: {len(goldens)} goldens, {len(others)} judged")


def _golden_jobs(setting: Setting) -> list[Job]:
    ((_, named),) = golden_jobs(setting.job, brief=True)
    return [job for _, job in named]


def _steps(row: Row) -> Iterator[tuple[str, Step]]:
    """Each release that runs a family, judged by the one before it."""
    for before, after in _neighbours(row):
        yield after, _step(row, before, after)


def _upgrades(row: Row) -> Iterator[tuple[str, Step]]:
    """The newest release, judged by each run of older ones with equal bits, under the name of the run's last."""
    for run_of_equals in row.same_bits()[:-1]:
        yield run_of_equals[-1], _step(row, run_of_equals[-1], _newest(row))


def _step(row: Row, before: str, after: str) -> Step:
    verdict = None
    if _moved(row, before, after):
        verdict = judge(recorded(_setting(before, row), brief=True), measured(_setting(after, row)))
    return Step(before=before, verdict=verdict, shift=row.loss[after] / row.loss[before] - 1)


def _newest(row: Row) -> str:
    return list(row.bits)[-1]


def _neighbours(row: Row) -> list[tuple[str, str]]:
    """Each two releases, one after the other, that run a family."""
    ran = [release for release in RELEASES if release in row.bits]
    return list(pairwise(ran))


def _moved(row: Row, before: str, after: str) -> bool:
    return row.bits[before] != row.bits[after]


def _setting(release: str, row: Row, *, probed: bool = True) -> Setting:
    return Setting(release=release, model=row.model, job=Job(attention=row.attention, probed=probed), one_window=True)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
