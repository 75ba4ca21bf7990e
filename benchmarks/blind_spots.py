"""Faults of known size in the embedded model, and what each gate says of them.

    python benchmarks/blind_spots.py --weights 200 --json blind.json

The golden is the committed one, declared to be of another environment, so that tier 2 cannot decide. For each fault:
which tier found it, the float32 reference over its tolerance, the first module that moved, and what a gate of 1 % or
5 % on the loss would have said. Then as many ordinary weights as asked, one at a time, drawn evenly over all of the
decoder layers, each set to zero.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esa_pytest.baselines.catalog import baseline_of, load_catalog
from esa_pytest.drift.judge import judge
from esa_pytest.drift.reference import reference_drift
from esa_pytest.drift.rules import DEFAULT_RULES
from esa_pytest.drift.seen import tiers_beyond
from esa_pytest.drift.sight import detectable_reference
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.reference import probe
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.perturbation import Perturbed
from esa_pytest.records import Record
from esa_pytest.report.columns import aligned
from esa_pytest.sensitivity import SingleWeights
from esa_pytest.sensitivity.stream import ResidualStream, first_layer_reached

ROOT = Path(__file__).resolve().parents[1]
MODEL, TYPE = "smollm2-135m", "smoke"
LAYER = 7
HEADING = ("fault", "outcome", "reference / allowed", "first moved", "seen by", "loss shift", "1 % gate", "5 % gate")
Fault = Callable[[Any], AbstractContextManager[None]]


def main() -> None:
    """Inject every fault and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=int, default=200, help="single weights to zero (default %(default)s)")
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    arguments = parser.parse_args()
    baseline = baseline_of(MODEL, TYPE, load_catalog({}, folder=ROOT))
    shelved = ModelShelf(device="cpu").get(baseline)
    location = GoldenLocation(root=ROOT / "baselines_golden", folder=baseline.folder, device="cpu", dtype="bfloat16")
    golden = read_golden(location)
    assert golden is not None, f"record {location.json} first"
    golden = replace(golden, environment={**golden.environment, "declared": "another environment"})
    model = shelved.model
    prepared = prepare_for(model, baseline, hub=shelved.hub)
    faults = [_judged(name, fault, golden, shelved, prepared) for name, fault in FAULTS.items()]
    print("\n".join(aligned([HEADING, *(_row(found) for found in faults)])))
    weights = _single_weights(arguments.weights, golden, shelved, prepared)
    found = [weight for weight in weights if weight["found"]]
    named = [weight for weight in found if weight["named"]]
    shifts = sorted(weight["reference_over_allowed"] for weight in weights)
    print(f"\nsingle weights zeroed: {len(found)} of {len(weights)} found, {len(named)} of these named by their block")
    if weights:
        print(f"reference / allowed: median {np.median(shifts):.2g}, from {shifts[0]:.2g} to {shifts[-1]:.2g}")
        assert golden.probe_noise is not None
        promised = detectable_reference(golden.probe_noise, DEFAULT_RULES)
        above = [weight for weight in weights if weight["reference_rms"] >= promised]
        missed = sum(not weight["found"] for weight in above)
        print(f"at or above the detectable size of {promised:.2g} nats: {len(above)}, missed {missed}")
    if arguments.json:
        text = json.dumps({"faults": faults, "weights": weights}, indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def _judged(name: str, fault: Fault, golden: Record, shelved: Shelved, prepared: Prepared) -> dict[str, Any]:
    model = shelved.model
    with fault(model.network):
        done = evaluate(model, prepared, seed=1337, description=name)
        found = probe(model, prepared)
    metrics = compute_metrics(done.scores)
    measured = replace(golden, scores=done.scores, metrics=metrics, environment={}, probe=found)
    verdict = judge(golden, measured)
    assert golden.metrics is not None
    shift = metrics.mean_nll / golden.metrics.mean_nll - 1
    reference = verdict.reference
    paired = verdict.paired
    return {
        "fault": name,
        "outcome": str(verdict.outcome),
        "tier": int(verdict.tier),
        "seen_by": [tier.name.lower() for tier in tiers_beyond(verdict)],
        "worst_of_tier_4": None
        if paired is None or not paired.statistics
        else {s.name: abs(s.value) / s.allowed for s in paired.statistics[:1]},
        "reference_over_allowed": math.nan if reference is None else reference.rms / reference.allowed_rms,
        "first_moved": None if reference is None else reference.first_moved,
        "relative_loss_shift": shift,
    }


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    shift = found["relative_loss_shift"]
    return (
        found["fault"],
        found["outcome"],
        f"{found['reference_over_allowed']:.3g}",
        str(found["first_moved"]),
        " ".join(found["seen_by"]),
        f"{shift:+.3%}",
        *("found" if abs(shift) > gate else "blind" for gate in (0.01, 0.05)),
    )


def _single_weights(count: int, golden: Record, shelved: Shelved, prepared: Prepared) -> list[dict[str, Any]]:
    """Single weights, drawn evenly over all of the decoder layers, each set to zero."""
    model = shelved.model
    stream = ResidualStream(model.network)
    with stream.recording():
        probe(model, prepared)
    found = []
    for trial in SingleWeights(count=count, seed=0).trials(model.network) if count else []:
        (perturbation,) = trial.perturbations
        first = first_layer_reached(model.network, [perturbation.parameter])
        with Perturbed(model.network, trial.perturbations) as perturbed, stream.from_layer(first):
            measured = replace(golden, probe=probe(model, prepared))
        reference = reference_drift(golden, measured)
        assert reference is not None
        found.append(
            {
                "weight": trial.label,
                "value": perturbed.applied[0].before,
                "found": not reference.within,
                "named": reference.first_moved == perturbation.parameter.rsplit(".", 2)[0],
                "first_moved": reference.first_moved,
                "reference_rms": reference.rms,
                "reference_over_allowed": reference.rms / reference.allowed_rms,
            }
        )
    return found


@contextmanager
def _replaced(tensors: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    for tensor in tensors.values():
        tensor.copy_(change(tensor))
    try:
        yield
    finally:
        for name, tensor in tensors.items():
            tensor.copy_(kept[name])


def _matrices(network: Any, part: str) -> dict[str, Tensor]:
    return {
        name: p.data for name, p in network.named_parameters() if p.dim() == 2 and "layers" in name and part in name
    }


def _int8(values: Tensor) -> Tensor:
    scale = values.float().abs().amax(dim=1, keepdim=True) / 127
    return (values.float() / scale).round().mul(scale).to(values.dtype)


def _fp8(values: Tensor) -> Tensor:
    return values.to(torch.float8_e4m3fn).to(values.dtype)


def _noisy(values: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(values.shape, generator=generator) * values.float().std() * 1e-3
    return (values.float() + noise).to(values.dtype)


def _without_head(values: Tensor) -> Tensor:
    changed = values.clone()
    changed[:, :64] = 0
    return changed


@contextmanager
def _attribute(network: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    owners = [module for module in network.modules() if hasattr(module, name)]
    kept = [getattr(owner, name) for owner in owners]
    for owner, value in zip(owners, kept, strict=True):
        setattr(owner, name, change(value))
    try:
        yield
    finally:
        for owner, value in zip(owners, kept, strict=True):
            setattr(owner, name, value)


def _frequencies(network: Any) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in network.named_buffers() if name.endswith("inv_freq")}


def _theta(network: Any) -> AbstractContextManager[None]:
    dimensions = network.config.head_dim
    exponents = torch.arange(0, dimensions, 2).float() / dimensions
    return _replaced(_frequencies(network), lambda _: 1.0 / (99_000.0**exponents))


FAULTS: dict[str, Fault] = {
    "one head zeroed": lambda n: _replaced(_matrices(n, f"layers.{LAYER}.self_attn.o_proj"), _without_head),
    "int8 on one matrix": lambda n: _replaced(_matrices(n, f"layers.{LAYER}.mlp.down_proj"), _int8),
    "int8 on all matrices": lambda n: _replaced(_matrices(n, "proj"), _int8),
    "fp8 on all matrices": lambda n: _replaced(_matrices(n, "proj"), _fp8),
    "rms_norm_eps 1e-5 -> 1e-6": lambda n: _attribute(n, "variance_epsilon", lambda value: value / 10),
    "inv_freq held in bf16": lambda n: _replaced(_frequencies(n), lambda values: values.bfloat16().float()),
    "RoPE theta 100000 -> 99000": _theta,
    "softmax scale +1 %": lambda n: _attribute(n, "scaling", lambda value: value * 1.01),
    "noise of 0.001 sigma on one matrix": lambda n: _replaced(_matrices(n, f"layers.{LAYER}.mlp.up_proj"), _noisy),
    "nothing": lambda _: nullcontext(),
}


if __name__ == "__main__":
    main()
