"""Releases of transformers in folders of the cache, each installed once, with what they need in a version of their age.

torch stays: every release from 4.31 on imports and runs beside torch 2.13 and Python 3.11.
"""

import os
from functools import cache
from pathlib import Path

from esa_pytest.bisection.companions import version_here
from esa_pytest.bisection.differences import Move
from esa_pytest.bisection.limits import Deadline
from esa_pytest.bisection.overlays import Overlays
from esa_pytest.evaluation.cache import cache_root

PACKAGE = "transformers"
# The release that this project is developed with, and the one whose noise is that of today's kernels.
NEWEST = "5.23.0"


@cache
def folders_of(version: str) -> tuple[Path, ...]:
    """Where a release and its companions lie, to be searched in this order; none for the release that is installed.

    Raises:
        OverlayError: pip finds no wheel.
    """
    here = version_here(PACKAGE)
    if version == here:
        return ()
    releases = Overlays(cache_root() / "releases", deadline=Deadline())
    overlays = releases.of([Move(package=PACKAGE, golden=version, here=here)])
    return tuple(overlay.folder for overlay in overlays)


def environment_for(version: str) -> dict[str, str]:
    """This process' variables, with a path on which a fresh process finds that release first, and none of our own."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders_of(version)))}
