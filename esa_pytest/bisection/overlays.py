"""Throw-away folders with one package each, in another version than the one installed here.

pip fetches and unpacks, so that mirrors, proxies, certificates and credentials are those of the user. Only wheels are
taken: nothing is built, and nothing of a package runs until a trial imports it.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from esa_pytest.bisection.companions import requirements_in, unmet, version_here, version_in, wanted
from esa_pytest.bisection.differences import Move
from esa_pytest.bisection.limits import Deadline
from esa_pytest.errors import OverlayError
from esa_pytest.evaluation.cache import build_folder

# A constraint of the user's pins what is installed here, which is the very thing to get away from; and --user and
# --target exclude each other.
_PIP_VARIABLES = {"PIP_CONSTRAINT": os.devnull, "PIP_USER": "0"}


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A package in a folder of its own.

    Attributes:
        package: the distribution.
        version: which one lies there.
        here: the version that it hides; None where there is none.
        folder: to be looked into before all others.
    """

    package: str
    version: str
    here: str | None
    folder: Path


class Overlays:
    """The overlays of one bisection, each built once and whole."""

    def __init__(self, folder: Path, *, deadline: Deadline, golden_versions: Mapping[str, str] | None = None) -> None:
        """Keep overlays in a folder.

        Args:
            folder: where they are built.
            deadline: when to stop.
            golden_versions: of the packages that differ; a companion among them goes to that version if it may.
        """
        self._folder = folder
        self._golden_versions = golden_versions or {}
        self._deadline = deadline

    def knowing(self, golden_versions: Mapping[str, str]) -> "Overlays":
        """The same overlays, for a golden whose packages had these versions."""
        return Overlays(self._folder, golden_versions=golden_versions, deadline=self._deadline)

    def of(self, moves: Iterable[Move]) -> tuple[Overlay, ...]:
        """The overlays that move packages back, with those of the companions that they need, moved packages first.

        Raises:
            OverlayError: pip finds no wheel.
            TimeIsUpError: the time is up.
        """
        built = {move.package: self._overlay(move.requirement) for move in moves}
        pending = list(built.values())
        while pending:
            overlay = pending.pop(0)
            for requirement in unmet(requirements_in(overlay.folder), lambda name: _version(name, built)):
                name = canonicalize_name(requirement.name)
                # What was moved on purpose stays where it was moved to; whether that runs is for the trial to say.
                if name not in built:
                    built[name] = self._overlay(wanted(requirement, self._golden_versions.get(name)))
                    pending.append(built[name])
        return tuple(built.values())

    def _overlay(self, requirement: str) -> Overlay:
        package = canonicalize_name(Requirement(requirement).name)
        name = f"{package}-{hashlib.sha256(requirement.encode()).hexdigest()[:12]}"
        folder = build_folder(self._folder / name, lambda partial: self._install(requirement, partial))
        version = version_in(folder, package)
        if version is None:
            raise OverlayError(f"pip installed {requirement} and no distribution of that name came of it")
        return Overlay(package=package, version=version, here=version_here(package), folder=folder)

    def _install(self, requirement: str, folder: Path) -> None:
        # fmt: off
        command = [
            sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--target", str(folder),
            "--no-compile", "--progress-bar", "off", "--retries", "1", "--timeout", "15",
            "--disable-pip-version-check", "--no-input", "--", requirement,
        ]
        # fmt: on
        done = self._deadline.run(command, environment=os.environ | _PIP_VARIABLES)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
            cause = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {done.returncode}"
            raise OverlayError(f"pip installs no wheel of {requirement} ({cause})")


def _version(package: str, built: Mapping[str, Overlay]) -> str | None:
    return built[package].version if package in built else version_here(package)
