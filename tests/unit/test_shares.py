import random
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from esa_pytest.baselines.shares import Cell, share_windows, windows_a_seed

cells_of_any_size = st.lists(
    st.builds(Cell, window_tokens=st.integers(1, 5000), num_windows=st.integers(1, 400)), min_size=1, max_size=8
)
# Windows as baselines have them: powers of two times seeds, so that capacities are often equal.
usual_cells = st.lists(
    st.builds(Cell, window_tokens=st.sampled_from([32, 64, 96, 128]), num_windows=st.sampled_from([1, 2, 3, 4, 6, 12])),
    min_size=1,
    max_size=6,
)
cell_lists = cells_of_any_size | usual_cells


def tokens(cells: list[Cell], counts: list[int]) -> int:
    return sum(cell.window_tokens * count for cell, count in zip(cells, counts, strict=True))


def cells(*pairs: tuple[int, int]) -> list[Cell]:
    return [Cell(window_tokens=window_tokens, num_windows=num_windows) for window_tokens, num_windows in pairs]


@given(st.integers(0, 10**7), cell_lists)
def test_every_cell_gets_a_window_and_no_more_than_it_has(total: int, given_cells: list[Cell]) -> None:
    counts = share_windows(total, given_cells)
    assert len(counts) == len(given_cells)
    assert all(1 <= count <= cell.num_windows for count, cell in zip(counts, given_cells, strict=True))


@given(st.data(), cell_lists)
def test_total_is_met_within_half_a_window_where_no_cell_is_forced(
    data: st.DataObject, given_cells: list[Cell]
) -> None:
    # A share of the whole below half a window would be forced up to one; twice the longest window a cell is enough.
    least = len(given_cells) * max(cell.window_tokens for cell in given_cells)
    capacity = sum(cell.capacity for cell in given_cells)
    assume(least <= capacity)
    total = data.draw(st.integers(least, capacity))
    counts = share_windows(total, given_cells)
    forced = [count == 1 for count in counts]
    error = abs(tokens(given_cells, counts) - total)
    assume(not any(forced))
    assert Fraction(error) <= Fraction(max(cell.window_tokens for cell in given_cells), 2)


@given(st.integers(0, 10**6), cell_lists)
def test_error_beyond_half_a_window_is_that_of_the_capacity_or_of_forced_windows(
    total: int, given_cells: list[Cell]
) -> None:
    counts = share_windows(total, given_cells)
    longest = max(cell.window_tokens for cell in given_cells)
    scored = tokens(given_cells, counts)
    if scored < total - longest / 2:
        assert counts == [cell.num_windows for cell in given_cells]
    if scored > total + longest / 2:
        assert 1 in counts


@given(cell_lists, st.integers(0, 10**6))
def test_what_is_more_than_all_cells_hold_takes_all_of_them(given_cells: list[Cell], more: int) -> None:
    capacity = sum(cell.capacity for cell in given_cells)
    assert share_windows(capacity + more, given_cells) == [cell.num_windows for cell in given_cells]


@given(cell_lists, st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_order_of_the_cells_changes_nothing(given_cells: list[Cell], total: int, shuffler: random.Random) -> None:
    def shared(order: list[Cell]) -> list[tuple[int, int, int]]:
        counts = share_windows(total, order)
        return sorted((c.window_tokens, c.num_windows, count) for c, count in zip(order, counts, strict=True))

    shuffled = list(given_cells)
    shuffler.shuffle(shuffled)
    assert shared(shuffled) == shared(given_cells)


@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 100))
def test_equal_cells_share_alike(window_tokens: int, number: int, windows: int) -> None:
    counts = share_windows(window_tokens * number * windows, cells(*[(window_tokens, 2 * windows)] * number))
    assert counts == [windows] * number


@given(st.integers(0, 10**6), cell_lists)
def test_larger_cell_of_the_same_windows_gets_no_fewer_than_the_smaller_but_for_one(
    total: int, given_cells: list[Cell]
) -> None:
    counts = share_windows(total, given_cells)
    for small, fewer in zip(given_cells, counts, strict=True):
        for large, more in zip(given_cells, counts, strict=True):
            if large.window_tokens == small.window_tokens and large.num_windows >= small.num_windows:
                assert more >= fewer - 1


@pytest.mark.parametrize(
    ("total", "pairs", "counts"),
    [
        (2048, [(1024, 9)], [2]),
        (2048, [(1024, 1)], [1]),
        (1, [(1024, 9)], [1]),
        (0, [(10, 5), (20, 5)], [1, 1]),
        (100, [(10, 10), (10, 10)], [5, 5]),
        # The small cell gives all it has, the large one the rest.
        (100, [(10, 3), (10, 50)], [3, 7]),
        (100, [(10, 50), (10, 3)], [7, 3]),
        # Half a window is rounded up, and the short windows make up for it.
        (30, [(10, 2), (1, 20)], [2, 10]),
        (28, [(10, 2), (1, 20)], [1, 18]),
    ],
)
def test_shares_of_a_few_cells(total: int, pairs: list[tuple[int, int]], counts: list[int]) -> None:
    assert share_windows(total, cells(*pairs)) == counts


@given(st.integers(0, 1000), st.integers(1, 5))
def test_seeds_leave_windows_to_choose_from(num_windows: int, num_seeds: int) -> None:
    taken = windows_a_seed(num_windows, num_seeds=num_seeds)
    assert taken == (num_windows if num_seeds == 1 else (num_windows + 1) // 2)
