"""What has to be moved along with a package: the requirements of its other version that are not met here."""

import importlib.metadata
from collections.abc import Callable, Iterable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def requirements_in(folder: Path) -> list[str]:
    """The Requires-Dist lines of every distribution in a folder."""
    return [
        line
        for distribution in importlib.metadata.distributions(path=[str(folder)])
        for line in distribution.requires or ()
    ]


def version_in(folder: Path, package: str) -> str | None:
    """The version of a distribution that lies in a folder, None where it does not."""
    for distribution in importlib.metadata.distributions(path=[str(folder)]):
        if canonicalize_name(distribution.name) == package:
            return distribution.version
    return None


def version_here(package: str) -> str | None:
    """The version of a distribution that this process would import, None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def unmet(lines: Iterable[str], version_of: Callable[[str], str | None]) -> list[Requirement]:
    """The requirements that do not hold, in the order of the lines; extras are left out.

    Args:
        lines: Requires-Dist lines.
        version_of: the version that stands for a distribution, by its name on the package index.
    """
    return [
        requirement
        for requirement in map(_requirement, lines)
        if requirement is not None and not _is_met(requirement, version_of(canonicalize_name(requirement.name)))
    ]


def wanted(requirement: Requirement, golden: str | None) -> str:
    """What pip is asked for: the golden's version where it meets the requirement, else what pip chooses."""
    name = canonicalize_name(requirement.name)
    if golden is not None and requirement.specifier.contains(golden, prereleases=True):
        return f"{name}=={golden}"
    return f"{name}{requirement.specifier}"


def _requirement(line: str) -> Requirement | None:
    """The requirement of a line that holds here; None for another platform, an extra, or what is no requirement."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    # An address would be fetched from wherever it says, past the user's package index.
    if requirement.url is not None:
        return None
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    return requirement


def _is_met(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)
