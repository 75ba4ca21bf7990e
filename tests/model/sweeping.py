"""A sweep in a process of its own, to be killed: `python -m tests.model.sweeping FOLDER`."""

import sys
from pathlib import Path

from esa_pytest.sensitivity import SingleWeights, sweep
from tests.model.guards import guarded_in
from tests.model.tiny import save_tiny


def main(folder: Path) -> None:
    """Sweep forty weights of a tiny Llama into a file of the folder, after a line that says it has begun."""
    if not (folder / "checkpoint").exists():
        save_tiny("llama", folder / "checkpoint")
    guarded = guarded_in(folder, with_noise=False)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sweep(guarded, SingleWeights(count=40, seed=9), folder / "rows.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
