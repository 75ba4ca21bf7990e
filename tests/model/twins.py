"""The trained twins of this repository with their reference probes, and faults that undo themselves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from esa_pytest.baselines.catalog import baseline_of, load_catalog
from esa_pytest.drift.reference import reference_drift
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.preparation import prepare_for
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.probe_noise import measure_probe_noise
from esa_pytest.evaluation.reference import probe
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.records import Probe, ProbeNoise, ReferenceDrift
from esa_pytest.settings import tool_table
from tests.unit.builders import small_record
from tests.unit.probe_builders import probed

ROOT = Path(__file__).parents[2]
LLAMA, PYTHIA, PHI = "llama-3.1-8b@tiny", "pythia-1.4b@tiny", "phi-3-mini-4k-instruct@tiny"
MISTRAL, WINDOWED = "mistral-7b-v0.3@tiny", "mistral-7b-v0.3@tiny-window"
FAMILIES = (LLAMA, PYTHIA, PHI, WINDOWED)
TWINS = (*FAMILIES, MISTRAL)


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A trained twin; whoever changes its network puts it back."""

    name: str
    model: LoadedModel
    prepared: Prepared
    reference: Probe
    noise: ProbeNoise

    @property
    def network(self) -> PreTrainedModel:
        return self.model.network

    @property
    def folder(self) -> Path:
        return ROOT / "tests" / "twins" / self.name

    def module(self, name: str) -> Any:
        """The module of that name."""
        return dict(self.network.named_modules())[name]

    def probe(self, **options: Any) -> Probe:
        """The probe of the network as it is now."""
        return probe(self.model, self.prepared, **options)

    def drift(self, new: Probe | None = None) -> ReferenceDrift:
        """How far the network's probe, or another one, is from the reference."""
        record = small_record()
        found = reference_drift(
            probed(record, self.reference, self.noise), probed(record, self.probe() if new is None else new)
        )
        assert found is not None
        return found


@cache
def twin_of(name: str) -> Twin:
    """A twin with its smoke baseline on the CPU, loaded once."""
    catalog = load_catalog(tool_table(ROOT) or {}, folder=ROOT)
    baseline = baseline_of(name, "smoke", catalog)
    shelved = ModelShelf(device="cpu").get(baseline)
    prepared = prepare_for(shelved.model, baseline, hub=shelved.hub)
    reference = probe(shelved.model, prepared)
    # Here and not when it is asked for, which may be while something is wrong with the network.
    noise = measure_probe_noise(shelved.model, prepared, reference)
    return Twin(name=name, model=shelved.model, prepared=prepared, reference=reference, noise=noise)


@contextmanager
def changed(tensor: Tensor, change: Callable[[Tensor], object]) -> Iterator[None]:
    """A tensor changed in place while the block runs."""
    before = tensor.clone()
    try:
        with torch.no_grad():
            change(tensor)
        yield
    finally:
        with torch.no_grad():
            tensor.copy_(before)


@contextmanager
def with_attribute(modules: list[Any], name: str, value: object) -> Iterator[None]:
    """An attribute of modules, or of a config, set while the block runs."""
    before = [getattr(module, name) for module in modules]
    try:
        for module in modules:
            setattr(module, name, value)
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            setattr(module, name, old)


def hooks_of(network: PreTrainedModel) -> dict[str, int]:
    """How many hooks of every kind each module has."""
    return {
        f"{name}.{kind}": len(hooks)
        for name, module in network.named_modules()
        for kind, hooks in vars(module).items()
        if "hooks" in kind and isinstance(hooks, dict) and hooks
    }


def state_of(network: PreTrainedModel) -> dict[str, tuple[int, int, str, bytes]]:
    """Every parameter and buffer: which object, where its numbers lie, their kind, their bits."""
    named: list[tuple[str, Tensor]] = [*network.named_parameters(), *network.named_buffers()]
    return {
        name: (id(tensor), tensor.data_ptr(), str(tensor.dtype), tensor.detach().view(torch.uint8).numpy().tobytes())
        for name, tensor in named
    }


def norms_of(network: PreTrainedModel) -> list[nn.Module]:
    """The modules that normalise."""
    return [module for module in network.modules() if "Norm" in type(module).__name__]
