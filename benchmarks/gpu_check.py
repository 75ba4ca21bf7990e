"""Every full-sized twin on one GPU: memory and throughput beside the reported ones, and how stable the bits are.

    python benchmarks/gpu_check.py --json gpu.json

For each twin and baseline type: one measurement, a second run that must give the same bits, another batch shape, and
(for smoke) eager attention instead of sdpa. Weights are random, so only memory, throughput and differences mean
anything. `--device cpu --models pythia-1.4b@tiny` tries the same on a small scale.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from esa_pytest.baselines.catalog import Baseline, Catalog, baseline_of, load_catalog
from esa_pytest.drift.statistics import bit_drift
from esa_pytest.errors import EsaError
from esa_pytest.evaluation.attention import with_attention
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.golden.assembly import assemble
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.records import BitDrift
from esa_pytest.report.columns import aligned
from esa_pytest.settings import tool_table

ROOT = Path(__file__).resolve().parents[1]
FULL_TWINS = ["pythia-1.4b@full", "llama-3.1-8b@full", "phi-3-mini-4k-instruct@full", "mistral-7b-v0.3@full"]
OTHER_ATTENTION = "eager"
HEADING = (
    "baseline",
    "tok/s",
    "reported",
    "peak GiB",
    "reported",
    "efficiency",
    "batch",
    "second run",
    "other batch",
    OTHER_ATTENTION,
)


def main() -> None:
    """Check the named twins and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", help="as --esa-device (default %(default)s)")
    parser.add_argument("--models", nargs="+", default=FULL_TWINS, metavar="NAME", help="of the catalog")
    parser.add_argument("--types", nargs="+", default=["smoke", "standard"], metavar="TYPE")
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    arguments = parser.parse_args()
    catalog = load_catalog(tool_table(ROOT) or {}, folder=ROOT)
    shelf = ModelShelf(device=arguments.device)
    found: list[dict[str, Any]] = []
    for model in arguments.models:
        for type_name in arguments.types:
            found += _checked(model, type_name, catalog, shelf)
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=2, default=str) + "\n", encoding="utf-8")
    shelf.close()
    print("\n".join(aligned([HEADING, *(_row(result) for result in found)])))
    sys.exit(0 if found and all(result.get("second_run_bit_equal") for result in found) else 1)


def _checked(model: str, type_name: str, catalog: Catalog, shelf: ModelShelf) -> list[dict[str, Any]]:
    """What was measured of one pair; nothing, and a line on the terminal, where it cannot be run."""
    if model not in catalog.models or type_name not in catalog.types:
        print(f"{model}-{type_name}: the catalog has {', '.join(catalog.models)} and {', '.join(catalog.types)}")
        return []
    baseline = baseline_of(model, type_name, catalog)
    try:
        return [_check(baseline, shelf.get(baseline), vary_attention=type_name == "smoke")]
    except EsaError as error:
        print(f"{baseline.id}: {error}")
        return []


def _check(baseline: Baseline, shelved: Shelved, *, vary_attention: bool) -> dict[str, Any]:
    model = shelved.model
    prepared = prepare_for(model, baseline, hub=shelved.hub)

    def run(what: str, windows: Any = prepared) -> Round:
        seed = baseline.type.seeds[0]
        return evaluate(model, windows, seed=seed, description=f"{baseline.id}, {what}")

    first = run("first run")
    second = run("second run", first.prepared)
    other = first.prepared.in_another_shape()
    record = assemble(baseline, shelved.checkpoint, model, [first, second], provenance={})
    attention = _with_other_attention(model, lambda: run(OTHER_ATTENTION, first.prepared)) if vary_attention else None
    return {
        "baseline": baseline.id,
        "resources": dict(record.resources),
        "environment": dict(record.environment),
        "metrics": None if record.metrics is None else record.metrics.as_dict(),
        "non_finite": None if record.non_finite is None else asdict(record.non_finite),
        "reported": None if baseline.reported is None else baseline.reported.model_dump(),
        "seconds": {"load": shelved.seconds["load"], "first_run": first.seconds, "second_run": second.seconds},
        "halvings": first.halvings,
        "second_run_bit_equal": bits_of(first.scores) == bits_of(second.scores),
        "other_batch": None if other is None else _difference(first, run("another batch", other)),
        OTHER_ATTENTION: None if attention is None else _difference(first, attention),
    }


def _with_other_attention(model: LoadedModel, run: Callable[[], Round]) -> Round:
    with with_attention(model.network, OTHER_ATTENTION):
        return run()


def _difference(first: Round, other: Round) -> dict[str, Any]:
    drift: BitDrift = bit_drift(first.scores, other.scores)
    return {"batch_shapes": other.batch_shapes, "seconds": other.seconds, **asdict(drift)}


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    resources, reported = result["resources"], result["reported"] or {}
    peak = next(value for name, value in resources.items() if name.startswith("peak_"))
    return (
        result["baseline"],
        f"{resources['throughput_tokens_per_second']:,.0f}",
        _or_nothing(reported.get("tokens_per_second"), "{:,.0f}"),
        f"{peak / 2**30:.2f}",
        _or_nothing(reported.get("peak_vram_gib"), "{:.2f}"),
        _or_nothing(resources["efficiency"], "{:.2f}"),
        result["environment"]["batch_shapes"],
        "bit-equal" if result["second_run_bit_equal"] else "OTHER BITS",
        _difference_text(result["other_batch"]),
        _difference_text(result[OTHER_ATTENTION]),
    )


def _or_nothing(value: float | None, layout: str) -> str:
    return "-" if value is None else layout.format(value)


def _difference_text(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return "-"
    if difference["num_changed"] == 0:
        return "bit-equal"
    return f"{difference['num_changed']}/{difference['num_tokens']} changed, rms {difference['rms']:.1e}"


if __name__ == "__main__":
    main()
