"""What a long window takes in one pass and in chunks: peak memory over the weights, seconds, how far the NLLs differ.

    python benchmarks/long_context.py [--model smollm2-135m] [--lengths 1024 2048 4096 8192] [--chunk 1024]
                                      [--dtype float32] [--attention eager] [--json FILE]

Every cell of the table is a process of its own, which loads the model, warms up, and scores one window of running text
in this way alone: `forward` is the model's body and nothing else, `one pass` scores every token of the window, `chunks`
does it from a cache. Times depend on the machine; their ratio within one length is the figure.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.baselines.catalog import baseline_of, load_catalog
from esa_pytest.evaluation.attention import with_attention
from esa_pytest.evaluation.corpora import load_corpus
from esa_pytest.evaluation.determinism import deterministic
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.memory import peak_memory
from esa_pytest.evaluation.prefill import score_in_chunks
from esa_pytest.evaluation.tokenization import tokenize
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.settings import tool_table

ROOT = Path(__file__).resolve().parents[1]
FORWARD, WHOLE, CHUNKS = "forward", "one pass", "chunks"
_WARM_UP_TOKENS = 64
# More than any tokenizer makes a token of.
_CHARACTERS = 8


def window_of(name: str, length: int, dtype: torch.dtype) -> tuple[PreTrainedModel, Tensor]:
    """The loaded model, and `length + 1` tokens of Shakespeare."""
    catalog = load_catalog(tool_table(ROOT) or {}, folder=ROOT)
    baseline = baseline_of(name, "extended", catalog)
    model = ModelShelf(device="cpu").get(baseline).model
    corpus = load_corpus("shakespeare", baseline.corpora["shakespeare"], hub=Hub())
    beginning = replace(corpus.documents[0], text=corpus.documents[0].text[: _CHARACTERS * length])
    stream = tokenize(replace(corpus, documents=(beginning,)), model.tokenizer, bos="none")
    return model.network.to(dtype), torch.from_numpy(stream.ids[: length + 1])


def run_cell(arguments: argparse.Namespace) -> dict[str, Any]:
    """One way of scoring one window, measured in this process."""
    dtype = getattr(torch, arguments.dtype)
    network, ids = window_of(arguments.model, arguments.length, dtype)
    inputs, targets = ids[None, :-1], ids[None, 1:]
    chunk = arguments.chunk if arguments.cell == CHUNKS else None

    def score(number: int) -> Tensor | None:
        if arguments.cell == FORWARD:
            with torch.inference_mode():
                getattr(network, network.base_model_prefix)(input_ids=inputs[:, :number], use_cache=False)
            return None
        return score_in_chunks(
            network, inputs[:, :number], targets[:, :number], chunk_tokens=chunk, split_head=True
        ).nll

    with deterministic(seed=0), with_attention(network, arguments.attention):
        score(_WARM_UP_TOKENS)
        gc.collect()
        before = psutil.Process().memory_info().rss
        begin = time.perf_counter()
        with peak_memory(torch.device("cpu")) as peaks:
            nll = score(arguments.length)
        seconds = time.perf_counter() - begin
    if nll is not None:
        np.save(arguments.nll, nll.numpy())
    return {"seconds": seconds, "peak_over_weights_bytes": next(iter(peaks.values())) - before}


def measured(arguments: argparse.Namespace, length: int, cell: str, nll: Path) -> dict[str, Any]:
    """A cell, measured in a process of its own."""
    options = {name: getattr(arguments, name) for name in ("model", "chunk", "dtype", "attention")}
    command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in options.items())]
    command += [f"--length={length}", f"--cell={cell}", f"--nll={nll}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row_of(arguments: argparse.Namespace, length: int) -> dict[str, Any]:
    """The three ways at one length, and how far two of them differ."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {cell: Path(folder) / f"{number}.npy" for number, cell in enumerate((FORWARD, WHOLE, CHUNKS))}
        cells = {cell: measured(arguments, length, cell, path) for cell, path in paths.items()}
        drift = np.load(paths[CHUNKS]).astype(np.float64) - np.load(paths[WHOLE])
    return {
        "length": length,
        "cells": cells,
        "drift_rms_nats": float(np.sqrt(np.mean(drift**2))),
        "drift_mean_nats": float(drift.mean()),
        "drift_maximum_nats": float(np.abs(drift).max()),
    }


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    peaks = [row["cells"][cell]["peak_over_weights_bytes"] / 2**20 for cell in (WHOLE, CHUNKS)]
    forward = row["cells"][FORWARD]["seconds"]
    ratios = [row["cells"][cell]["seconds"] / forward for cell in (WHOLE, CHUNKS)]
    return (
        f"{row['length']:>8}{peaks[0]:>12.0f}{peaks[1]:>12.0f}{forward:>12.1f}{ratios[0]:>12.2f}{ratios[1]:>12.2f}"
        f"{row['drift_rms_nats']:>12.1e}{row['drift_mean_nats']:>+12.1e}{row['drift_maximum_nats']:>12.1e}"
    )


def main() -> None:
    """Measure every cell, print the table, and leave it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--json", type=Path)
    for name, kind in (("length", int), ("cell", str), ("nll", Path)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell is not None:
        print(json.dumps(run_cell(arguments)))
        return
    how = f"{arguments.dtype}, {arguments.attention}, chunks of {arguments.chunk} tokens"
    print(f"{arguments.model}, {how}, {torch.get_num_threads()} threads")
    print(f"{'':>8}{'peak over weights, MiB':>24}{'seconds':>12}{'times a forward':>24}{'chunks - one pass, nats':>36}")
    heads = ("tokens", WHOLE, CHUNKS, FORWARD, WHOLE, CHUNKS, "rms", "mean", "max")
    print("".join(f"{head:>{8 if head == 'tokens' else 12}}" for head in heads))
    rows = []
    for length in arguments.lengths:
        rows.append(row_of(arguments, length))
        print(line_of(rows[-1]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
