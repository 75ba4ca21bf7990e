"""One environment tried: its packages laid over those here, a baseline measured in it, the record judged."""

import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from packaging.utils import canonicalize_name
from pydantic import ValidationError

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.bisection.child import ANSWER, TrialAnswer, TrialRun
from esa_pytest.bisection.differences import Move
from esa_pytest.bisection.limits import Deadline
from esa_pytest.bisection.overlays import Overlay, Overlays
from esa_pytest.bisection.search import Standing
from esa_pytest.bisection.trial import MovedPackage, Trial
from esa_pytest.drift.judge import environment_changes, judge
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.errors import EsaError, OverlayError
from esa_pytest.evaluation.processes import child_environment
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import unpack
from esa_pytest.records import Outcome, Record, Tier, Verdict

_ERROR_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)\b")


class _BrokenError(Exception):
    """The process of a trial ended without a record; the message is the cause as a clause."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where trials are made.

    Attributes:
        baseline: what is measured.
        golden: what it is judged by.
        location: where the golden lies.
        device: as the settings name it.
        overlays: what builds environments.
        scratch: a folder for what a trial writes.
        deadline: when to stop.
        rules: how strictly drift is judged.
    """

    baseline: Baseline
    golden: Record
    location: GoldenLocation
    device: str
    overlays: Overlays
    scratch: Path
    deadline: Deadline
    rules: Rules = DEFAULT_RULES

    def trial(self, moves: Sequence[Move]) -> Trial:
        """Try the environment in which these packages are back at the golden's versions.

        Raises:
            TimeIsUpError: the time is up.
        """
        begin = time.perf_counter()
        moved = tuple(MovedPackage(package=move.package, version=move.golden, here=move.here) for move in moves)
        try:
            overlays = self.overlays.of(moves)
        except OverlayError as error:
            return Trial(
                moved=moved,
                standing=Standing.UNOBTAINABLE,
                outcome="could not be tried",
                reason=str(error),
                seconds=time.perf_counter() - begin,
            )
        companions = tuple(
            MovedPackage(package=overlay.package, version=overlay.version, here=overlay.here)
            for overlay in overlays[len(moves) :]
        )
        try:
            found = self._found(overlays)
        except _BrokenError as error:
            found = _judged(Standing.BROKEN, "broken", str(error))
        seconds = time.perf_counter() - begin
        return found.model_copy(update={"moved": moved, "companions": companions, "seconds": seconds})

    def knowing(self, golden_versions: Mapping[str, str]) -> "Bench":
        """The bench for a golden whose packages had these versions."""
        return replace(self, overlays=self.overlays.knowing(golden_versions))

    def _found(self, overlays: Sequence[Overlay]) -> Trial:
        measured, answer = self._measured(overlays)
        _refuse_other_versions(answer.environment, overlays)
        changes = environment_changes(self.golden.environment, answer.environment)
        told: dict[str, Any] = {
            "environment": tuple((change.name, change.golden, change.measured) for change in changes),
            "notes": answer.notes,
        }
        if measured is None:
            reason = str(answer.non_finite)
            return _judged(Standing.AWAY, Outcome.NON_FINITE, reason, tier=int(Tier.FINITE), **told)
        verdict = judge(self.golden, measured, self.rules)
        bits, reference = verdict.bits, verdict.reference
        return _judged(
            standing_of(verdict),
            str(verdict.outcome),
            verdict.reason,
            tier=int(verdict.tier),
            num_compared=None if bits is None else bits.num_compared,
            num_changed=None if bits is None else bits.num_changed,
            unit="token" if bits is None else bits.unit,
            mean=None if bits is None else bits.mean,
            maximum=None if bits is None else bits.maximum,
            reference_rms=None if reference is None else reference.rms,
            inputs=tuple(change.name for change in verdict.changes),
            **told,
        )

    def _measured(self, overlays: Sequence[Overlay]) -> tuple[Record | None, TrialAnswer]:
        """What a process of its own measured and said; no record of a run that is not finite."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            run = TrialRun(
                baseline=self.baseline,
                device=self.device,
                threads=torch.get_num_threads(),
                golden=self.location,
                rules=self.rules,
                target=Path(folder) / "record",
            )
            done = self.deadline.run(
                [sys.executable, "-P", "-W", "ignore", "-m", "esa_pytest.bisection.child"],
                environment=child_environment([overlay.folder for overlay in overlays]),
                text=run.model_dump_json(),
            )
            answer = _answer(done.stdout)
            if done.returncode != 0 or answer is None:
                raise _BrokenError(_cause(done.returncode, done.stderr))
            if answer.refusal is not None:
                raise _BrokenError(answer.refusal.rstrip("."))
            if answer.non_finite is not None:
                return None, answer
            try:
                return unpack(run.target.read_bytes(), name="of this trial"), answer
            except (EsaError, OSError) as error:
                raise _BrokenError(str(error).rstrip(".")) from None


def _judged(standing: Standing, outcome: str, reason: str, **more: Any) -> Trial:
    """A trial but for what was moved and how long it took, which its bench knows."""
    return Trial(moved=(), standing=standing, outcome=str(outcome), reason=reason, seconds=0.0, **more)


def standing_of(verdict: Verdict) -> Standing:
    """What a verdict says of an environment."""
    if verdict.outcome is Outcome.IDENTICAL:
        return Standing.BITS
    # Other bits in the golden's own environment fail a test, whatever they mean; here it is the meaning that counts.
    unexplained = verdict.outcome is Outcome.UNEXPLAINED_BITS
    same_meaning = (
        (verdict.reference is None or verdict.reference.within)
        and (verdict.paired is None or not verdict.paired.beyond)
        and all(row.within for row in verdict.rows)
    )
    return Standing.MEANING if verdict.outcome.passed or (unexplained and same_meaning) else Standing.AWAY


def _answer(output: str) -> TrialAnswer | None:
    lines = [line.removeprefix(ANSWER) for line in output.splitlines() if line.startswith(ANSWER)]
    try:
        return TrialAnswer.model_validate_json(lines[-1]) if lines else None
    except ValidationError:
        return None


def _cause(status: int, complaint: str) -> str:
    """Why a process ended: the last line of its stderr that names an error, and else the last."""
    said = [line.strip() for line in complaint.splitlines() if line.strip()]
    named = [line for line in said if _ERROR_LINE.match(line)]
    return (named or said or [f"its process ended with {status}"])[-1].rstrip(".")


def _refuse_other_versions(environment: Mapping[str, str], overlays: Sequence[Overlay]) -> None:
    """A package that hides behind another folder was not moved at all."""
    versions: dict[str, str] = {
        canonicalize_name(name.removeprefix("version.")): version
        for name, version in environment.items()
        if name.startswith("version.")
    }
    for overlay in overlays:
        seen = versions.get(overlay.package, overlay.version)
        if seen != overlay.version:
            raise _BrokenError(f"its {overlay.package} was {seen} all the same, and not {overlay.version}")
