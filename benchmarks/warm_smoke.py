"""How long `pytest -m smoke` takes beside a bare forward pass: whole processes, interleaved, medians and ratios.

    python benchmarks/warm_smoke.py [--rounds 5]

The bare script imports torch and transformers, loads the same checkpoint and puts the same number of tokens through
`model(input_ids)`. The model must be in the cache already, as it is behind one `pytest -m smoke`. Times depend on the
machine and on what else it does; the ratio of the medians is the figure.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.evaluation.checkpoints import locate

ROOT = Path(__file__).resolve().parents[1]
BARE = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
input_ids = torch.arange(2048).reshape(2, 1024) % model.config.vocab_size
with torch.inference_mode():
    for window in input_ids:
        model(window[None])
"""
MANIFEST = ROOT / "outputs/baselines/smollm2-135m__smoke/manifest.json"


def timed(command: list[str]) -> float:
    """Wall seconds of a command that must succeed."""
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Run the two in turn and print the medians, their ratio, and the check's parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    folder = locate(load_catalog({}, folder=ROOT).models["smollm2-135m"]).folder
    bare = [sys.executable, "-c", BARE, str(folder)]
    check = [sys.executable, "-m", "pytest", "-m", "smoke", "tests/test_baselines.py", "-q"]
    imports = [sys.executable, "-c", "import esa_pytest.check"]
    seconds: dict[str, list[float]] = {"bare": [], "smoke": [], "imports": []}
    parts: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        seconds["bare"].append(timed(bare))
        seconds["smoke"].append(timed(check))
        seconds["imports"].append(timed(imports))
        parts.append(json.loads(MANIFEST.read_text(encoding="utf-8"))["seconds"])
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    print(f"medians of {rounds} interleaved runs behind one warm-up, in seconds")
    for name, value in medians.items():
        print(f"  {name:<22}{value:8.2f}   {value / medians['bare']:5.2f} of the bare script")
    print("parts of the check, from its manifest")
    for name in parts[0]:
        value = statistics.median(part[name] for part in parts[1:])
        print(f"  {name:<22}{value:8.2f}   {value / medians['smoke']:5.2f} of the check")


if __name__ == "__main__":
    main()
