"""pytester for the tests of the plugin itself, and all baselines in one worker."""

import gc

import pytest

pytest_plugins = ["pytester"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under xdist let one worker compute all baselines, and begin with them, since they take longest.

    They compute with the threads that their goldens were recorded with, all cores', and two such pools that spin on the
    same cores are ten times slower.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    guarded = [item for item in items if "esa_baseline" in getattr(item, "fixturenames", ())]
    for item in guarded:
        item.own_markers = [mark for mark in item.own_markers if mark.name != "xdist_group"]
        item.add_marker(pytest.mark.xdist_group("baselines"))
    items.sort(key=lambda item: "esa_baseline" not in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """Let every later collection of garbage leave alone what collecting the tests has imported, torch among it.

    A check asks for one with every evaluation, which costs half a second among a million objects; a user's own run has
    them frozen from the start.
    """
    gc.collect()
    gc.freeze()
