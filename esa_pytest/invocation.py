"""What pytest was asked for: whether it runs tests at all, how often, and the command that runs one alone. Light."""

import shlex

import pytest

PACKAGED_SUITE = "esa_pytest.suite"


def command_of(item: pytest.Item) -> str:
    """The command that runs one test alone; one of the packaged suite is named by its module."""
    module = getattr(getattr(item, "module", None), "__name__", None)
    if module == PACKAGED_SUITE:
        return f"pytest --pyargs {shlex.quote(f'{PACKAGED_SUITE}::{item.name}')}"
    return f"pytest {shlex.quote(item.nodeid)}"


def runs_no_test(config: pytest.Config) -> bool:
    """Whether tests are only collected or shown with their fixtures, so that nothing becomes of them."""
    # `--setup-plan` sets the option of `--setup-only` too, later than a plugin may ask.
    return any(config.getoption(name, default=False) for name in ("collectonly", "setuponly", "setupplan"))


def run_once(item: pytest.Item) -> None:
    """Keep pytest-rerunfailures from running a test again: a later verdict would take the place of the first one.

    To be called once tests are selected, since the mark would have `-m "not flaky"` leave the test out. Only where
    reruns are asked for: with the mark that plugin runs the test in its own way, which refuses `--pdb`.
    """
    if item.config.pluginmanager.hasplugin("rerunfailures") and _asks_for_reruns(item):
        item.add_marker(pytest.mark.flaky(reruns=0), append=False)


def _asks_for_reruns(item: pytest.Item) -> bool:
    """By a mark, on the command line, or in the ini file."""
    if item.get_closest_marker("flaky") is not None or item.config.getoption("reruns", default=None):
        return True
    try:
        return bool(item.config.getini("reruns"))
    except (KeyError, ValueError):
        return False
