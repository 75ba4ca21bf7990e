"""How steady tokens a second, one product behind the run, and products within it are while others take the cores.

`python -m benchmarks.efficiency_under_load` scores a Llama of random weights in fresh processes beside 0, 1 and 2 busy
loops, and prints for each figure its spread: the standard deviation of its logarithm, over all and without loops.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.products import matrix_product_flops_per_second
from esa_pytest.evaluation.byte_tokenizer import BOS_ID, EOS_ID, write_byte_tokenizer
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.golden.assembly import resources_of
from tests.model.tiny import load_folder, prepare_tiny, running_text, tiny_baseline, write_corpus

FIGURES = ("throughput_tokens_per_second", "one_product_behind", "efficiency")
LOOPS = (0, 1, 2)
CONTEXT = 1024
TOKENS = 3 * CONTEXT


def main() -> None:
    """Measure, or, as a child, one process's rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3, help="fresh processes a number of loops")
    parser.add_argument("--rounds", type=int, default=2, help="rounds a process")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        for row in _rounds(arguments.rounds):
            print(json.dumps(row))
        return
    rows = []
    # Interleaved, so that what else the machine does meets all of them.
    for _ in range(arguments.processes):
        for loops in LOOPS:
            rows += _beside(loops, arguments.rounds)
    for name in FIGURES:
        every, alone = (_spread([row[name] for row in rows if row["loops"] <= most]) for most in (max(LOOPS), 0))
        print(f"{name:<30} spread {every:.3f} under 0 to {max(LOOPS)} loops, {alone:.3f} without")
    print(f"others took {min(r['others'] for r in rows):.0%} to {max(r['others'] for r in rows):.0%} of the cores")
    print(json.dumps(rows))


def _spread(values: list[float]) -> float:
    return statistics.stdev([math.log(value) for value in values]) if len(values) > 1 else math.nan


def _beside(loops: int, rounds: int) -> list[dict[str, Any]]:
    """The rounds of a fresh process beside so many busy loops."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        command = [sys.executable, "-m", "benchmarks.efficiency_under_load", "--child", "--rounds", str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return [{**json.loads(line), "loops": loops} for line in done.stdout.splitlines() if line.startswith("{")]


def _rounds(rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save(folder / "model")
        corpus = write_corpus(folder, running_text(4 * TOKENS))
        model = load_folder(folder / "model")
        baseline = tiny_baseline(
            folder / "model",
            corpus,
            context_lengths=(CONTEXT,),
            scored_tokens={"cpu": TOKENS, "cuda": TOKENS},
            batch_tokens={"cpu": CONTEXT, "cuda": CONTEXT},
        )
        prepared = prepare_tiny(model, baseline)
        found = []
        for number in range(rounds):
            used = resources_of(model, [evaluate(model, prepared, seed=0, description=f"round {number}")])
            achieved = used["achieved_flops_per_second"]
            assert isinstance(achieved, float)
            speed = matrix_product_flops_per_second(model.network, num_tokens=CONTEXT, device=model.device)
            found.append({**used, "one_product_behind": achieved / speed, "others": used["cpu_others_share"] or 0.0})
        return found


def _save(folder: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=8192,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2 * CONTEXT,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=EOS_ID,
    )
    transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    write_byte_tokenizer(folder)


if __name__ == "__main__":
    main()
