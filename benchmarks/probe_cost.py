"""What the float32 reference and the statistics cost: memory by shape, and time over one evaluation.

    python benchmarks/probe_cost.py --model llama-3.1-8b@tiny --rounds 5 --json cost.json

Memory: what the probe needs beyond the bf16 weights, computed from the shapes of the catalog's models (one layer in
float32, a chunk of the head and its logits), and the same for random Llamas whose resident set is measured in a process
each. Time: medians of interleaved rounds of an evaluation, of the probe, and of judging with tier 2 unable to decide.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from esa_pytest.baselines.catalog import baseline_of, load_catalog
from esa_pytest.drift.judge import judge
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.finiteness import decoder_layers
from esa_pytest.evaluation.preparation import PROBE_TOKENS, prepare_for
from esa_pytest.evaluation.reference import VOCABULARY_CHUNK, probe, rounded_at_probe
from esa_pytest.evaluation.upcasting import in_float32
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.report.columns import aligned
from esa_pytest.settings import tool_table

ROOT = Path(__file__).resolve().parents[1]
SHAPES = ROOT / "esa_pytest/baselines/shapes"
# hidden, intermediate, layers: what fits into a few GB and is large beside the interpreter.
RANDOM = ((1024, 4096, 4), (2048, 8192, 4), (3072, 12288, 3))
MEGA = 2**20


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="llama-3.1-8b@tiny", help="whose times are taken (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    parser.add_argument("--resident", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.resident:
        print(_resident(*arguments.resident))
        return
    computed, random = _of_catalog(), [_measured(*shape) for shape in RANDOM]
    rows = [(name, f"{found['layer']:,.0f}", f"{found['head']:,.0f}", "-") for name, found in computed.items()]
    rows += [
        (f"random {'x'.join(map(str, m['shape']))}", f"{m['layer']:,.0f}", f"{m['head']:,.0f}", f"{m['measured']:,.0f}")
        for m in random
    ]
    print("\n".join(aligned([("shape", "one layer, MB", "head chunk, MB", "measured extra, MB"), *rows])))
    times = _times(arguments.model, arguments.rounds)
    cost = (times["probe"] + times["judge"]) / times["evaluate"]
    print(
        f"\n{arguments.model}: probe {times['probe']:.3f} s, judging {times['judge']:.3f} s, one evaluation "
        f"{times['evaluate']:.3f} s: {cost:.2f} of it (medians of {arguments.rounds})"
    )
    if arguments.json:
        found = {"memory": {"computed": computed, "random": random}, "times": times}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _of_catalog() -> dict[str, dict[str, float]]:
    found = {}
    for path in sorted(SHAPES.glob("*.json")):
        config = transformers.AutoConfig.for_model(**json.loads(path.read_text(encoding="utf-8")))
        with torch.device("meta"):
            found[path.stem] = _computed(transformers.AutoModelForCausalLM.from_config(config))
    return found


def _computed(network: Any) -> dict[str, float]:
    """One layer in float32, and a chunk of the head with its logits in float32 and float64, in MB."""
    layer = max(sum(p.numel() for p in layer.parameters()) for _, layer in decoder_layers(network))
    rows = min(VOCABULARY_CHUNK, network.config.vocab_size)
    head = rows * network.config.hidden_size * 4 + PROBE_TOKENS * rows * (4 + 8)
    return {"layer": layer * 4 / MEGA, "head": head / MEGA}


def _random(hidden: int, intermediate: int, layers: int) -> Any:
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=16,
        vocab_size=8192,
        max_position_embeddings=1024,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def _measured(*shape: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--resident", *map(str, shape)],
        capture_output=True,
        text=True,
        check=True,
    )
    return {"shape": shape, "measured": float(done.stdout.split()[-1]), **_computed(_random(*shape))}


def _resident(hidden: int, intermediate: int, layers: int) -> float:
    """How much the peak resident set grows while a random network of this shape runs as the probe runs it, in MB."""
    network = _random(hidden, intermediate, layers).to_empty(device="cpu").eval()
    for parameter in network.parameters():
        parameter.data.fill_(0.01)  # touched, so that it is resident
    for name, buffer in network.named_buffers():
        buffer.fill_(0.01 if "inv_freq" in name else 0)
    ids = torch.arange(PROBE_TOKENS)[None]
    with torch.inference_mode():
        network.model(input_ids=ids[:, :8], use_cache=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with in_float32(network):
            network.model(input_ids=ids, use_cache=False)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _times(name: str, rounds: int) -> dict[str, float]:
    baseline = baseline_of(name, "smoke", load_catalog(tool_table(ROOT) or {}, folder=ROOT))
    shelved = ModelShelf(device="cpu").get(baseline)
    prepared = prepare_for(shelved.model, baseline, hub=shelved.hub)
    place = GoldenLocation(root=ROOT / "baselines_golden", folder=baseline.folder, device="cpu", dtype="bfloat16")
    golden = read_golden(place)
    assert golden is not None, f"record {place.json} first"
    taken: dict[str, list[float]] = {"evaluate": [], "probe": [], "judge": []}
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        done = evaluate(shelved.model, prepared, seed=1337, description=name)
        evaluated = time.perf_counter()
        found = probe(shelved.model, prepared)
        probed = time.perf_counter()
        rounded = rounded_at_probe(done.scores, prepared)
        nudged = replace(done.scores, nll=np.nextafter(done.scores.nll, np.float32(np.inf)))
        found = replace(found, window=prepared.probe_window, rounded_nll=rounded)
        measured = replace(golden, scores=nudged, environment={}, probe=found, top=done.top, noise=None)
        judge(golden, measured)
        ended = time.perf_counter()
        for part, seconds in (
            ("evaluate", evaluated - begin),
            ("probe", probed - evaluated),
            ("judge", ended - probed),
        ):
            taken[part].append(seconds)
    # The first round warms up.
    return {part: statistics.median(seconds[1:]) for part, seconds in taken.items()}


if __name__ == "__main__":
    main()
