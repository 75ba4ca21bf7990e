"""The fingerprint of a module's output: what it sees, and what it leaves out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from esa_pytest.evaluation.fingerprints import fingerprint


def states(tokens: int = 20, hidden: int = 32) -> Tensor:
    return torch.randn(1, tokens, hidden, generator=torch.Generator().manual_seed(5))


def test_fingerprint_ignores_the_first_position() -> None:
    other = states()
    other[0, 0] = 1e6
    assert torch.equal(fingerprint(other), fingerprint(states()))


@pytest.mark.parametrize("position", [1, 10, 19])
def test_fingerprint_sees_any_other_number(position: int) -> None:
    other = states()
    other[0, position, 7] += 0.1
    assert bool((fingerprint(other) != fingerprint(states())).all())


def test_fingerprint_tells_the_size_apart_from_the_direction() -> None:
    once, twice = fingerprint(states()), fingerprint(2 * states())
    torch.testing.assert_close(twice[:-1], once[:-1])
    assert float(twice[-1] - once[-1]) == pytest.approx(np.log(2.0), rel=1e-5)


def test_fingerprint_of_a_swap_of_two_tokens_moves() -> None:
    swapped = states()[:, [*range(5), 6, 5, *range(7, 20)]]
    assert not torch.allclose(fingerprint(swapped)[:-1], fingerprint(states())[:-1], atol=1e-3)


def test_fingerprint_of_zeros_is_finite_and_of_a_nan_is_not() -> None:
    assert bool(fingerprint(torch.zeros(1, 4, 8)).isfinite().all())
    broken = states()
    broken[0, 3, 3] = torch.nan
    assert bool(fingerprint(broken).isnan().all())
