"""What a bisection makes of a process that ends without a record, or with one that says something else."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esa_pytest.bisection import child
from esa_pytest.bisection.bench import Bench, standing_of
from esa_pytest.bisection.child import ANSWER, TrialAnswer, TrialRun
from esa_pytest.bisection.differences import Move
from esa_pytest.bisection.limits import Deadline
from esa_pytest.bisection.overlays import Overlay, Overlays
from esa_pytest.bisection.search import Standing
from esa_pytest.bisection.store import TrialStore
from esa_pytest.bisection.trial import MovedPackage
from esa_pytest.drift.judge import judge
from esa_pytest.drift.rules import ResourceMode, Rules
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack
from esa_pytest.records import BitStability, MetricRow, Outcome, Record, ReferenceDrift, Tier, Verdict
from tests.model.tiny import tiny_baseline
from tests.unit.builders import ENVIRONMENT, changed_identity, scored, small_record, token_scores
from tests.unit.probe_builders import PROBE

GOLDEN = replace(small_record(), bit_stability=BitStability(fresh_processes=3, distinct_bit_patterns=1))
HERE = ENVIRONMENT | {"version.transformers": "5.1.0"}
MOVE = Move(package="transformers", golden="5.0.0", here="5.1.0")

Process = Callable[[TrialRun], "subprocess.CompletedProcess[str]"]


class Faked(Deadline):
    """A deadline that runs no process, and asks a function what one would have done."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        object.__setattr__(self, "process", process)

    def run(
        self, command: Sequence[str], *, environment: Mapping[str, str], text: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        process: Process = vars(self)["process"]
        return process(TrialRun.model_validate_json(text))


class NoPip(Overlays):
    """Overlays that are there already."""

    def of(self, moves: Any) -> tuple[Overlay, ...]:
        return tuple(Overlay(package=m.package, version=m.golden, here=m.here, folder=Path("there")) for m in moves)


def bench(tmp_path: Path, process: Process) -> Bench:
    deadline = Faked(process)
    return Bench(
        baseline=tiny_baseline(tmp_path, tmp_path),
        golden=GOLDEN,
        location=GoldenLocation(root=tmp_path, folder="tiny__tiny", device="cpu", dtype="bfloat16"),
        device="cpu",
        overlays=NoPip(tmp_path, deadline=deadline),
        scratch=tmp_path,
        deadline=deadline,
    )


def ended(status: int, complaint: str = "", output: str = "") -> Process:
    return lambda _: subprocess.CompletedProcess([], status, output, complaint)


def answered(answer: TrialAnswer, content: bytes | None = None) -> Process:
    def process(run: TrialRun) -> "subprocess.CompletedProcess[str]":
        if content is not None:
            run.target.write_bytes(content)
        return subprocess.CompletedProcess([], 0, f"noise\n{ANSWER}{answer.model_dump_json()}\n", "")

    return process


def measured(record: Record, **environment: str) -> Process:
    there = replace(record, environment=HERE | environment)
    return answered(TrialAnswer(environment=dict(there.environment)), pack(there, npz_name="trial.npz"))


def test_a_trial_is_judged_there_as_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the float32 reference is needed is found out there."""
    rules = Rules(false_alarm_rate=1e-6, tolerances={"mean_nll": 0.5}, resources=ResourceMode.OFF)
    asked: list[TrialRun] = []

    def process(run: TrialRun) -> "subprocess.CompletedProcess[str]":
        asked.append(run)
        return subprocess.CompletedProcess([], 1, "", "")

    replace(bench(tmp_path, process), rules=rules).trial([MOVE])
    assert [run.rules for run in asked] == [rules]
    judged: list[Rules] = []

    def noted(_golden: Record, _measured: Record, by: Rules) -> Verdict:
        judged.append(by)
        return judge(GOLDEN, GOLDEN, by)

    found: Any = SimpleNamespace(record=GOLDEN)
    monkeypatch.setattr(child, "ModelShelf", lambda **_: SimpleNamespace(get=lambda _baseline: None))
    monkeypatch.setattr(child, "measure", lambda *_, **__: found)
    monkeypatch.setattr(child, "read_golden", lambda _location: replace(GOLDEN, probe=PROBE))
    monkeypatch.setattr(child, "judge", noted)
    assert child._measured(asked[0]) is found
    assert judged == [rules]


@pytest.mark.parametrize(
    ("status", "complaint", "cause"),
    [
        (
            1,
            "Traceback\n  File\nImportError: hub<1 is required\nTry: pip install\n",
            "ImportError: hub<1 is required",
        ),
        (1, "Traceback\nMemoryError\n", "MemoryError"),
        (1, "Traceback\nesa.some.OddError\n\n", "esa.some.OddError"),
        (3, "gone.\n", "gone"),
        (1, "", "its process ended with 1"),
        (-9, "", "its process ended with -9"),
    ],
)
def test_a_process_without_an_answer_is_a_broken_environment_and_is_not_kept(
    tmp_path: Path, status: int, complaint: str, cause: str
) -> None:
    """Nothing tells a package that does not fit from a moment's lack of memory."""
    trial = bench(tmp_path, ended(status, complaint)).trial([MOVE])
    assert (trial.standing, trial.outcome, trial.reason) == (Standing.BROKEN, "broken", cause)
    assert trial.moved == (MovedPackage(package="transformers", version="5.0.0", here="5.1.0"),)
    TrialStore(tmp_path).write(trial)
    assert TrialStore(tmp_path).read(trial.names) is None


@pytest.mark.parametrize("output", ["", "chatter", f"{ANSWER}{{", f"{ANSWER}[]"])
def test_an_answer_that_is_none_is_broken_as_well(tmp_path: Path, output: str) -> None:
    assert bench(tmp_path, ended(0, output=output)).trial([MOVE]).standing is Standing.BROKEN


def test_a_refusal_is_told(tmp_path: Path) -> None:
    trial = bench(tmp_path, answered(TrialAnswer(refusal="There is no memory."))).trial([MOVE])
    assert (trial.standing, trial.reason) == (Standing.BROKEN, "There is no memory")


def test_a_torn_record_is_broken(tmp_path: Path) -> None:
    trial = bench(tmp_path, answered(TrialAnswer(environment=HERE | {"version.transformers": "5.0.0"}))).trial([MOVE])
    assert trial.standing is Standing.BROKEN


def test_a_package_that_was_not_moved_at_all_is_noticed(tmp_path: Path) -> None:
    trial = bench(tmp_path, measured(GOLDEN)).trial([MOVE])
    assert (trial.standing, trial.reason) == (
        Standing.BROKEN,
        "its transformers was 5.1.0 all the same, and not 5.0.0",
    )


def test_a_run_without_numbers_keeps_its_environment(tmp_path: Path) -> None:
    answer = TrialAnswer(non_finite="the nll is NaN or infinite", environment=HERE, notes=("A note.",))
    trial = bench(tmp_path, answered(answer)).trial([])
    assert (trial.standing, trial.outcome, trial.tier) == (Standing.AWAY, "non-finite", 1)
    assert trial.environment == (("version.transformers", "5.0.0", "5.1.0"),)
    assert trial.notes == ("A note.",)


def test_equal_bits_are_the_goldens(tmp_path: Path) -> None:
    trial = bench(tmp_path, measured(GOLDEN)).trial([])
    assert (trial.standing, trial.outcome, trial.num_changed, trial.num_compared) == (Standing.BITS, "identical", 0, 6)


def test_a_drift_is_told_in_numbers(tmp_path: Path) -> None:
    moved = scored(GOLDEN, token_scores([1.0, 2.5, 3.0, 4.0, 0.5, 1.5]))
    trial = bench(tmp_path, measured(moved)).trial([])
    assert (trial.standing, trial.outcome, trial.tier) == (Standing.AWAY, "metric-drift", 5)
    assert (trial.num_changed, trial.maximum, trial.reference_rms) == (1, 0.5, None)


def test_changed_inputs_are_named(tmp_path: Path) -> None:
    trial = bench(tmp_path, measured(changed_identity(GOLDEN, ("tokens", "sha256"), "0" * 64))).trial([])
    assert (trial.standing, trial.outcome, trial.inputs) == (Standing.AWAY, "inputs-changed", ("tokens.sha256",))


ROW = MetricRow(name="mean_nll", golden=1.0, measured=1.0, drift=0.0, allowed=0.1, source="provisional")
REFERENCE = ReferenceDrift(
    num_tokens=4,
    rms=1e-6,
    maximum=1e-6,
    allowed_rms=1e-5,
    allowed_maximum=1e-5,
    weak=False,
    first_moved=None,
    num_moved=0,
    num_points=5,
)


@pytest.mark.parametrize(
    ("reference", "row", "standing"),
    [
        (None, ROW, Standing.MEANING),
        (REFERENCE, ROW, Standing.MEANING),
        (replace(REFERENCE, rms=1.0), ROW, Standing.AWAY),
        (REFERENCE, replace(ROW, drift=1.0), Standing.AWAY),
    ],
)
def test_bits_that_nothing_explains_stand_by_their_meaning(
    reference: ReferenceDrift | None, row: MetricRow, standing: Standing
) -> None:
    verdict = Verdict(outcome=Outcome.UNEXPLAINED_BITS, tier=Tier.EXACT, reason="odd", rows=(row,), reference=reference)
    assert standing_of(verdict) is standing


def test_a_pass_with_other_bits_has_the_meaning() -> None:
    nudged = replace(scored(GOLDEN, token_scores([1.0, 2.0, 3.0, 4.001, 0.5, 1.5])), environment=HERE)
    assert standing_of(judge(GOLDEN, nudged)) is Standing.MEANING
