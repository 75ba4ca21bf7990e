"""Weights are put back whatever comes in between, and where they cannot be, it is told."""

import signal
import threading
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from esa_pytest.errors import RestorationError
from esa_pytest.perturbation import Perturbation, Perturbed, Zero
from esa_pytest.perturbation.places import write
from tests.model.tiny import build_network
from tests.model.twins import state_of

pytestmark = pytest.mark.usefixtures("interruptible")
WRITE = "esa_pytest.perturbation.reversible.write"
MATRIX = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def network() -> PreTrainedModel:
    return build_network("llama")


def values_of(network: PreTrainedModel) -> torch.Tensor:
    values: torch.Tensor = network.get_parameter(MATRIX).detach().clone()
    return values


def test_interrupt_while_weights_are_put_back_waits_until_they_are(
    network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes in the middle of restoring: nothing is left half done, and it is not lost."""
    before = state_of(network)
    pressed: list[bool] = []

    def interrupted(*arguments: Any) -> None:
        if leaving:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(WRITE, interrupted)
    asked = [Perturbation(parameter=MATRIX, kind=Zero(), where=(row, slice(None))) for row in range(3)]
    leaving = False
    with pytest.raises(KeyboardInterrupt), Perturbed(network, asked):
        leaving = True
    assert len(pressed) == 3
    assert state_of(network) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TimeIsUpError(Exception):
    """As the handler of pytest-timeout's alarm raises one."""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there is no alarm")
@pytest.mark.parametrize("while_entering", [True, False])
def test_alarm_while_weights_are_changed_waits_too(
    *, while_entering: bool, network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(network)
    rung: list[bool] = []
    told: list[bool] = []

    def time_is_up(*_: object) -> None:
        raise TimeIsUpError

    def ringing(*arguments: Any) -> None:
        if while_entering or leaving:
            rung.append(True)
            signal.raise_signal(signal.SIGALRM)
        write(*arguments)

    monkeypatch.setattr(WRITE, ringing)
    asked = [Perturbation(parameter=MATRIX, kind=Zero(), where=(row, slice(None))) for row in range(3)]
    perturbed = Perturbed(network, asked, if_broken=lambda: told.append(True))
    leaving, earlier = False, signal.signal(signal.SIGALRM, time_is_up)
    try:
        with pytest.raises(TimeIsUpError), perturbed:  # noqa: PT012  (from here on the block is being left)
            assert not while_entering
            leaving = True
        assert signal.getsignal(signal.SIGALRM) is time_is_up
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert len(rung) == (6 if while_entering else 3)
    assert state_of(network) == before
    assert not told


def test_handler_that_was_set_within_the_block_stays(network: PreTrainedModel) -> None:
    with Perturbed(network, [Perturbation(parameter=MATRIX, kind=Zero())]):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is signal.SIG_IGN


@pytest.mark.parametrize("while_entering", [True, False])
def test_failure_while_weights_are_put_back_is_told(
    *, while_entering: bool, network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory, say: nobody knows then what the weights are."""
    old, told, calls = values_of(network), [], []

    def failing(*arguments: Any) -> None:
        calls.append(True)
        if len(calls) > 1:
            raise MemoryError
        write(*arguments)

    monkeypatch.setattr(WRITE, failing)
    asked = [Perturbation(parameter=MATRIX, kind=Zero(), where=(row, 0)) for row in range(2 if while_entering else 1)]
    try:
        with pytest.raises(MemoryError), Perturbed(network, asked, if_broken=lambda: told.append(True)):
            assert not while_entering
    finally:
        network.get_parameter(MATRIX).data.copy_(old)
    assert told == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_while_weights_are_perturbed_undoes_what_was_done(
    network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(network)
    entered: list[bool] = []

    def interrupted(*arguments: Any) -> None:
        write(*arguments)
        if not entered:
            entered.append(True)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(WRITE, interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        Perturbed(network, [Perturbation(parameter=MATRIX, kind=Zero())]),
    ):
        pytest.fail("the block is not entered")
    assert state_of(network) == before


def test_failure_half_way_undoes_what_was_done(network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state_of(network)
    calls: list[bool] = []

    def failing(*arguments: Any) -> None:
        calls.append(True)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        write(*arguments)

    monkeypatch.setattr(WRITE, failing)
    asked = [Perturbation(parameter=MATRIX, kind=Zero(), where=(row, 0)) for row in range(2)]
    with pytest.raises(RuntimeError, match="out of memory"), Perturbed(network, asked):
        pytest.fail("the block is not entered")
    assert state_of(network) == before


def test_another_thread_perturbs_too(network: PreTrainedModel) -> None:
    """Signals belong to the main thread; restoring does not."""
    before, seen = state_of(network), []

    def work() -> None:
        with Perturbed(network, [Perturbation(parameter=MATRIX, kind=Zero())]):
            seen.append(float(values_of(network).abs().max()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0.0]
    assert state_of(network) == before


def test_what_else_changed_within_the_block_is_told(network: PreTrainedModel) -> None:
    parameter, told = network.get_parameter(MATRIX), []
    old = parameter.data[5, 5].clone()
    asked = [Perturbation(parameter=MATRIX, kind=Zero(), where=(0, 0))]
    try:
        with (
            pytest.raises(RestorationError, match=r"down_proj.weight is not what it was .* load the model anew"),
            Perturbed(network, asked, if_broken=lambda: told.append(True)),
        ):
            parameter.data[5, 5] = 7.0
    finally:
        parameter.data[5, 5] = old
    assert told == [True]
