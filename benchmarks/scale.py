"""A plan for 10,000 model revisions a night, by a simulation over measured times; writes docs/scale.md.

    python -m benchmarks.scale [--manifests outputs/baselines] [--write docs/scale.md] [--json scale.json]

What is measured here: the start of a process that judges (timed in this run), and the parts of a check that do not
hang on the GPU (prepare, assemble, judge), from the manifests of the last runs. What is not measured here is an
assumption, and the document says so: how fast a GPU evaluates (the throughputs that the log reported), how fast weights
are read, the network, the cache, and how often a node is lost.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.scale_simulation import Night, Revision, Site, simulate
from benchmarks.scale_text import document
from esa_pytest.baselines.catalog import load_catalog

ROOT = Path(__file__).resolve().parents[1]
REVISIONS = 10_000
SEED = 1337
STARTS = 3
# Parts of a manifest that the processor does, whatever the GPU.
CPU_PARTS = ("prepare", "assemble", "judge")
BILLION = 1e9
# Assumed: bytes of the weights in bf16, by billions of parameters.
MODELS = {"pythia-1.4b": 1.41, "phi-3-mini-4k-instruct": 3.82, "mistral-7b-v0.3": 7.25, "llama-3.1-8b": 8.03}
STANDARD_SHARE = 0.1
LOAD_RATE = 2.0 * BILLION
SITE = Site(
    gpus=64,
    shared_rate=12.5 * BILLION,  # 100 Gbit/s
    node_rate=1.25 * BILLION,  # 10 Gbit/s
    cache_hits=0.0,
    hours_between_losses=500.0,
    repair_seconds=1800.0,
    prefetch=False,
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What this machine measured, in seconds, and over how many manifests."""

    start: float
    cpu_parts: dict[str, float]
    manifests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Played:
    """One site, and the night it had."""

    label: str
    site: Site
    night: Night


def measured(folder: Path) -> Measured:
    """The start of a process, timed now, and the medians of the manifests' parts."""
    found = {
        path.parent.name: json.loads(path.read_text("utf-8"))["seconds"] for path in folder.glob("*/manifest.json")
    }
    if not found:
        sys.exit(f"There is no manifest below {folder}; run some baselines first, as pytest -m smoke.")
    command = [sys.executable, "-c", "import pytest, esa_pytest.check.guarded"]
    times = []
    for _ in range(STARTS):
        # Of the processor and not of the clock: this machine does other things too.
        begin = _child_seconds()
        subprocess.run(command, check=True, cwd=ROOT)
        times.append(_child_seconds() - begin)
    parts = {part: statistics.median(seconds.get(part, 0.0) for seconds in found.values()) for part in CPU_PARTS}
    return Measured(start=statistics.median(times), cpu_parts=parts, manifests=tuple(sorted(found)))


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def revisions(known: Measured, *, count: int = REVISIONS) -> list[Revision]:
    """A night's revisions, seeded: each model as often as every other, a tenth with the standard baseline too."""
    draw = random.Random(SEED)  # noqa: S311
    catalog = load_catalog({}, folder=ROOT)
    made = []
    for _ in range(count):
        name = draw.choice(list(MODELS))
        types = ["smoke", "standard"] if draw.random() < STANDARD_SHARE else ["smoke"]
        size = 2 * MODELS[name] * BILLION
        reported = catalog.reported[name]
        evaluate = 0.0
        for kind in types:
            # Where a type was not reported of a model, its smoke throughput stands in, which is the slower one.
            rate = reported.get(kind, reported["smoke"]).tokens_per_second
            evaluate += catalog.types[kind].scored_tokens["cuda"] / rate
        judge = sum(known.cpu_parts.values()) * len(types)
        seconds = {"start": known.start, "load": size / LOAD_RATE, "evaluate": evaluate, "judge": judge}
        made.append(Revision(size=size, seconds=seconds))
    return made


def sites() -> dict[str, list[tuple[str, Site]]]:
    """What is varied: one thing at a time, from the same site."""

    def varied(**changes: Any) -> Site:
        return Site(**(asdict(SITE) | changes))

    return {
        "GPUs": [(str(gpus), varied(gpus=gpus)) for gpus in (8, 16, 32, 64, 128, 256, 512)],
        "shared network": [
            (f"{rate:g} Gbit/s", varied(shared_rate=rate * BILLION / 8)) for rate in (10, 25, 50, 100, 400)
        ],
        "cache": [(f"{share:.0%} of the weights are there", varied(cache_hits=share)) for share in (0.0, 0.5, 0.9)],
        "fetching ahead": [
            (f"{label}, {gpus} GPUs", varied(prefetch=ahead, gpus=gpus))
            for gpus in (16, 64)
            for label, ahead in (("no", False), ("yes", True))
        ],
        "losses": [
            (f"one a GPU in {hours:g} hours", varied(hours_between_losses=hours)) for hours in (5000, 500, 50, 5)
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, simulate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=Path, default=ROOT / "outputs/baselines")
    parser.add_argument("--write", type=Path, default=ROOT / "docs/scale.md")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    known = measured(options.manifests)
    night = revisions(known)
    tables = {
        name: [Played(label=label, site=site, night=simulate(night, site, seed=SEED)) for label, site in rows]
        for name, rows in sites().items()
    }
    options.write.write_text(document(known, night, SITE, tables), encoding="utf-8")
    if options.json:
        plain = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
        options.json.write_text(json.dumps({"measured": asdict(known), "tables": plain}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
