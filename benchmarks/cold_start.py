"""How long it takes until there is a verdict, beside what cannot be avoided: whole processes, interleaved, in parts.

    python -m benchmarks.cold_start [--rounds 9] [--baseline llama-3.1-8b@tiny-smoke] [--json FILE]
                                     [--collect-rounds 21] [--beside CHECKOUT]

(a) `pytest --collect-only` in a folder with one empty test file: with the plugin, without it, and with it in a project
that configures it and selects no baseline.
(b) a check whose outcome is `identical` beside a bare script that imports torch and transformers, loads the same
checkpoint and puts the same windows through `model(input_ids)`. The model and its hash are in the cache, the bytecode
is compiled: one round goes ahead and is not counted. `--beside` runs the check of another checkout too, as it was
before a change say.

Times depend on the machine and on what else it does; the ratios of medians of one run are the figures. Processor time
is shown beside wall time, since a busy machine moves it less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.interleaved import in_turn

ROOT = Path(__file__).resolve().parents[1]
BARE = """
import json, sys, time
marks = [time.perf_counter()]
mark = lambda: marks.append(time.perf_counter())
import torch; mark()
from transformers import AutoModelForCausalLM, AutoTokenizer
import transformers.modeling_utils; mark()
folder, windows, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
tokenizer = AutoTokenizer.from_pretrained(folder); mark()
input_ids = torch.arange(windows * length).reshape(windows, length) % model.config.vocab_size
with torch.inference_mode():
    for window in input_ids:
        model(window[None])
mark()
names = ("import_torch", "import_transformers", "load", "forward")
print(json.dumps(dict(zip(names, (b - a for a, b in zip(marks, marks[1:]))))))
"""
LOCATE = """
import sys
from pathlib import Path
from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.settings import tool_table
models = (tool_table(Path.cwd()) or {}).get("models", {})
print(locate(load_catalog({"models": models}, folder=Path.cwd()).models[sys.argv[1]], hub=Hub()).folder)
"""
# These lie within other parts.
WITHIN = ("evaluate_first_round",)
CONFIGURED = '[tool.esa]\ngolden_dir = "goldens"\n'
COLLECT = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process: seconds of wall and processor time, and those of its parts as it told them."""

    wall: float
    processor: float
    parts: Mapping[str, float]


def environment(checkout: Path) -> dict[str, str]:
    """Of every process: the checkout's own code, its bytecode kept."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(checkout), "TOKENIZERS_PARALLELISM": "false"}


def timed(command: Sequence[str], *, folder: Path, checkout: Path, ends: Sequence[int] = (0,)) -> tuple[Run, str]:
    """Run a command to its end; `ends` are the exit statuses that it may have."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment(checkout), capture_output=True, text=True, check=False)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in ends:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Run(wall=wall, processor=processor, parts={}), done.stdout


def collecting(rounds: int, beside: Path | None) -> dict[str, list[Run]]:
    """What the plugin costs a pytest run that has no use for it."""
    with tempfile.TemporaryDirectory() as made:
        folders = {name: Path(made, name) for name in ("plain", "configured")}
        for folder in folders.values():
            folder.mkdir()
            (folder / "test_nothing.py").touch()
        (folders["plain"] / "pytest.ini").write_text("[pytest]\n")
        (folders["configured"] / "pyproject.toml").write_text(CONFIGURED + "[tool.pytest.ini_options]\n")

        def collect(folder: str, *more: str, checkout: Path = ROOT) -> Callable[[], Run]:
            # 5: nothing was collected, as it should be.
            return lambda: timed([*COLLECT, *more], folder=folders[folder], checkout=checkout, ends=(5,))[0]

        runs = {
            "without": collect("plain", "-p", "no:esa"),
            "with": collect("plain"),
            "configured": collect("configured"),
        }
        if beside is not None:
            runs["beside"] = collect("plain", checkout=beside)
            runs["beside, configured"] = collect("configured", checkout=beside)
        return in_turn(runs, rounds=rounds)


def checking(baseline: str, rounds: int, beside: Path | None) -> dict[str, list[Run]]:
    """A check and the bare script on the same checkpoint."""
    model, kind = baseline.rsplit("-", 1)
    manifest = f"outputs/baselines/{model}__{kind}/manifest.json"
    command = [sys.executable, "-m", "pytest", "-q", "-m", kind, f"tests/test_baselines.py::test_baseline[{baseline}]"]

    def check(checkout: Path) -> Run:
        run, _ = timed(command, folder=checkout, checkout=checkout)
        told = json.loads((checkout / manifest).read_text(encoding="utf-8"))
        if told["outcome"] != "identical":
            raise SystemExit(f"{baseline} came out as {told['outcome']}; this measures what is identical.")
        parts = {name: value for name, value in told["seconds"].items() if name not in WITHIN}
        return Run(wall=run.wall, processor=run.processor, parts=parts)

    check(ROOT)
    told = json.loads((ROOT / manifest).read_text(encoding="utf-8"))
    (length,) = told["identity"]["windows"]["context_lengths"]
    windows = told["metrics"]["num_scored_tokens"] // length
    folder = timed([sys.executable, "-c", LOCATE, model], folder=ROOT, checkout=ROOT)[1].strip()
    script = [sys.executable, "-c", BARE, folder, str(windows), str(length)]

    def bare() -> Run:
        run, output = timed(script, folder=ROOT, checkout=ROOT)
        return Run(wall=run.wall, processor=run.processor, parts=json.loads(output.splitlines()[-1]))

    runs: dict[str, Callable[[], Run]] = {"bare": bare, "check": lambda: check(ROOT)}
    if beside is not None:
        runs["beside"] = lambda: check(beside)
    return in_turn(runs, rounds=rounds)


def medians(runs: Sequence[Run]) -> dict[str, Any]:
    """Of wall time, processor time, every part, and what no part accounts for."""
    names = list(dict.fromkeys(name for run in runs for name in run.parts))
    rest = [run.wall - sum(run.parts.values()) for run in runs]
    return {
        "wall": statistics.median(run.wall for run in runs),
        "processor": statistics.median(run.processor for run in runs),
        "parts": {name: statistics.median(run.parts.get(name, 0.0) for run in runs) for name in names},
        "rest": statistics.median(rest),
    }


def collect_summary(found: Mapping[str, list[Run]]) -> dict[str, Any]:
    """What is added, as the median of the differences within each round, in milliseconds."""
    summary: dict[str, Any] = {name: {"median": medians(runs)} for name, runs in found.items()}
    for name in (name for name in found if name != "without"):
        for clock in ("wall", "processor"):
            added = [getattr(a, clock) - getattr(b, clock) for a, b in zip(found[name], found["without"], strict=True)]
            summary[name][f"added_{clock}_ms"] = 1000 * statistics.median(added)
    return summary


def check_summary(found: Mapping[str, list[Run]]) -> dict[str, Any]:
    """The ratios of medians, and the seconds beyond the bare script as a share of its imports and loading."""
    summary: dict[str, Any] = {name: medians(runs) for name, runs in found.items()}
    bare = summary["bare"]
    unavoidable = sum(value for name, value in bare["parts"].items() if name != "forward")
    for name in found:
        if name != "bare":
            summary[name]["ratio_wall"] = summary[name]["wall"] / bare["wall"]
            summary[name]["ratio_processor"] = summary[name]["processor"] / bare["processor"]
            summary[name]["seconds_beyond"] = summary[name]["wall"] - bare["wall"]
            summary[name]["beyond_over_imports_and_load"] = summary[name]["seconds_beyond"] / unavoidable
    return summary


def show(collected: Mapping[str, Any], checked: Mapping[str, Any], baseline: str) -> None:
    """The tables."""
    print("\npytest --collect-only       wall s   processor s   added wall ms   added processor ms")
    for name, told in collected.items():
        line = f"  {name:<24}{told['median']['wall']:8.3f}{told['median']['processor']:14.3f}"
        added = [told.get(f"added_{clock}_ms") for clock in ("wall", "processor")]
        print(line if added[0] is None else f"{line}{added[0]:16.1f}{added[1]:21.1f}")
    print(f"\n{baseline}, identical     wall s   ratio   processor s   ratio   beyond bare s   of its imports and load")
    for name, told in checked.items():
        line = f"  {name:<24}{told['wall']:14.2f}"
        if name == "bare":
            print(f"{line}{told['processor']:22.2f}")
            continue
        print(
            f"{line}{told['ratio_wall']:8.2f}{told['processor']:14.2f}{told['ratio_processor']:8.2f}"
            f"{told['seconds_beyond']:16.2f}{told['beyond_over_imports_and_load']:26.2f}"
        )
    for name, told in checked.items():
        parts = " · ".join(f"{part} {value:.2f}" for part, value in told["parts"].items() if value >= 0.005)
        print(f"\nparts of {name}, seconds: {parts} · rest {told['rest']:.2f}")


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--collect-rounds", type=int, default=21)
    parser.add_argument("--baseline", default="llama-3.1-8b@tiny-smoke")
    parser.add_argument("--beside", type=Path, help="another checkout, whose check is measured too")
    parser.add_argument("--json", type=Path, help="where all figures go, every round among them")
    arguments = parser.parse_args()
    beside = None if arguments.beside is None else arguments.beside.resolve()
    collected = collecting(arguments.collect_rounds, beside)
    checked = checking(arguments.baseline, arguments.rounds, beside)
    summaries = collect_summary(collected), check_summary(checked)
    show(*summaries, arguments.baseline)
    if arguments.json is not None:
        rounds = [{name: [vars(run) for run in runs] for name, runs in found.items()} for found in (collected, checked)]
        document = {
            "collect_only": summaries[0] | {"rounds": rounds[0]},
            arguments.baseline: summaries[1] | {"rounds": rounds[1]},
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
