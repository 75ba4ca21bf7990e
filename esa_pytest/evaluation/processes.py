"""What a Python process of ours needs to import what this one imports."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def child_environment(first: Sequence[Path] = ()) -> Mapping[str, str]:
    """The variables for a child that imports from the same places as this process, in the same order.

    This package need not be installed, and folders of PYTHONPATH must go on hiding what is installed behind them: the
    order of this process is the only one that gives the same imports. To be used with `-P`, so that the folder the
    child starts in comes first for neither.

    Args:
        first: folders that the child looks into before all others.
    """
    places = [*map(str, first), *(place or str(Path.cwd()) for place in sys.path)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}
