"""How fast tokens are scored beside what others do on the same model and windows, in one run.

    python -m benchmarks.throughput --json throughput.json

Contenders, in turn: the bare forward pass (`model(input_ids)`, nothing read of it); the common loop
(`logits.float()`, `cross_entropy`, `argmax`); our evaluation, all metrics on, as smoke scores it and as standard does
(with the distributions); lm-evaluation-harness' HF backend at several batch sizes, of which the fastest counts;
llama.cpp through its Python package, on the same checkpoint's quantised file; and the run's operations in nothing but
a bf16 product of the model's own shape, which tells what share of that speed a bare pass and ours reach. Who is not
installed is named. Then ours against the bare pass by batch shape and context length. Every figure is a ratio of
medians of interleaved rounds.
"""

import argparse
import gc
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from benchmarks.contenders import llama_cpp, lm_eval
from benchmarks.interleaved import interleaved, ratio_lines, ratio_rows
from benchmarks.products import products_of
from esa_pytest.baselines.catalog import Baseline, baseline_of, load_catalog
from esa_pytest.baselines.sources import WheelModel
from esa_pytest.evaluation.efficiency import forward_flops
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.fetching import fetched_member
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.settings import tool_table

ROOT = Path(__file__).resolve().parents[1]
BARE = "bare forward"
PRODUCTS = "matrix products alone"
# Windows of a batch and context length.
SHAPES = ((1, 128), (4, 128), (1, 512), (2, 512), (1, 2048))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model and the windows that everybody scores."""

    shelved: Shelved
    prepared: Prepared

    @property
    def model(self) -> LoadedModel:
        """The loaded model."""
        return self.shelved.model

    @property
    def num_tokens(self) -> int:
        """Scored tokens."""
        return sum(batch.num_scored for batch in self.prepared.batches)


def main() -> None:
    """Run everything, print the tables, and keep them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m", help="of the catalog (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="as --esa-device (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="behind one that warms up (default %(default)s)")
    parser.add_argument("--windows", type=int, default=2, help="to score (default %(default)s)")
    parser.add_argument("--context", type=int, default=1024, help="tokens of a window (default %(default)s)")
    parser.add_argument("--shapes", action=argparse.BooleanOptionalAction, default=True, help="by batch shape too")
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    arguments = parser.parse_args()
    shelf = ModelShelf(device=arguments.device)
    baseline = baseline_of(arguments.model, "smoke", load_catalog(tool_table(ROOT) or {}, folder=ROOT))
    setting = _setting(baseline, shelf, windows=arguments.windows, at_once=1, context_length=arguments.context)
    found = {"contenders": _against_others(setting, _gguf(baseline), arguments.rounds)}
    if arguments.shapes:
        found["shapes"] = _by_shape(baseline, shelf, arguments.rounds)
    shelf.close()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _setting(baseline: Baseline, shelf: ModelShelf, *, windows: int, at_once: int, context_length: int) -> Setting:
    scored = {"cpu": windows * context_length, "cuda": windows * context_length}
    batch = {"cpu": at_once * context_length, "cuda": at_once * context_length}
    changes = {"context_lengths": (context_length,), "scored_tokens": scored, "batch_tokens": batch}
    changed = baseline.model_copy(update={"type": baseline.type.model_copy(update=changes)})
    shelved = shelf.get(changed)
    return Setting(shelved=shelved, prepared=prepare_for(shelved.model, changed, hub=shelved.hub))


def _gguf(baseline: Baseline) -> Path:
    """The quantised file that a checkpoint was made of; a path that does not exist where it was made of none."""
    model = baseline.model
    if not isinstance(model, WheelModel):
        return Path("none")
    return fetched_member(model)


def _against_others(setting: Setting, gguf: Path, rounds: int) -> list[dict[str, Any]]:
    others: dict[str, Callable[[], Any]] = {}
    theirs = lm_eval(setting.model, setting.prepared) | llama_cpp(setting.prepared, gguf)
    for name, found in theirs.items():
        if isinstance(found, str):
            print(f"{name}: {found}")
        else:
            others[name] = found
    contenders = {
        BARE: lambda: _bare(setting),
        PRODUCTS: _products(setting),
        "common loop": lambda: _common(setting),
        "ours, smoke": lambda: _ours(setting, probabilities=False),
        "ours, standard": lambda: _ours(setting, probabilities=True),
        **others,
    }
    # As the plugin does behind its imports: each evaluation collects garbage before its memory is measured.
    gc.collect()
    gc.freeze()
    seconds = interleaved(contenders, rounds=rounds)
    rows = ratio_rows(seconds, against=BARE)
    ceiling = next(row["median_seconds"] for row in rows if row["contender"] == PRODUCTS)
    for row in rows:
        row["tokens_per_second"] = setting.num_tokens / row["median_seconds"]
        row["of_matrix_products"] = ceiling / row["median_seconds"]
    print(f"{setting.num_tokens} tokens of {setting.prepared.batch_shapes}, medians of {rounds} interleaved rounds")
    print("\n".join(ratio_lines(rows, against=BARE, per=1e3 / setting.num_tokens, unit="ms a token")))
    for row in rows:
        if row["contender"] in (BARE, "ours, smoke"):
            print(f"{row['contender']}: {row['of_matrix_products']:.2f} of the speed of its matrix products alone")
    fastest = min((row for row in rows if row["contender"].startswith("lm-eval")), key=_seconds, default=None)
    if fastest is not None:
        ours = next(row for row in rows if row["contender"] == "ours, smoke")
        print(f"ours, smoke over {fastest['contender']}: {fastest['median_seconds'] / ours['median_seconds']:.3f}")
    return rows


def _seconds(row: Mapping[str, Any]) -> float:
    return float(row["median_seconds"])


def _by_shape(baseline: Baseline, shelf: ModelShelf, rounds: int) -> list[dict[str, Any]]:
    """Ours, as smoke scores, over the bare pass, for one batch of each shape."""
    found = []
    for at_once, context_length in SHAPES:
        setting = _setting(baseline, shelf, windows=at_once, at_once=at_once, context_length=context_length)
        contenders = {BARE: partial(_bare, setting), "ours": partial(_ours, setting, probabilities=False)}
        ours = ratio_rows(interleaved(contenders, rounds=rounds), against=BARE)[1]
        shape = f"{at_once}x{context_length}"
        print(f"{shape:<8} ours over {BARE} {ours['speed']:.3f}, rounds {ours['least']:.3f} to {ours['most']:.3f}")
        found.append({"shape": shape, **ours})
    return found


def _bare(setting: Setting) -> None:
    with torch.inference_mode():
        for batch in setting.prepared.batches:
            setting.model.network(torch.from_numpy(batch.input_ids).to(setting.model.device))
        _wait(setting)


def _common(setting: Setting) -> None:
    total, correct = 0.0, 0
    with torch.inference_mode():
        for batch in setting.prepared.batches:
            targets = torch.from_numpy(batch.targets).long().to(setting.model.device)
            logits = setting.model.network(torch.from_numpy(batch.input_ids).to(setting.model.device)).logits.float()
            total += float(functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
            correct += int((logits.argmax(-1) == targets).sum())
    assert total > 0.0
    assert correct >= 0


def _ours(setting: Setting, *, probabilities: bool) -> None:
    done = evaluate(setting.model, setting.prepared, seed=1337, description="ours", probabilities=probabilities)
    assert done.non_finite is None


def _products(setting: Setting) -> Callable[[], None]:
    """The run's operations at the speed of a product of the model's own."""
    network, batches = setting.model.network, setting.prepared.batches
    flops = forward_flops(network, batches)
    return products_of(network, flops=flops, num_tokens=batches[0].num_scored, device=setting.model.device)


def _wait(setting: Setting) -> None:
    if setting.model.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
