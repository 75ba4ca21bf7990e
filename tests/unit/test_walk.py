import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.walk import DECISION, MOST_STEP, SLACK, Walk, run_length, walks

steps = st.floats(min_value=-5, max_value=5)
sequences = st.lists(steps | st.none(), max_size=40)
small = st.floats(min_value=-SLACK, max_value=SLACK)


@given(st.lists(small | st.none(), max_size=60))
def test_steps_within_the_slack_are_never_a_walk(taken: list[float | None]) -> None:
    assert walks(taken) == ()


@given(st.floats(min_value=0.75, max_value=1.0), st.sampled_from([1, -1]), st.lists(small, max_size=20))
def test_small_steps_of_one_direction_are_found_in_time(size: float, direction: int, before: list[float]) -> None:
    needed = int(DECISION / (size - SLACK)) + 2
    (walk, *_) = walks([*before, *[direction * size] * needed])
    assert walk.direction == direction
    assert walk.last < len(before) + needed


def test_walk_is_seen_at_the_step_that_reaches_the_decision() -> None:
    assert walks([1.0] * 9) == ()
    assert walks([1.0] * 10) == (Walk(first=0, last=9, direction=1),)


def test_walk_begins_behind_the_last_step_that_led_back_to_zero() -> None:
    assert walks([0.0, 1.0, -1.0, *[1.0] * 10]) == (Walk(first=3, last=12, direction=1),)


def test_walk_that_goes_on_is_seen_again() -> None:
    assert walks([1.0] * 20) == (Walk(first=0, last=9, direction=1), Walk(first=10, last=19, direction=1))


@given(sequences)
def test_either_direction_is_judged_alike(taken: list[float | None]) -> None:
    mirrored = walks([None if step is None else -step for step in taken])
    assert mirrored == tuple(Walk(first=w.first, last=w.last, direction=-w.direction) for w in walks(taken))


@given(sequences, sequences)
def test_what_cannot_be_compared_begins_anew(before: list[float | None], behind: list[float | None]) -> None:
    offset = len(before) + 1
    moved = tuple(Walk(first=w.first + offset, last=w.last + offset, direction=w.direction) for w in walks(behind))
    assert walks([*before, None, *behind]) == walks(before) + moved


@given(st.floats(min_value=MOST_STEP, max_value=1e300), st.integers(1, 3))
def test_one_large_step_is_no_walk_nor_are_three(size: float, number: int) -> None:
    assert walks([size] * number) == ()


@given(sequences)
def test_walks_do_not_overlap_and_every_step_of_them_was_compared(taken: list[float | None]) -> None:
    behind = 0
    for walk in walks(taken):
        assert behind <= walk.first <= walk.last < len(taken)
        assert None not in taken[walk.first : walk.last + 1]
        behind = walk.last + 1


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 469.1), (0.5, 38.0), (1.0, 10.34), (2.0, 3.89)])
def test_run_length_is_that_of_the_tables(shift: float, expected: float) -> None:
    # Montgomery, Introduction to Statistical Quality Control: 465, 38.0, 10.4 and 4.01 for k = 1/2, h = 5.
    assert run_length(shift) == pytest.approx(expected, rel=1e-3)
    assert run_length(-shift) == pytest.approx(run_length(shift))
