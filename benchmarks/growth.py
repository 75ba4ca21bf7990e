"""How time and memory of an evaluation grow with tokens, layers and vocabulary, and what a large batch takes.

    python -m benchmarks.growth --json growth.json
    python -m benchmarks.growth --model smollm2-135m --tokens 8192

The first doubles one thing at a time of a small random Llama, in interleaved rounds: time over that of the small one
beside the ratio of their operations, which is what linear growth gives. Peak memory is that over the model, measured
in a process of its own each. The second says what one batch of so many tokens takes of a catalogued model.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from benchmarks.interleaved import interleaved
from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.efficiency import forward_flops
from esa_pytest.evaluation.head import head_is_separable
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_model
from esa_pytest.evaluation.memory import peak_memory
from esa_pytest.evaluation.scoring import score_batch
from esa_pytest.records import Batch
from esa_pytest.report.columns import aligned
from esa_pytest.settings import tool_table

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
CONTEXT_LENGTH = 512


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a random Llama and what it scores at once."""

    windows: int = 2
    layers: int = 4
    vocabulary: int = 16_384
    hidden: int = 256

    def network(self) -> PreTrainedModel:
        """The model, in bf16."""
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=3 * self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            bos_token_id=0,
            eos_token_id=0,
        )
        network: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return network.to(torch.bfloat16).eval()

    def batch(self) -> Batch:
        """Random windows."""
        draw = np.random.default_rng(0)
        ids = draw.integers(0, self.vocabulary, (self.windows, CONTEXT_LENGTH + 1))
        targets = ids[:, 1:].astype(np.int32)
        return Batch(input_ids=ids[:, :-1].copy(), targets=targets, strata=np.zeros_like(targets))


SIZES = {
    "small": Size(),
    "tokens x 2": Size(windows=4),
    "tokens x 4": Size(windows=8),
    "layers x 2": Size(layers=8),
    "layers x 4": Size(layers=16),
    "vocabulary x 2": Size(vocabulary=32_768),
    "vocabulary x 4": Size(vocabulary=65_536),
}


def main() -> None:
    """Print the table, or one batch's memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="behind one that warms up (default %(default)s)")
    parser.add_argument("--model", help="of the catalog: the memory of one batch instead")
    parser.add_argument(
        "--tokens", type=int, default=8192, help="of that batch, in windows of 1,024 (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        size = Size(**json.loads(arguments.one))
        print(json.dumps(_memory(size.network(), size.batch())))
        return
    found = _one_batch(arguments.model, arguments.tokens) if arguments.model else _table(arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _table(rounds: int) -> list[dict[str, Any]]:
    networks = {name: size.network() for name, size in SIZES.items()}
    batches = {name: size.batch() for name, size in SIZES.items()}
    seconds = interleaved({name: partial(_score, networks[name], batches[name]) for name in SIZES}, rounds=rounds)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    flops = {name: forward_flops(networks[name], (batches[name],)) for name in SIZES}
    rows = [
        {
            "size": name,
            **asdict(size),
            "time": medians[name] / medians["small"],
            "operations": flops[name] / flops["small"],
            **_memory_elsewhere(size),
        }
        for name, size in SIZES.items()
    ]
    heading = ("size", "time", "operations", "peak over the model, MB", "logits of a batch, MB")
    cells = [
        (
            str(row["size"]),
            f"{row['time']:.2f}",
            f"{row['operations']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['logits_bytes'] / 1e6:.0f}",
        )
        for row in rows
    ]
    print("\n".join(aligned([heading, *cells], right=frozenset({1, 2, 3, 4}))))
    return rows


def _one_batch(name: str, num_tokens: int) -> dict[str, Any]:
    checkpoint = locate(load_catalog(tool_table(ROOT) or {}, folder=ROOT).models[name], hub=Hub())
    network = load_model(name, checkpoint, device=CPU).network
    ids = np.random.default_rng(0).integers(0, network.config.vocab_size, (num_tokens // 1024, 1025))
    targets = ids[:, 1:].astype(np.int32)
    found = _memory(network, Batch(input_ids=ids[:, :-1].copy(), targets=targets, strata=np.zeros_like(targets)))
    print(f"{name}, {num_tokens} tokens a batch: {found['peak_bytes'] / 1e6:.0f} MB over the model")
    return found


def _memory_elsewhere(size: Size) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.growth", "--one", json.dumps(asdict(size))]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def _memory(network: PreTrainedModel, batch: Batch) -> dict[str, int]:
    """Peak resident bytes while a batch is scored, over those of the process that has scored a small one."""
    small = replace(batch, input_ids=batch.input_ids[:1, :64], targets=batch.targets[:1, :64])
    _score(network, small)
    with peak_memory(CPU) as peak:
        _score(network, batch)
    logits = batch.targets.size * int(network.config.vocab_size) * 2
    return {"peak_bytes": peak["peak_rss_over_start_bytes"], "logits_bytes": logits}


def _score(network: PreTrainedModel, batch: Batch) -> None:
    scores = score_batch(
        network,
        torch.from_numpy(batch.input_ids),
        torch.from_numpy(batch.targets).long(),
        split_head=head_is_separable(network, device=CPU),
    )
    assert scores.finite.all()


if __name__ == "__main__":
    main()
