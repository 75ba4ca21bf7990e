"""One model in memory at a time: loaded once for all its baselines, and gone when a test that held it has failed."""

import gc
import weakref
from typing import Any

import pytest

from esa_pytest.evaluation.loading import load_model
from tests.plugin.conftest import Project

HOLDING = """
import pytest

def hold(model, error):
    held = model
    raise error

def fail(model):
    {body}

@pytest.fixture
def failing(request, esa_model):
    if request.node.name.startswith("test_in_a_fixture"):
        fail(esa_model)

{test}
"""
IN_A_TEST = """
def test_baseline(esa_baseline, esa_model, failing):
    held = esa_model
    fail(esa_model)
"""
IN_A_FIXTURE = """
def test_in_a_fixture(esa_baseline, failing):
    pass
"""
WATCHING = """
import gc
import weakref
from esa_pytest.measuring import shelf

networks, alive, load = [], [], shelf.load_model

def watch(*arguments, **options):
    count()
    loaded = load(*arguments, **options)
    networks.append(weakref.ref(loaded.network))
    return loaded

def count():
    gc.collect()
    alive.append(sum(network() is not None for network in networks))

def pytest_unconfigure():
    count()
    print("alive at each load, and at the end:", *alive)

shelf.load_model = watch
"""
PERTURBED_TWICE = """
def test_perturbed(esa_perturb):
    with esa_perturb("model.norm.weight", scale=2.0) as run:
        assert run.drift.rms > 0

def test_perturbed_again(esa_perturb):
    with esa_perturb("model.norm.weight", scale=3.0) as run:
        assert run.drift.rms > 0
"""
CARELESS = """
def test_careless(esa_perturb, esa_model):
    with esa_perturb("model.norm.weight", zero=0):
        esa_model.model.norm.weight.data[5] += 1.0

def test_next(esa_perturb):
    with esa_perturb("model.norm.weight", scale=2.0) as run:
        assert run.drift.rms > 0
"""
PLAIN = """hold(model, AssertionError())"""
CAUSED = """
    try:
        hold(model, ValueError())
    except ValueError as error:
        raise RuntimeError from error
"""
IN_A_HANDLER = """
    try:
        hold(model, ValueError())
    except ValueError:
        raise RuntimeError
"""
CAUSED_BY_ANOTHER = """
    try:
        hold(model, ValueError())
    except ValueError:
        raise RuntimeError from KeyError()
"""
GROUPED = """
    try:
        hold(model, ValueError())
    except ValueError as error:
        raise ExceptionGroup("several", [error])
"""
BODIES = {
    "plain": PLAIN,
    "caused": CAUSED,
    "in-a-handler": IN_A_HANDLER,
    "caused-by-another": CAUSED_BY_ANOTHER,
    "grouped": GROUPED,
}


class Watch:
    """Which networks were loaded, without keeping them, and which of the former ones lived at each load."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.alive_at_load: list[int] = []
        self._networks: list[weakref.ref[Any]] = []
        monkeypatch.setattr("esa_pytest.measuring.shelf.load_model", self)

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.names.append(name)
        self.alive_at_load.append(self.alive())
        loaded = load_model(name, *arguments, **options)
        self._networks.append(weakref.ref(loaded.network))
        return loaded

    def alive(self) -> int:
        gc.collect()
        return sum(network() is not None for network in self._networks)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_failed_test_keeps_no_model(two_models: Project, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    watch = Watch(monkeypatch)
    two_models.write_test(HOLDING.format(body=body, test=IN_A_TEST))
    two_models.run().assert_outcomes(failed=2)
    assert (watch.names, watch.alive_at_load, watch.alive()) == (["tiny", "other"], [0, 0], 0)


# pytester's record of every hook keeps the exceptions of fixtures, so that this run has a process of its own.
def test_a_failed_fixture_keeps_no_model(two_models: Project) -> None:
    two_models.pytester.makeconftest(WATCHING)
    two_models.write_test(HOLDING.format(body=PLAIN, test=IN_A_FIXTURE))
    result = two_models.run_apart("-s")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["alive at each load, and at the end: 0 0 0"])


def test_but_for_that_care_it_would(two_models: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    monkeypatch.setattr("esa_pytest.session.BaselineSession.forget_frames", lambda *_: None)
    two_models.write_test(HOLDING.format(body=PLAIN, test=IN_A_TEST))
    two_models.run().assert_outcomes(failed=2)
    assert watch.alive_at_load == [0, 1]


def test_the_failure_is_shown_with_its_values_all_the_same(two_models: Project) -> None:
    two_models.write_test(
        "def test_baseline(esa_baseline, esa_model):\n    held = esa_model\n    assert held is None\n"
    )
    result = two_models.run("--showlocals")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E * assert LlamaForCausalLM(*", "held * LlamaForCausalLM(*"])


def test_a_model_is_loaded_once_for_all_its_baselines(
    two_models: Project, bits_taken_for_stable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    two_models.add(
        "[tool.esa.matrix]\n",
        "[tool.esa.types.standard]\n"
        'corpora = ["mine"]\n'
        "context_lengths = [32]\n"
        "scored_tokens = { cpu = 192, cuda = 192 }\n"
        "fresh_process = false\n\n"
        '[tool.esa.matrix]\nstandard = ["other", "tiny"]\n',
    )
    result = two_models.run("--snapshot-update")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["esa: judged 0 of 4, recorded 4"])
    assert (watch.names, watch.alive_at_load, watch.alive()) == (["other", "tiny"], [0, 0], 0)


def test_a_guarded_model_is_gone_before_another_is_loaded(
    two_models: Project, bits_taken_for_stable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    two_models.write_test(PERTURBED_TWICE)
    two_models.run("--snapshot-update").assert_outcomes(passed=4)
    assert watch.names == ["tiny", "other", "tiny", "other"]
    assert (watch.alive_at_load, watch.alive()) == ([0, 0, 0, 0], 0)


def test_a_guarded_model_that_was_not_restored_is_gone_before_it_is_loaded_anew(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    recorded.write_test(CARELESS)
    recorded.run().assert_outcomes(failed=1, passed=1)
    assert (watch.names, watch.alive_at_load, watch.alive()) == (["tiny", "tiny"], [0, 0], 0)
