"""The simulated night conserves its revisions and its time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale_simulation import PARTS, Revision, Site, simulate

QUIET = {"hours_between_losses": 1e9, "repair_seconds": 60.0, "node_rate": 1e9, "shared_rate": 1e10, "cache_hits": 0.0}


def revision(size: float = 1e9, **seconds: float) -> Revision:
    return Revision(size=size, seconds={"start": 1.0, "load": 2.0, "evaluate": 3.0, "judge": 1.0} | seconds)


def site(**changes: float | bool) -> Site:
    return Site(**({"gpus": 1, "prefetch": False} | QUIET | changes))  # type: ignore[arg-type]


@given(
    sizes=st.lists(st.floats(0, 1e11), min_size=1, max_size=40),
    gpus=st.integers(1, 8),
    prefetch=st.sampled_from([False, True]),
    hours=st.sampled_from([1e9, 0.05, 0.005]),
    hits=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_each_revision_is_judged_or_given_up_and_no_gpu_works_more_than_all_night(
    sizes: list[float], gpus: int, prefetch: int, hours: float, hits: float, seed: int
) -> None:
    where = site(gpus=gpus, prefetch=bool(prefetch), hours_between_losses=hours, cache_hits=hits)
    revisions = [revision(size) for size in sizes]
    night = simulate(revisions, where, seed=seed)
    assert night.judged + night.given_up == len(revisions)
    assert sum(night.seconds.values()) <= night.makespan * gpus * (1 + 1e-9)
    assert night.seconds["evaluate"] == pytest.approx(3.0 * night.judged)
    assert night == simulate(revisions, where, seed=seed)


def test_one_gpu_does_one_after_the_other_and_fetches_ahead_where_it_may() -> None:
    assert simulate([revision()] * 10, site(), seed=0).makespan == pytest.approx(10 * 8.0)
    # The first has to be waited for; each other is there by then.
    assert simulate([revision()] * 10, site(prefetch=True), seed=0).makespan == pytest.approx(8.0 + 9 * 7.0)
    assert simulate([revision()] * 10, site(cache_hits=1.0), seed=0).makespan == pytest.approx(10 * 7.0)


def test_a_shared_network_is_shared_equally() -> None:
    alone = simulate([revision(1e9)] * 4, site(gpus=4, shared_rate=4e9), seed=0)
    narrow = simulate([revision(1e9)] * 4, site(gpus=4, shared_rate=1e9), seed=0)
    assert alone.seconds["fetch"] == pytest.approx(4 * 1.0)
    assert narrow.seconds["fetch"] == pytest.approx(4 * 4.0)
    assert set(narrow.seconds) <= {*PARTS, "lost"}
