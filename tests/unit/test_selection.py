from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.baselines.windows import select_windows
from esa_pytest.records import Window


def windows(count: int) -> list[Window]:
    return [Window(context_begin=4 * i, score_begin=4 * i + 1, score_end=4 * i + 5) for i in range(count)]


seeds = st.integers(-(2**40), 2**40)


@given(total=st.integers(0, 60), count=st.integers(0, 70), seed=seeds)
def test_selection_is_repeatable_and_as_long_as_asked(total: int, count: int, seed: int) -> None:
    chosen = select_windows(windows(total), count=count, seed=seed)
    assert chosen == select_windows(windows(total), count=count, seed=seed)
    assert len(chosen) == len(set(chosen)) == min(count, total)


@given(total=st.integers(0, 60), count=st.integers(0, 60), seed=seeds)
def test_selection_keeps_the_order_of_the_text(total: int, count: int, seed: int) -> None:
    begins = [window.score_begin for window in select_windows(windows(total), count=count, seed=seed)]
    assert begins == sorted(begins)


@given(count=st.integers(0, 59), more=st.integers(0, 20), seed=seeds)
def test_longer_selection_contains_the_shorter(count: int, more: int, seed: int) -> None:
    shorter = select_windows(windows(60), count=count, seed=seed)
    longer = select_windows(windows(60), count=count + more, seed=seed)
    assert set(shorter) <= set(longer)


@given(st.lists(seeds, min_size=2, max_size=2, unique=True))
def test_different_seeds_choose_different_windows(pair: list[int]) -> None:
    first, second = (select_windows(windows(200), count=40, seed=seed) for seed in pair)
    assert first != second


def test_selection_of_a_seed_never_changes_between_releases() -> None:
    chosen = select_windows(windows(20), count=5, seed=1337)
    assert [window.score_begin // 4 for window in chosen] == [0, 7, 10, 11, 13]
