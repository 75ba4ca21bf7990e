"""The command that runs one test alone, as people are told it. Light."""

import shlex

import pytest

PACKAGED_SUITE = "esa_pytest.suite"


def command_of(item: pytest.Item) -> str:
    """The command that runs one test alone; one of the packaged suite is named by its module."""
    module = getattr(getattr(item, "module", None), "__name__", None)
    if module == PACKAGED_SUITE:
        return f"pytest --pyargs {shlex.quote(f'{PACKAGED_SUITE}::{item.name}')}"
    return f"pytest {shlex.quote(item.nodeid)}"
