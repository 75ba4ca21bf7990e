"""A fault is given its size whatever the law by which it grows."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.selftest.tuning import tuned


@given(
    exponent=st.floats(0.5, 2.5),
    scale=st.floats(1e-4, 1e3),
    wanted=st.floats(1e-6, 1.0),
    away=st.floats(1 / 50, 50.0),
)
def test_a_power_law_is_met(exponent: float, scale: float, wanted: float, away: float) -> None:
    """However far the start is away."""
    start = away * (wanted / scale) ** (1 / exponent)
    found = tuned(lambda strength: scale * strength**exponent, (wanted, 1.15 * wanted), start=start)
    assert found is not None
    strength, size = found
    assert wanted <= size <= 1.15 * wanted
    assert size == scale * strength**exponent


def test_an_effect_that_grows_like_a_logit_is_met() -> None:
    found = tuned(lambda strength: math.log1p(1e-4 * math.expm1(strength)), (0.009, 0.01), start=2.0)
    assert found is not None
    assert 0.009 <= found[1] <= 0.01


def test_stairs_that_are_fine_enough_are_met() -> None:
    found = tuned(lambda strength: round(strength, 2), (0.8, 1.25), start=0.004)
    assert found is not None
    assert 0.8 <= found[1] <= 1.25


@pytest.mark.parametrize(
    "effect",
    [
        lambda _: 0.0,
        lambda _: math.nan,
        lambda _: math.inf,
        lambda strength: 0.1 if strength < 3 else 10.0,
    ],
    ids=["nothing", "nan", "infinite", "one step"],
)
def test_what_cannot_have_the_size_is_given_up(effect: Callable[[float], float]) -> None:
    assert tuned(effect, (1.0, 1.15), start=0.05) is None
