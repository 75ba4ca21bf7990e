"""Answers of `score.py` that are kept, so that a run that was stopped goes on where it was.

A hundred jobs take a quarter of an hour and more. An answer is found again only where everything is equal that its
numbers depend on: release, torch, processor, variables, the scorer's version, weights, config, tokens and job.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from esa_pytest.evaluation.cache import cache_root, write_atomically
from esa_pytest.golden.environment import cpu_model, instruction_set, variables
from tests.incidents.releases import folders_of
from tests.incidents.score import SCORER_VERSION
from tests.incidents.subjects import Subject

_LOADED = "loaded"
Arrays = dict[str, npt.NDArray[Any]]


def place_of(release: str, subject: Subject, job: Mapping[str, Any], laid_over: Mapping[str, str]) -> Path:
    """Where the answer to a job is kept."""
    text = json.dumps(depends_on(release, subject, job, laid_over), sort_keys=True)
    return cache_root() / "incidents" / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"


def depends_on(release: str, subject: Subject, job: Mapping[str, Any], laid_over: Mapping[str, str]) -> dict[str, Any]:
    """All that the numbers of a job depend on."""
    return {
        "release": [release, *(folder.name for folder in folders_of(release))],
        "torch": torch.__version__,
        "processor": [cpu_model(), instruction_set()],
        "variables": variables() | dict(laid_over),
        "scorer": SCORER_VERSION,
        "checkpoint": [subject.checkpoint.weights_sha256, subject.checkpoint.config],
        "tokens": [subject.prepared.tokens_sha256(), subject.prepared.probe_sha256(), subject.prepared.sample_every],
        "points": subject.points,
        "job": dict(job),
    }


def keep(place: Path, loaded: Mapping[str, str], arrays: Arrays) -> None:
    """Write an answer."""
    buffer = io.BytesIO()
    everything: Arrays = {_LOADED: np.array(json.dumps(dict(loaded))), **arrays}
    np.savez_compressed(buffer, allow_pickle=False, **everything)
    write_atomically(place, buffer.getvalue())


def kept(place: Path) -> tuple[dict[str, str], Arrays]:
    """An answer as it was written."""
    with np.load(place, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(str(arrays.pop(_LOADED))), arrays
