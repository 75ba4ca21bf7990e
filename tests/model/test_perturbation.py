"""Perturbed weights: what is asked for changes, nothing else does, and every bit comes back whatever happens."""

import signal
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from esa_pytest.errors import PerturbationError
from esa_pytest.perturbation import (
    Drawn,
    FlipBit,
    FlipSign,
    Largest,
    Noise,
    Perturbation,
    Perturbed,
    Quantise,
    Replace,
    Scale,
    Zero,
)
from esa_pytest.perturbation.kinds import Kind
from esa_pytest.perturbation.places import select
from tests.model.tiny import FAMILIES, build_network
from tests.model.twins import state_of

pytestmark = pytest.mark.usefixtures("interruptible")
MATRIX = "model.layers.1.mlp.down_proj.weight"


@cache
def network_of(family: str) -> PreTrainedModel:
    """One a family for all tests, which leave it as it was."""
    return build_network(family)


@pytest.fixture
def network() -> PreTrainedModel:
    return network_of("llama")


def values_of(network: PreTrainedModel, name: str = MATRIX) -> torch.Tensor:
    values: torch.Tensor = network.get_parameter(name).detach().clone()
    return values


kinds: st.SearchStrategy[Kind] = st.one_of(
    st.just(Zero()),
    st.just(FlipSign()),
    st.builds(Scale, st.floats(-1e3, 1e3)),
    st.builds(FlipBit, st.integers(0, 15)),
    st.builds(Noise, st.floats(0, 10), st.integers(0, 2**32 - 1)),
    st.builds(Replace, st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf")])),
    st.builds(Quantise, st.sampled_from(["int8", "fp8"])),
)


@st.composite
def places(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Any kind of place in a tensor of this shape."""
    size = int(np.prod(shape))
    index = st.tuples(*(st.integers(-n, n - 1) for n in shape))
    begin = draw(st.integers(0, shape[0] - 1))
    return draw(
        st.one_of(
            st.none(),
            index,
            st.lists(index, min_size=1, max_size=5, unique_by=lambda place: tuple(np.mod(place, shape))),
            st.just(slice(begin, draw(st.integers(begin + 1, shape[0])), draw(st.integers(1, 3)))),
            st.builds(Largest, count=st.integers(1, min(size, 40))),
            st.builds(Drawn, count=st.integers(1, min(size, 40)), seed=st.integers(0, 99)),
            st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random(shape) < 0.5).filter(np.any),
        )
    )


@st.composite
def perturbations(draw: st.DrawFn, network: PreTrainedModel) -> list[Perturbation]:
    """One to three perturbations, of the same parameter at times."""
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    chosen = draw(st.lists(st.sampled_from(sorted(named)), min_size=1, max_size=3))
    found = []
    for name in chosen:
        kind = draw(kinds)
        found.append(Perturbation(parameter=name, kind=kind, where=draw(places(tuple(named[name].shape)))))
    return found


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_bit_comes_back(family: str, data: st.DataObject) -> None:
    """All kinds, all places, four families; left by return, exception, KeyboardInterrupt or a real Ctrl-C."""
    network = network_of(family)
    asked = data.draw(perturbations(network))
    leaving = data.draw(st.sampled_from([None, ValueError, KeyboardInterrupt, "signal"]))
    before = state_of(network)
    perturbed = Perturbed(network, asked)
    assert state_of(network) == before
    try:
        with perturbed:
            during = state_of(network)
            changed = {name for name in before if before[name] != during[name]}
            assert changed <= {each.parameter for each in asked}
            assert (sum(each.num_changed for each in perturbed.applied) > 0) or not changed
            if leaving == "signal":
                signal.raise_signal(signal.SIGINT)
            elif isinstance(leaving, type):
                raise leaving
    except (ValueError, KeyboardInterrupt):
        assert leaving is not None
    else:
        assert leaving is None
    assert state_of(network) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        (Zero(), lambda old: torch.zeros_like(old)),
        (Scale(1.5), lambda old: (old.double() * 1.5).to(old.dtype)),
        (FlipSign(), lambda old: -old),
        (Replace(0.25), lambda old: torch.full_like(old, 0.25)),
        (FlipBit(15), lambda old: -old),
        (FlipBit(0), lambda old: (old.view(torch.int16) ^ 1).view(old.dtype)),
    ],
)
def test_kind_does_what_it_says_where_it_is_told(
    kind: Kind, becomes: Callable[[torch.Tensor], torch.Tensor], network: PreTrainedModel
) -> None:
    old = values_of(network)
    with Perturbed(network, [Perturbation(parameter=MATRIX, kind=kind, where=(slice(2, 4), 7))]) as perturbed:
        new = values_of(network)
    expected = old.clone()
    expected[2:4, 7] = becomes(old[2:4, 7])
    assert torch.equal(new, expected)
    assert perturbed.applied[0].num_numbers == 2


def test_values_go_to_the_places_in_the_order_in_which_they_are_listed(network: PreTrainedModel) -> None:
    places = [(9, 4), (0, 3), (-1, 0), (9, 2)]
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    with Perturbed(network, [Perturbation(parameter=MATRIX, kind=Replace(values), where=places)]):
        assert [float(values_of(network)[place]) for place in places] == values.tolist()


def test_noise_has_the_size_that_is_asked_for(network: PreTrainedModel) -> None:
    old = values_of(network)
    with Perturbed(network, [Perturbation(parameter=MATRIX, kind=Noise(0.5, seed=3))]):
        added = values_of(network).float() - old.float()
    assert float(added.std() / old.float().std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(("kind", "most"), [("int8", 1 / 127), ("fp8", 2**-4)])
def test_quantising_rounds_by_no_more_than_a_step(kind: Any, most: float, network: PreTrainedModel) -> None:
    old = values_of(network)
    with Perturbed(network, [Perturbation(parameter=MATRIX, kind=Quantise(kind))]):
        new = values_of(network)
    off = (new.float() - old.float()).abs()
    assert 0 < float(off.max()) <= most * float(old.float().abs().max())
    assert len(new.unique()) < len(old.unique())


def test_largest_are_those_of_largest_magnitude(network: PreTrainedModel) -> None:
    old = values_of(network)
    with Perturbed(network, [Perturbation(parameter=MATRIX, kind=Zero(), where=Largest(count=5))]):
        changed = values_of(network) != old
    assert int(changed.sum()) == 5
    assert float(old.abs()[changed].min()) >= float(old.abs()[~changed].max())


def test_several_at_once_are_applied_in_order(network: PreTrainedModel) -> None:
    place = (0, 0)
    asked = [
        Perturbation(parameter=MATRIX, kind=Replace(0.5), where=place),
        Perturbation(parameter=MATRIX, kind=Scale(4.0), where=place),
    ]
    old = values_of(network)
    with Perturbed(network, asked) as perturbed:
        assert float(values_of(network)[place]) == 2.0
    assert torch.equal(values_of(network), old)
    assert [each.after for each in perturbed.applied] == [0.5, 2.0]


def test_tied_weights_are_perturbed_as_one_and_named() -> None:
    network = build_network("llama", tie_word_embeddings=True)
    network.tie_weights()
    with Perturbed(network, [Perturbation(parameter="lm_head.weight", kind=Zero(), where=(3, 4))]) as perturbed:
        assert float(network.get_input_embeddings().weight[3, 4].detach()) == 0.0
        assert perturbed.applied[0].also_known_as == ("model.embed_tokens.weight",)
        assert "tied to model.embed_tokens.weight" in str(perturbed.applied[0])


@pytest.mark.parametrize("names", [("lm_head.weight", "model.embed_tokens.weight"), ("lm_head.weight",) * 2])
def test_tied_weights_perturbed_under_two_names_come_back(names: tuple[str, ...]) -> None:
    network = build_network("llama", tie_word_embeddings=True)
    network.tie_weights()
    before, told = state_of(network), []
    one, other = names
    asked = [
        Perturbation(parameter=one, kind=Scale(1.5), where=(3, 4)),
        Perturbation(parameter=other, kind=Zero(), where=(3, slice(None))),
    ]
    with Perturbed(network, asked, if_broken=lambda: told.append(True)):
        assert state_of(network) != before
    assert state_of(network) == before
    assert not told


def test_blocks_inside_each_other(network: PreTrainedModel) -> None:
    before = state_of(network)
    one = [Perturbation(parameter=MATRIX, kind=Replace(1.0), where=(0, 0))]
    with Perturbed(network, one):
        between = state_of(network)
        with Perturbed(network, [Perturbation(parameter=MATRIX, kind=Zero(), where=(0, slice(None)))]):
            assert state_of(network) != between
        assert state_of(network) == between
    assert state_of(network) == before


def test_block_is_not_entered_twice_at_once(network: PreTrainedModel) -> None:
    before = state_of(network)
    perturbed = Perturbed(network, [Perturbation(parameter=MATRIX, kind=Zero())])
    with perturbed, pytest.raises(PerturbationError, match="entered a second time"), perturbed:
        pytest.fail("the block is not entered")
    assert state_of(network) == before


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "No perturbation is given"),
        ([Perturbation(parameter="model.layers.1.mlp.down_proj.wait", kind=Zero())], "near it are .*down_proj.weight"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=(64, 0))], "The index 64 is outside a dimension of 64"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=(0, 0, 0))], "3 dimensions, and the tensor 2"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=[])], "list of places is empty"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=[(0, 1), (2, 3), (0, -95)])], r"\(0, 1\) stands twice"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=True)], r"\(True,\) holds True, which is no index"),
        ([Perturbation(parameter="model.norm.weight", kind=Zero(), where=[False, True])], "or a boolean mask"),
        ([Perturbation(parameter="model.norm.weight", kind=Zero(), where=[1.5])], "1 whole numbers"),  # type: ignore[list-item]
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=[(1,)])], "does not name one number"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=slice(5, 5))], "5:5 of a dimension of 64 selects nothing"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=slice(None, None, -1))], "goes backwards"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=np.zeros((64, 96), dtype=bool))], "selects nothing"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=np.ones((2, 2), dtype=bool))], "of that shape"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=np.ones((64, 96)))], "it has to be bool"),
        ([Perturbation(parameter=MATRIX, kind=Zero(), where="all")], "A place is given as 'all'"),  # type: ignore[arg-type]
        ([Perturbation(parameter=MATRIX, kind=Zero(), where=Largest(count=0))], "0 numbers are asked for"),
        ([Perturbation(parameter=MATRIX, kind=FlipBit(16))], "Bit 16 of a bfloat16 .* 0 to 15"),
        ([Perturbation(parameter=MATRIX, kind=Scale(float("nan")))], "a factor has to be finite"),
        ([Perturbation(parameter=MATRIX, kind=Noise(-1.0))], "noise 0 or more"),
        ([Perturbation(parameter=MATRIX, kind=Quantise("int4"))], "none of int8 and fp8"),  # type: ignore[arg-type]
        ([Perturbation(parameter=MATRIX, kind=Replace(torch.zeros(3)))], "in the same shape"),
    ],
)
def test_what_is_impossible_is_refused_before_anything_changes(
    asked: list[Perturbation], message: str, network: PreTrainedModel
) -> None:
    before = state_of(network)
    possible = [Perturbation(parameter=MATRIX, kind=Zero(), where=(0, 0))] if asked else []
    with pytest.raises(PerturbationError, match=message):
        Perturbed(network, [*possible, *asked])
    assert state_of(network) == before


def test_offloaded_and_packed_parameters_are_refused() -> None:
    network = build_network("llama")
    layer = network.get_submodule("model.layers.0.mlp.up_proj")
    layer.weight = torch.nn.Parameter(layer.weight.to("meta"), requires_grad=False)
    with pytest.raises(PerturbationError, match=r"up_proj\.weight is offloaded"):
        Perturbed(network, [Perturbation(parameter="model.layers.0.mlp.up_proj.weight", kind=Zero())])
    layer.weight = torch.nn.Parameter(torch.zeros(96, 64, dtype=torch.int8), requires_grad=False)
    with pytest.raises(PerturbationError, match="holds int8, and only floating-point"):
        Perturbed(network, [Perturbation(parameter="model.layers.0.mlp.up_proj.weight", kind=Zero())])


def test_drawn_places_are_the_same_everywhere(network: PreTrainedModel) -> None:
    """By numpy's generator, whose stream its makers keep; torch's own may differ between releases."""
    chosen = select(Drawn(count=4, seed=1), network.get_parameter(MATRIX))
    assert isinstance(chosen, torch.Tensor)
    assert chosen.tolist() == [102, 205, 1279, 2002]
