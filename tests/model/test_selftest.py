"""Faults of known size in a trained twin: an honest gate finds them, one with wide tolerances does not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedModel

from esa_pytest.baselines.catalog import baseline_of, load_catalog
from esa_pytest.drift.rules import Rules
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.perturbation import Guarded, Perturbed, guard
from esa_pytest.selftest.bench import Bench
from esa_pytest.selftest.faults import fault_of
from esa_pytest.selftest.ladder import ROUNDING, Instrument, Rung, promised_sizes, rungs_of
from esa_pytest.selftest.material import Material, material_of
from esa_pytest.settings import resolve, tool_table
from tests.model.tiny import FAMILIES, NUM_LAYERS, load_folder, prepare_tiny, save_tiny, tiny_baseline, write_corpus
from tests.model.twins import LLAMA, ROOT, hooks_of, state_of


@pytest.fixture(scope="module")
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    shelf = ModelShelf(device="cpu")
    settings = replace(resolve(request.config), rules=Rules(), golden_dir=ROOT / "baselines_golden", root=ROOT)
    yield guard(baseline_of(LLAMA, "smoke", load_catalog(tool_table(ROOT) or {}, folder=ROOT)), settings, shelf)
    shelf.close()


def rung_of(guarded: Guarded, instrument: Instrument, multiple: float = 1.0) -> Rung:
    size = promised_sizes(guarded.clean, guarded.rules)[instrument]
    (rung,) = rungs_of({instrument: size}, [multiple])
    return rung


@pytest.mark.parametrize("seed", [0, 1])
def test_the_reference_finds_what_it_promised_and_not_a_quarter_of_it(guarded: Guarded, seed: int) -> None:
    before, hooks = state_of(guarded.model.network), hooks_of(guarded.model.network)
    bench = Bench(guarded)
    for multiple, found in ((1.0, True), (0.25, False)):
        rung = rung_of(guarded, Instrument.REFERENCE, multiple)
        trial = bench.trial(rung, seed)
        assert trial.found == found
        assert rung.bounds[0] <= trial.size <= rung.bounds[1]
    assert state_of(guarded.model.network) == before
    assert hooks_of(guarded.model.network) == hooks


@pytest.mark.parametrize("instrument", ROUNDING)
def test_bf16_finds_what_it_promised(guarded: Guarded, instrument: Instrument) -> None:
    trial = Bench(guarded).trial(rung_of(guarded, instrument), 0)
    assert trial.found


def test_a_changed_bit_is_seen(guarded: Guarded) -> None:
    assert Bench(guarded).trial(rung_of(guarded, Instrument.BITS), 0).found


def test_a_gate_with_wide_tolerances_misses_what_its_golden_promised(guarded: Guarded) -> None:
    assert guarded.clean.probe_noise is not None
    noise = guarded.clean.probe_noise
    wide = Rules(tolerances={"reference_rms": 400 * noise.rms, "reference_maximum": 400 * noise.maximum})
    blind = replace(guarded, rules=wide)
    rung = rung_of(blind, Instrument.REFERENCE)
    assert rung == rung_of(guarded, Instrument.REFERENCE)
    assert not Bench(blind).trial(rung, 0).found


def test_harmless_changes_raise_no_alarm(guarded: Guarded) -> None:
    bench = Bench(guarded)
    probes, checks = bench.harmless_probes(3), bench.harmless_checks(3)
    assert [change.what for change in probes] == [
        "attention sdpa",
        "last bit of layer outputs, seed 2000",
        "last bit of inv_freq, seed 2001",
    ]
    # Two windows have one batch shape.
    assert [change.what for change in checks] == ["attention eager", "last bits, seed 2000", "last bits, seed 2001"]
    judged = [*map(bench.harmless_probe, probes), *map(bench.harmless_check, checks)]
    assert [change.outcome for change in judged if change.alarm] == []


def test_every_seed_is_another_fault_and_the_same_one_again(guarded: Guarded) -> None:
    material = material_of(guarded)
    for instrument in Instrument:
        faults = [fault_of(instrument, seed, 0, material).at(0.1) for seed in (0, 1, 2)]
        again = [fault_of(instrument, seed, 0, material).at(0.1) for seed in (0, 1, 2)]
        shown = [(fault.parameter, str(fault.kind), fault.where) for fault in faults]
        assert shown == [(fault.parameter, str(fault.kind), fault.where) for fault in again]
        assert len({str(each) for each in shown}) > 1


def material_in(folder: Path, family: str) -> tuple[Material, PreTrainedModel]:
    """What a tiny model of a family offers, and its network."""
    save_tiny(family, folder / "checkpoint")
    model = load_folder(folder / "checkpoint")
    prepared = prepare_tiny(model, tiny_baseline(folder / "checkpoint", write_corpus(folder)))
    guarded: Any = SimpleNamespace(model=model, prepared=prepared, clean=SimpleNamespace(top=None))
    return material_of(guarded), model.network


def test_the_experts_of_a_mixture_are_harmed_too(tmp_path: Path) -> None:
    """Since transformers 5 all of a layer are one parameter of three dimensions."""
    material, network = material_in(tmp_path, "mixtral")
    experts = [name for name in material.matrices if ".experts." in name]
    assert len({name.partition(".experts.")[0] for name in experts}) == NUM_LAYERS
    faults = [fault_of(Instrument.BITS, seed, 0, material).at(1.0) for seed in range(20)]
    fault = next(fault for fault in faults if fault.parameter in experts)
    before = network.get_parameter(fault.parameter).detach().clone()
    with Perturbed(network, [fault]):
        assert int((network.get_parameter(fault.parameter) != before).sum()) == 1
    assert network.get_parameter(fault.parameter).equal(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dense_model_is_harmed_in_its_matrices(tmp_path: Path, family: str) -> None:
    """In their order, by which a seed draws one of them: what was measured with a seed stays true."""
    material, network = material_in(tmp_path, family)
    layers = [(name, weight) for name, weight in network.named_parameters() if ".layers." in name]
    assert list(material.matrices) == [name for name, weight in layers if weight.dim() == 2]
