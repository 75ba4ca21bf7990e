"""Jobs for `score.py`, done in a fresh process beside a release of transformers, and the arrays that come back."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from esa_pytest.evaluation.fingerprints import fingerprint
from esa_pytest.evaluation.prepared import Prepared
from tests.incidents.answers import keep, kept, place_of
from tests.incidents.releases import environment_for
from tests.incidents.score import ANSWER, POINT
from tests.incidents.subjects import Subject

SCORER = Path(__file__).parent / "score.py"
_REFUSAL = "refusal"
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Job:
    """How a checkpoint is loaded and scored.

    Attributes:
        attention: asked of the release; None for its own choice.
        dtype: likewise.
        changes: made after loading, as `score.CHANGES` names them.
        reference_attention: of the float32 reference.
        scored: whether the bf16 scores are wanted.
        probed: whether the float32 reference is.
        left_padding: how many masked tokens stand in front of each window.
        first_position: where positions begin.
        explicit_mask: whether mask and positions are handed in where the defaults would say the same.
        windows_at_once: the batch.
        threads: how many torch computes with; one is enough for a tiny model, and the numbers are the same.
    """

    attention: str | None = "sdpa"
    dtype: str | None = "bfloat16"
    changes: tuple[str, ...] = ()
    reference_attention: str | None = "eager"
    scored: bool = True
    probed: bool = True
    left_padding: int = 0
    first_position: int = 0
    explicit_mask: bool = False
    windows_at_once: int = 1
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a job gave.

    Attributes:
        job: what was done.
        loaded: architecture, dtype, attention and versions, as the release reports them.
        arrays: as `score.py` names them, with fingerprints of the modules in the place of what they put out.
    """

    job: Job
    loaded: Mapping[str, str]
    arrays: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Why a release does not do a job."""

    job: Job
    reason: str


def run(
    release: str, wanted: Sequence[tuple[Subject, Job]], *, variables: Mapping[str, str] = NO_VARIABLES
) -> list[Scored | Refused]:
    """Do jobs one after the other in one fresh process, those aside whose answers are kept.

    Args:
        release: of transformers.
        wanted: what to score, and how.
        variables: laid over this process' own.
    """
    places = [place_of(release, subject, dataclasses.asdict(job), variables) for subject, job in wanted]
    todo = [number for number, place in enumerate(places) if not place.is_file()]
    if todo:
        _do(release, [wanted[number] for number in todo], [places[number] for number in todo], variables)
    return [_answered(job, *kept(place)) for (_, job), place in zip(wanted, places, strict=True)]


def _answered(job: Job, loaded: Mapping[str, str], arrays: Mapping[str, npt.NDArray[Any]]) -> Scored | Refused:
    if _REFUSAL in loaded:
        return Refused(job=job, reason=loaded[_REFUSAL])
    return Scored(job=job, loaded=loaded, arrays=arrays)


def scored(release: str, subject: Subject, job: Job, *, variables: Mapping[str, str] = NO_VARIABLES) -> Scored:
    """Do one job that the release is known to do."""
    (found,) = run(release, [(subject, job)], variables=variables)
    assert isinstance(found, Scored), f"transformers {release} refuses {subject.name}: {found.reason}"
    return found


def _do(
    release: str, wanted: Sequence[tuple[Subject, Job]], places: Sequence[Path], variables: Mapping[str, str]
) -> None:
    """Do jobs in one process and keep the answers, refusals among them."""
    with tempfile.TemporaryDirectory(prefix="esa-incident-jobs-") as name:
        requests = [_request(number, subject, job, Path(name)) for number, (subject, job) in enumerate(wanted)]
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", str(SCORER)],
            input=json.dumps({"jobs": requests}),
            capture_output=True,
            text=True,
            check=False,
            env=environment_for(release) | dict(variables),
        )
        answers = [line.removeprefix(ANSWER) for line in done.stdout.splitlines() if line.startswith(ANSWER)]
        # What ended the whole process says nothing of a single job, and is not kept.
        assert done.returncode == 0 and answers, f"transformers {release}: {done.stderr.strip()[-500:]}"  # noqa: PT018
        for place, request, answer in zip(places, requests, json.loads(answers[-1]), strict=True):
            keep(place, answer, {} if _REFUSAL in answer else _condensed(Path(request["target"])))


def _condensed(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a job, with our fingerprints in the place of what the modules put out."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {
        name: fingerprint(torch.from_numpy(values)).numpy() if name.startswith(POINT) else values
        for name, values in arrays.items()
    }


def _request(number: int, subject: Subject, job: Job, folder: Path) -> dict[str, Any]:
    tokens = folder / f"{subject.name}.npz"
    if not tokens.exists():
        np.savez(tokens, allow_pickle=False, **_tokens(subject.prepared))
    return dataclasses.asdict(job) | {
        "folder": str(subject.checkpoint.folder),
        "tokens": str(tokens),
        "points": list(subject.points),
        "target": str(folder / f"{number}.npz"),
    }


def _tokens(prepared: Prepared) -> dict[str, npt.NDArray[Any]]:
    (rectangle,) = prepared.rectangles
    return {
        "input_ids": rectangle.input_ids,
        "targets": rectangle.targets,
        "probe_ids": prepared.probe_ids,
        "sampled": sampled_tokens(prepared),
    }


def sampled_tokens(prepared: Prepared) -> npt.NDArray[np.int64]:
    """Which scored tokens keep their likeliest ids, ascending, shape (sample,)."""
    (rectangle,) = prepared.rectangles
    windows, targets = rectangle.targets.shape
    return np.flatnonzero(np.tile(np.arange(targets), windows) % prepared.sample_every == 0)
