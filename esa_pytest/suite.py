"""The packaged test: `pytest --pyargs esa_pytest.suite -m smoke` guards every baseline of the matrix."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # collecting loads no torch
    from esa_pytest.check.guarded import GuardedBaseline


def test_baseline(esa_baseline: "GuardedBaseline") -> None:
    """The model still computes what it computed when its golden was recorded."""
    esa_baseline.check()
