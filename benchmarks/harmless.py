"""Changes that must not fail a check, and what the check says of each.

    python benchmarks/harmless.py --model llama-3.1-8b@tiny --json harmless.json

The golden is the committed smoke one of a model, declared to be of another environment, so that tier 2 cannot decide.
For each change: the outcome, the tokens that it touched, its rms in bf16 and in the float32 reference over what is
allowed, and the least probability that any statistic of tier 4 gave it. Exit status 1 if any failed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esa_pytest.baselines.catalog import Baseline, baseline_of, load_catalog
from esa_pytest.drift.judge import judge
from esa_pytest.evaluation.attention import with_attention
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.fresh import bits_of, sample_of_fresh_process
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.noise_sample import noise_windows
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.reference import probe, rounded_at_probe
from esa_pytest.evaluation.variants import smaller_processors
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.records import Probe, Record, TokenScores, TopProbabilities, Verdict
from esa_pytest.report.columns import aligned
from esa_pytest.settings import tool_table

ROOT = Path(__file__).resolve().parents[1]
Change = Callable[[], AbstractContextManager[None]]
# A micro-batch holds at most half of the windows, so these go through the model one to sixteen at once.
NUM_WINDOWS, SHORT = 32, 64
HEADING = ("change", "outcome", "tier", "tokens changed", "bf16 rms", "reference / allowed", "least p", "loss shift")


def main() -> None:
    """Make every change, judge it, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="llama-3.1-8b@tiny", help="default %(default)s")
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    arguments = parser.parse_args()
    baseline = baseline_of(arguments.model, "smoke", load_catalog(tool_table(ROOT) or {}, folder=ROOT))
    shelved = ModelShelf(device="cpu").get(baseline)
    place = GoldenLocation(root=ROOT / "baselines_golden", folder=baseline.folder, device="cpu", dtype="bfloat16")
    golden = read_golden(place)
    assert golden is not None, f"record {place.json} first"
    golden = replace(golden, environment={**golden.environment, "declared": "another environment"})
    prepared = prepare_for(shelved.model, baseline, hub=shelved.hub)
    results = [*_in_process(golden, shelved, prepared), *_elsewhere(golden, baseline, shelved, prepared)]
    print("\n".join(aligned([HEADING, *map(_row, results)])))
    shapes = _batch_shapes(baseline, shelved)
    print(f"{len(shapes)} batch shapes, {' '.join(shapes)}: {len(set(shapes.values()))} bit patterns")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"changes": results, "batch_shapes": shapes}, indent=2) + "\n", encoding="utf-8"
        )
    sys.exit(any(not result["passed"] for result in results))


def _batch_shapes(baseline: Baseline, shelved: Shelved) -> dict[str, str]:
    """The bits of a run of many short windows, by how many of them went through the model at once."""
    sizes = dict.fromkeys(("cpu", "cuda"), NUM_WINDOWS * SHORT)
    short = baseline.type.model_copy(update={"context_lengths": (SHORT,), "scored_tokens": sizes})
    windows = prepare_for(shelved.model, baseline.model_copy(update={"type": short}), hub=shelved.hub)
    found = {}
    for count in range(1, NUM_WINDOWS // 2 + 1):
        done = evaluate(shelved.model, windows.rebatched(count * SHORT), seed=1337, description=f"{count} at once")
        found[done.batch_shapes.replace(" ", "+")] = bits_of(done.scores)
    return found


def _in_process(golden: Record, shelved: Shelved, prepared: Prepared) -> Iterator[dict[str, Any]]:
    model = shelved.model
    for name, (change, windows) in _changes(model.network, prepared).items():
        with change():
            done = evaluate(model, windows, seed=1337, description=name)
            found = probe(model, windows)
        found = replace(found, window=windows.probe_window, rounded_nll=rounded_at_probe(done.scores, windows))
        yield _judged(name, golden, done.scores, done.top, found)


def _elsewhere(golden: Record, baseline: Baseline, shelved: Shelved, prepared: Prepared) -> Iterator[dict[str, Any]]:
    for name, variables in smaller_processors().items():
        fresh = sample_of_fresh_process(
            baseline,
            device=shelved.model.device,
            batch_tokens=prepared.batch_tokens,
            windows=noise_windows(prepared),
            variables=variables,
            with_probe=True,
        )
        assert fresh.probe is not None
        rounded = rounded_at_probe(fresh.sample.scores, prepared)
        found = replace(fresh.probe, window=prepared.probe_window, rounded_nll=rounded)
        yield _judged(f"instruction set {name}", golden, fresh.sample.scores, fresh.sample.top, found)


def _judged(name: str, golden: Record, scores: TokenScores, top: TopProbabilities, found: Probe) -> dict[str, Any]:
    measured = replace(
        golden, scores=scores, metrics=compute_metrics(scores), environment={}, probe=found, top=top, noise=None
    )
    verdict = judge(golden, measured)
    assert golden.metrics is not None
    assert measured.metrics is not None
    return {
        "change": name,
        "outcome": str(verdict.outcome),
        "passed": verdict.outcome.passed,
        "tier": int(verdict.tier),
        "relative_loss_shift": measured.metrics.mean_nll / golden.metrics.mean_nll - 1,
        **_evidence(verdict),
    }


def _evidence(verdict: Verdict) -> dict[str, Any]:
    bits, reference, paired = verdict.bits, verdict.reference, verdict.paired
    return {
        "num_changed": None if bits is None else bits.num_changed,
        "rms": None if bits is None else bits.rms,
        "reference_over_allowed": None if reference is None else reference.rms / reference.allowed_rms,
        "least_p": None if paired is None or not paired.statistics else paired.statistics[0].p_value,
    }


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    def shown(key: str, pattern: str) -> str:
        return "-" if result[key] is None else format(result[key], pattern)

    return (
        result["change"],
        result["outcome"],
        str(result["tier"]),
        shown("num_changed", "d"),
        shown("rms", ".1e"),
        shown("reference_over_allowed", ".2g"),
        shown("least_p", ".1e"),
        shown("relative_loss_shift", "+.4%"),
    )


def _changes(
    network: Any, prepared: Prepared
) -> dict[str, tuple[Callable[[], AbstractContextManager[None]], Prepared]]:
    longest = max(prepared.context_lengths)
    threads = 1 if torch.get_num_threads() > 1 else 2
    same: dict[str, Change] = {
        "nothing": nullcontext,
        f"{threads} threads": partial(_with_threads, threads),
        "attention eager": partial(with_attention, network, "eager"),
        "position ids + 1": partial(_later_positions, network),
        "RMSNorm multiplied in float32": partial(_wide_norms, network),
        "torch.compile": partial(_compiled, network),
    }
    return {name: (change, prepared) for name, change in same.items()} | {
        f"{count} windows a batch": (nullcontext, prepared.rebatched(count * longest)) for count in (1, 2)
    }


@contextmanager
def _with_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _later_positions(network: Any) -> Iterator[None]:
    """RoPE knows differences of positions only."""

    def later(_module: Any, _inputs: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        length = given["input_ids"].shape[1]
        return (), {**given, "position_ids": torch.arange(1, length + 1)[None]}

    handle = network.get_decoder().register_forward_pre_hook(later, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _wide_norms(network: Any) -> Iterator[None]:
    """Round once behind the weight of a norm, instead of once before it and once behind."""

    def wide(module: Any, hidden: Tensor) -> Tensor:
        values = hidden.float()
        scaled = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + module.variance_epsilon)
        rounded: Tensor = (module.weight.float() * scaled).to(hidden.dtype)
        return rounded

    with ExitStack() as stack:
        for module in network.modules():
            if hasattr(module, "variance_epsilon"):
                module.forward = partial(wide, module)
                stack.callback(delattr, module, "forward")
        yield


@contextmanager
def _compiled(network: Any) -> Iterator[None]:
    layers = network.get_decoder().layers
    with ExitStack() as stack:
        for layer in layers:
            layer.mlp.forward = torch.compile(layer.mlp.forward)
            stack.callback(delattr, layer.mlp, "forward")
        yield


if __name__ == "__main__":
    main()
