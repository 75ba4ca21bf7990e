"""A model that is no longer what passed its check: nothing is measured on it, and whoever keeps it is told."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from esa_pytest.errors import GuardError
from esa_pytest.perturbation import Perturbation, Perturbed, PerturbedRun, Scale, Zero
from esa_pytest.perturbation.guard import Guarded
from esa_pytest.sensitivity import SingleWeights, sweep
from esa_pytest.sensitivity.bench import Bench
from tests.model.guards import guarded_of
from tests.model.tiny import build_network
from tests.model.twins import changed

MATRIX, NORM = "model.layers.1.mlp.down_proj.weight", "model.norm.weight"
ASKED = [Perturbation(parameter=MATRIX, kind=Scale(1.0))]


@pytest.fixture
def guarded() -> Guarded:
    return guarded_of("llama")


@pytest.fixture
def told() -> list[bool]:
    return []


@pytest.fixture(params=["perturbation", "sweep"])
def use(request: pytest.FixtureRequest, guarded: Guarded, told: list[bool], tmp_path: Path) -> Callable[[], object]:
    """What measures on a guarded model."""

    def note() -> None:
        told.append(True)

    if request.param == "perturbation":
        return lambda: PerturbedRun(guarded, ASKED, if_broken=note)
    return lambda: sweep(guarded, SingleWeights(count=1, seed=0), tmp_path / "rows.csv", if_broken=note)


def test_changed_weight_is_named(use: Callable[[], object], guarded: Guarded, told: list[bool], tmp_path: Path) -> None:
    with (
        changed(guarded.model.network.get_parameter(NORM), lambda norm: norm[3].mul_(2)),
        pytest.raises(GuardError, match=r"^model\.norm\.weight is not what it was when tiny-tiny passed its check"),
    ):
        use()
    assert told == [True]
    assert not list(tmp_path.iterdir())
    use()
    assert told == [True]


@pytest.fixture
def without_a_norm(guarded: Guarded) -> Iterator[None]:
    body = guarded.model.network.get_submodule("model")
    norm, body.norm = body.norm, torch.nn.Identity()
    yield
    body.norm = norm


@pytest.mark.usefixtures("without_a_norm")
def test_weight_that_is_gone_is_named(use: Callable[[], object], told: list[bool]) -> None:
    with pytest.raises(GuardError, match=r"^model\.norm\.weight is not what it was"):
        use()
    assert told == [True]


@pytest.fixture
def with_a_bias(guarded: Guarded) -> Iterator[None]:
    head = guarded.model.network.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(head.weight.shape[0], dtype=torch.bfloat16))
    yield
    head.bias = None


@pytest.mark.usefixtures("with_a_bias")
def test_weight_that_is_new_is_named(use: Callable[[], object], told: list[bool]) -> None:
    with pytest.raises(GuardError, match=r"^lm_head\.bias is not what it was"):
        use()
    assert told == [True]


def test_what_a_block_around_has_perturbed_is_no_damage_and_all_else_is(guarded: Guarded) -> None:
    network = guarded.model.network
    with Perturbed(network, [Perturbation(parameter=NORM, kind=Zero(), where=0)]):
        PerturbedRun(guarded, ASKED)
        with changed(network.get_parameter(MATRIX), lambda m: m.neg_()), pytest.raises(GuardError, match="down_proj"):
            PerturbedRun(guarded, ASKED)


def test_block_of_another_network_excuses_nothing(guarded: Guarded) -> None:
    other = build_network("llama")
    with (
        Perturbed(other, [Perturbation(parameter=NORM, kind=Zero(), where=0)]),
        changed(guarded.model.network.get_parameter(NORM), lambda norm: norm.mul_(2)),
        pytest.raises(GuardError, match="norm"),
    ):
        PerturbedRun(guarded, ASKED)


@pytest.fixture
def hooked(guarded: Guarded) -> Iterator[None]:
    network: PreTrainedModel = guarded.model.network
    handle = network.get_submodule("model.norm").register_forward_hook(lambda _module, _inputs, output: output * 2)
    yield
    handle.remove()


@pytest.mark.usefixtures("hooked")
@pytest.mark.parametrize("shared", [True, False])
def test_sweep_of_a_model_with_the_same_weights_that_computes_other_bits_is_refused(
    *, shared: bool, guarded: Guarded, told: list[bool]
) -> None:
    with pytest.raises(GuardError, match="tiny-tiny computes other bits than when it passed its check"):
        Bench(guarded, shared=shared, if_broken=lambda: told.append(True))
    assert told == [True]


def test_sweep_inside_a_block_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    with (
        Perturbed(guarded.model.network, [Perturbation(parameter=NORM, kind=Scale(2.0))]),
        pytest.raises(GuardError, match=r"begins within a block that perturbs model\.norm\.weight, and drift would"),
    ):
        sweep(guarded, SingleWeights(count=1, seed=0), tmp_path / "rows.csv")
    # Rows of what is chosen of perturbed weights would be in the way of the sweep that is meant.
    assert not list(tmp_path.iterdir())
