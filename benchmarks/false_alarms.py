"""How often tier 4 fails where nothing is wrong, by noise that its calibration has not seen.

    python benchmarks/false_alarms.py --draws 1000000 --json alarms.json

For every committed smoke golden: its noise is learned anew from last bits and the other attention alone; the clean runs
that it then judges are resampled, in blocks of 64 tokens with their scales, from what other instruction sets did to the
same model. Printed is how often any statistic was beyond its share of the stated rate. No model is loaded.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from esa_pytest.drift.instruments import Reading, mean_and_error, read_flips, read_mean, read_tokens
from esa_pytest.drift.noise_model import LEAST_VARIANTS, NoiseModel
from esa_pytest.drift.numeric import family_of
from esa_pytest.drift.predictive import Values
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.records import Record, Variant
from esa_pytest.report.columns import aligned

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = "instruction set"
BLOCK, CHUNK = 64, 500
HEADING = ("golden", "calibrated on", "held out", "draws", "stated", "observed", "by statistic")


def main() -> None:
    """Draw, judge, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--draws", type=int, default=100_000, help="clean runs over all goldens (default %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-4, help="of false alarms a check (default %(default)s)")
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    arguments = parser.parse_args()
    goldens = [golden for golden in map(_golden, sorted((ROOT / "baselines_golden").glob("*__smoke"))) if golden]
    results = [_judged(golden, arguments.draws // len(goldens), arguments.rate) for golden in goldens]
    print("\n".join(aligned([HEADING, *map(_row, results)])))
    draws, alarms = (sum(result[key] for result in results) for key in ("draws", "alarms"))
    print(f"\nstated {arguments.rate:.1e}, observed {alarms / draws:.1e} ({alarms} of {draws} clean runs)")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _golden(folder: Path) -> Record | None:
    """A golden whose noise has something to calibrate on and something to hold out."""
    place = GoldenLocation(root=folder.parent, folder=folder.name, device="cpu", dtype="bfloat16")
    golden = read_golden(place)
    if golden is None or golden.noise is None:
        return None
    held_out, kept = _divided(golden)
    return golden if held_out and len(kept) >= LEAST_VARIANTS else None


def _divided(golden: Record) -> tuple[tuple[Variant, ...], tuple[Variant, ...]]:
    assert golden.noise is not None
    moved = golden.noise.moved
    held_out = tuple(variant for variant in moved if variant.name.startswith(HELD_OUT))
    return held_out, tuple(variant for variant in moved if not variant.name.startswith(HELD_OUT))


def _judged(golden: Record, draws: int, rate: float) -> dict[str, Any]:
    held_out, kept = _divided(golden)
    assert golden.noise is not None
    model = NoiseModel(replace(golden.noise, variants=kept), golden.probe)
    generator = np.random.default_rng(20241124)
    share, alarms, judged = rate / family_of(golden), 0, 0
    by_statistic: dict[str, int] = {}
    for _ in range(max(1, draws // CHUNK)):
        readings = _readings(model, held_out, generator)
        rare = np.stack([reading.p_value <= share for reading in readings])
        alarms += int(np.count_nonzero(rare.any(axis=0)))
        judged += rare.shape[1]
        for reading, found in zip(readings, rare, strict=True):
            by_statistic[reading.name] = by_statistic.get(reading.name, 0) + int(np.count_nonzero(found))
    return {
        "golden": golden.baseline,
        "calibrated_on": len(kept),
        "held_out": [variant.name for variant in held_out],
        "draws": judged,
        "rate": rate,
        "alarms": alarms,
        "by_statistic": {name: count for name, count in by_statistic.items() if count},
    }


def _readings(model: NoiseModel, held_out: tuple[Variant, ...], generator: np.random.Generator) -> list[Reading]:
    """Every instrument's reading of runs that are made of blocks of one held-out change each."""
    drifts = np.stack([variant.drift for variant in held_out]).astype(np.float64)
    flips = np.array([variant.num_top1_flips for variant in held_out], dtype=np.float64)
    blocks, scales = drifts.reshape(len(held_out), -1, BLOCK), model.scale.reshape(-1, BLOCK)
    chosen = generator.integers(len(held_out), size=CHUNK)
    places = generator.integers(len(scales), size=(CHUNK, len(scales)))
    drift: Values = blocks[chosen[:, None], places].reshape(CHUNK, -1)
    mean, error = mean_and_error(drift, model.blocks)
    return [
        read_mean(model, mean, error, num_blocks=model.blocks.number),
        *read_tokens(model, drift, scales[places].reshape(CHUNK, -1)),
        read_flips(model, generator.poisson(flips[chosen]).astype(np.float64)),
    ]


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    return (
        result["golden"],
        f"{result['calibrated_on']} changes",
        str(len(result["held_out"])),
        f"{result['draws']:,}",
        f"{result['rate']:.0e}",
        f"{result['alarms'] / result['draws']:.1e}",
        ", ".join(f"{name} {count}" for name, count in result["by_statistic"].items()) or "-",
    )


if __name__ == "__main__":
    main()
