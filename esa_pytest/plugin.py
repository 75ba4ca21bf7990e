"""pytest hooks and fixtures, each a few lines that delegate. Loads neither torch nor transformers.

Everything heavy is imported inside the first fixture or hook that needs it: an installed plugin is loaded by every
pytest run of its environment.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from esa_pytest.binding import bind, is_bound
from esa_pytest.cluster.hooks import ADDRESS, LongestFirst, OnRay, refuse_under_torchrun, silence
from esa_pytest.evaluation.ranks import is_follower
from esa_pytest.invocation import run_once
from esa_pytest.options import add_options, is_configured
from esa_pytest.resume.hooks import FIXTURE, Resuming
from esa_pytest.session import SESSION, BaselineSession, settings_or_usage_error
from esa_pytest.standing import JUDGED, STANDING, Standing, is_guarded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from esa_pytest.check.guarded import GuardedBaseline
    from esa_pytest.perturbing import Perturb, Sensitivity

MARKERS = (
    "smoke: baselines that give a verdict in seconds (esa-pytest)",
    "standard: baselines over many windows, seeds and context lengths (esa-pytest)",
    "extended: baselines over contexts as long as the model's positions (esa-pytest)",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the group `esa`."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and refuse settings that are not allowed before anything loads."""
    refuse_under_torchrun(config)
    if is_follower():
        silence(config)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    session = config.stash[SESSION] = BaselineSession(config)
    standing = config.stash[STANDING] = Standing(config, settings=session.settings)
    config.pluginmanager.register(standing, "esa-standing")
    resuming = Resuming(config, settings=session.settings, loaded=session.loaded, judged=JUDGED)
    config.pluginmanager.register(resuming, "esa-resuming")
    config.pluginmanager.register(LongestFirst(config, settings=session.settings), "esa-longest-first")
    if is_configured(config):
        settings_or_usage_error(session)
    if (address := config.getoption(ADDRESS)) is not None:
        config.pluginmanager.register(OnRay(config, address, settings=session.settings), "esa-on-ray")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise whatever uses `esa_baseline` by the matrix, where it does not name baselines itself."""
    if FIXTURE in metafunc.fixturenames:
        session = metafunc.config.stash[SESSION]
        if not is_bound(metafunc, session.baselines()):
            metafunc.parametrize(FIXTURE, session.parameters(), indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Bind a test that names its baseline itself."""
    if FIXTURE in getattr(item, "fixturenames", ()):
        bind(item, item.config.stash[SESSION].baselines())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make sure that no other plugin's option takes a verdict away."""
    config.stash[SESSION].protect(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which baselines were selected, each to be judged once."""
    for item in session.items:
        if is_guarded(item):
            run_once(item)
    session.config.stash[STANDING].select(session.items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """A failed test must not keep its model in memory; by now a debugger has had its look."""
    try:
        return (yield)
    finally:
        item.config.stash[SESSION].forget_frames(item)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing judged is never green; and the model is freed."""
    session.config.stash[SESSION].drop_models()
    session.exitstatus = session.config.stash[STANDING].finish(int(session.exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
    """Show the verdicts, and how many of the selected baselines were judged."""
    for line in config.stash[STANDING].summary():
        terminalreporter.write_line(line)


@pytest.fixture
def esa_baseline(request: pytest.FixtureRequest) -> "GuardedBaseline":
    """One baseline of `[tool.esa.matrix]`: `.check()` judges it against its golden, `.model` is its model."""
    return request.config.stash[SESSION].guard(request)


@pytest.fixture
def esa_perturb(esa_baseline: "GuardedBaseline") -> "Perturb":
    """Perturb weights of the baseline's model for the length of a block, once its own check has passed."""
    from esa_pytest.perturbing import Perturb

    return Perturb(esa_baseline)


@pytest.fixture
def esa_sensitivity(esa_baseline: "GuardedBaseline") -> "Sensitivity":
    """Sweep over perturbations of the baseline's model, a row in a file for each, once its own check has passed."""
    from esa_pytest.perturbing import Sensitivity

    return Sensitivity(esa_baseline)


@pytest.fixture
def esa_model(esa_baseline: "GuardedBaseline") -> "PreTrainedModel":
    """The baseline's model in bf16 on the session's device, in evaluation mode; shared by its tests."""
    return esa_baseline.model


@pytest.fixture
def esa_tokenizer(esa_baseline: "GuardedBaseline") -> "PreTrainedTokenizerBase":
    """The tokenizer of the baseline's model."""
    return esa_baseline.tokenizer


@pytest.fixture
def esa_device(esa_baseline: "GuardedBaseline") -> "torch.device":
    """The device that `--esa-device` chose, where the baseline's model lies."""
    return esa_baseline.device
