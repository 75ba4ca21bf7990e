"""What is collected in this repository, and what collecting loads."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COLLECT = """
import sys
import pytest
options = ["-m", "smoke or standard", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
status = pytest.main([*options, "tests/test_baselines.py"])
print("loaded:", *sorted({"torch", "transformers", "numpy", "huggingface_hub", "datasets"} & set(sys.modules)))
sys.exit(status)
"""
HUB_PAIRS = {
    "pythia-1.4b-smoke",
    "llama-3.1-8b-smoke",
    "llama-3.1-8b-standard",
    "phi-3-mini-4k-instruct-smoke",
    "phi-3-mini-4k-instruct-standard",
    "mistral-7b-v0.3-smoke",
    "mistral-7b-v0.3-standard",
}


def test_every_pair_and_its_twin_are_collected_without_torch_or_the_hub() -> None:
    # This test may run in an xdist worker; the run inside it does not.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    command = [sys.executable, "-c", COLLECT]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    ids = {line.split("[")[1].removesuffix("]") for line in lines if line.startswith("tests/test_baselines.py::")}
    embedded = {"smollm2-135m-smoke", "smollm2-135m-standard"}
    twins = {"@tiny-".join(pair.rsplit("-", 1)) for pair in HUB_PAIRS}
    windows = {"mistral-7b-v0.3@tiny-window-smoke", "mistral-7b-v0.3@tiny-window-standard"}
    assert ids == HUB_PAIRS | twins | embedded | windows
    assert lines[-1] == "loaded:"
