"""An extended baseline evaluated once, in bf16 or in float32: what it says of long contexts, and what it costs.

    python -m benchmarks.extended [--model smollm2-135m] [--dtype float32] [--longest 8192] [--facts 8] [--json FILE]

In float32 the same weights are widened, which says the same of gain and retrieval but for rounding. Beside the seconds
stand the floating-point operations, the rate of the model's own matrix product, and the time that a plain forward pass
over one of the windows took in the same process.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.products import matrix_product_flops_per_second
from esa_pytest.baselines.catalog import Baseline, baseline_of, load_catalog
from esa_pytest.evaluation.efficiency import forward_flops
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.golden.assembly import summed_up
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.report.context import context_lines
from esa_pytest.report.lines import calibration_lines, quoted
from esa_pytest.report.resources import memory_text
from esa_pytest.settings import tool_table

ROOT = Path(__file__).resolve().parents[1]


def shortened(baseline: Baseline, *, longest: int, facts: int) -> Baseline:
    """The baseline with windows of another length at most, and another number of facts."""
    kind = baseline.type
    assert kind.context is not None
    plan = kind.context.model_copy(update={"longest": {"cpu": longest, "cuda": longest}, "facts_a_depth": facts})
    total = dict.fromkeys(kind.scored_tokens, longest + longest // 2)
    return baseline.model_copy(update={"type": kind.model_copy(update={"context": plan, "scored_tokens": total})})


def forward_seconds(shelved: Shelved, prepared: Prepared) -> float:
    """A plain forward pass of the model's body over the first window."""
    window = torch.from_numpy(prepared.rectangles[0].input_ids[:1])
    body = getattr(shelved.model.network, shelved.model.network.base_model_prefix)
    begin = time.perf_counter()
    with torch.inference_mode():
        body(input_ids=window, use_cache=False)
    return time.perf_counter() - begin


def report(shelved: Shelved, prepared: Prepared, done: Round, forward: float) -> None:
    """Print what was found."""
    sums = summed_up(done)
    assert sums.metrics is not None
    flops = forward_flops(shelved.model.network, (*prepared.batches, *prepared.context_batches))
    ceiling = matrix_product_flops_per_second(shelved.model.network, num_tokens=1024, device=shelved.model.device)
    print(f"  {quoted(sums.metrics)}; batch {prepared.batch_shapes}, chunks of {prepared.chunk_tokens} tokens")
    print(*context_lines(sums.context), *calibration_lines(sums.calibration), sep="\n")
    rates = [f"{rate / 1e9:.1f} GFLOP/s" for rate in (flops / done.seconds, ceiling)]
    print(f"  {done.seconds:.0f} s, {flops / 1e12:.1f} TFLOP, {rates[0]}; the model's own matrix product {rates[1]}")
    print(f"  a plain forward pass over one window {forward:.0f} s; {memory_text(done.peak_bytes)}")


def main() -> None:
    """Evaluate, print, and leave the figures as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--longest", type=int, default=8192)
    parser.add_argument("--facts", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    catalog = load_catalog(tool_table(ROOT) or {}, folder=ROOT)
    baseline = baseline_of(arguments.model, "extended", catalog)
    baseline = shortened(baseline, longest=arguments.longest, facts=arguments.facts)
    shelved = ModelShelf(device="cpu").get(baseline)
    if arguments.dtype == "float32":
        # Never to bf16, which it is loaded in: that would round the frequencies of RoPE too.
        shelved.model.network.float()
    prepared = prepare_for(shelved.model, baseline, hub=shelved.hub)
    print(f"{baseline.id} in {arguments.dtype}, {torch.get_num_threads()} threads", flush=True)
    done = evaluate(shelved.model, prepared, seed=1337, description=baseline.id, probabilities=True)
    report(shelved, prepared, done, forward_seconds(shelved, prepared))
    if arguments.json is not None:
        sums = summed_up(done)
        assert sums.context is not None
        found = {"metrics": sums.context.metrics, "retrieval": [asdict(depth) for depth in sums.context.retrieval]}
        arguments.json.write_text(json.dumps(found | {"seconds": done.seconds}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
