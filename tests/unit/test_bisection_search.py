"""A hidden culprit is found, alone or as the smallest set, whatever else is broken or cannot be had."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.bisection.search import Finding, Moved, Standing, search

AWAY, BITS, MEANING = Standing.AWAY, Standing.BITS, Standing.MEANING
BROKEN, UNOBTAINABLE = Standing.BROKEN, Standing.UNOBTAINABLE
PACKAGES = ("a", "b", "c", "d", "e")


def moved(text: str) -> Moved:
    return frozenset(text)


def run(
    judge: Callable[[Moved], Standing], packages: tuple[str, ...] = PACKAGES, *, start: Standing = AWAY
) -> tuple[Finding, list[Moved]]:
    """What a search finds, and the sets that it asked for."""
    asked: list[Moved] = []
    asking = search(packages, start=start)
    try:
        wanted = next(asking)
        while True:
            asked.append(wanted)
            wanted = asking.send(judge(wanted))
    except StopIteration as stop:
        finding: Finding = stop.value
        return finding, asked


def needing(*culprits: str, worth: Standing = BITS, otherwise: Standing = AWAY) -> Callable[[Moved], Standing]:
    """An environment that is right once all culprits are back."""
    return lambda tried: worth if tried >= set(culprits) else otherwise


def test_nothing_to_move_explains_nothing() -> None:
    assert run(needing("a"), ()) == (Finding(causes=(), standing=AWAY), [])


def test_one_culprit_is_named_and_all_others_are_cleared() -> None:
    finding, asked = run(needing("c"))
    assert finding == Finding(causes=(moved("c"),), standing=BITS)
    assert asked == [moved(name) for name in PACKAGES]


def test_bits_outrank_the_meaning() -> None:
    finding, _ = run(lambda tried: BITS if "d" in tried else MEANING if "a" in tried else AWAY)
    assert finding == Finding(causes=(moved("d"),), standing=BITS)


def test_the_meaning_alone_is_an_answer_where_it_was_lost() -> None:
    finding, _ = run(needing("b", worth=MEANING))
    assert finding == Finding(causes=(moved("b"),), standing=MEANING)


def test_the_meaning_is_no_answer_where_it_was_never_lost() -> None:
    finding, _ = run(needing("b", "e", otherwise=MEANING), start=MEANING)
    assert finding == Finding(causes=(moved("be"),), standing=BITS)


def test_each_that_suffices_is_named() -> None:
    finding, _ = run(lambda tried: BITS if tried & {"b", "d"} else AWAY)
    assert finding.causes == (moved("b"), moved("d"))


def test_packages_are_added_in_their_order_until_the_numbers_are_back() -> None:
    _, asked = run(needing("a", "b"))
    assert asked == [*map(moved, PACKAGES), moved("ab")]


def test_what_was_not_needed_is_dropped_again() -> None:
    finding, asked = run(needing("b", "d"))
    assert finding.causes == (moved("bd"),)
    grown, shrunk = ["ab", "abc", "abcd"], ["abd", "ad", "bd"]
    assert asked[len(PACKAGES) :] == [moved(text) for text in [*grown, *shrunk]]


def test_what_cannot_be_had_is_not_asked_for_again() -> None:
    def judge(tried: Moved) -> Standing:
        return UNOBTAINABLE if "a" in tried else needing("b", "c")(tried)

    finding, asked = run(judge)
    assert finding.causes == (moved("bc"),)
    assert [tried for tried in asked if "a" in tried] == [moved("a")]


def test_what_is_broken_alone_does_not_hide_the_others() -> None:
    def judge(tried: Moved) -> Standing:
        return BROKEN if "a" in tried else needing("b", "c")(tried)

    assert run(judge)[0].causes == (moved("bc"),)


def test_two_that_only_run_together_are_found() -> None:
    """The likelier one is broken until the other is back as well."""

    def judge(tried: Moved) -> Standing:
        return BROKEN if len(tried & {"a", "e"}) == 1 else needing("a", "e")(tried)

    assert run(judge)[0].causes == (moved("ae"),)


def test_no_set_at_all_is_told_after_everything_was_tried() -> None:
    finding, asked = run(lambda _: AWAY)
    assert finding == Finding(causes=(), standing=AWAY)
    assert asked[-1] == moved("abcde")


packages = st.integers(1, 6).map(lambda count: tuple("abcdef"[:count]))


@given(packages.flatmap(lambda names: st.tuples(st.just(names), st.sets(st.sampled_from(names), min_size=1))))
def test_a_hidden_set_of_culprits_is_found_and_no_other(case: tuple[tuple[str, ...], set[str]]) -> None:
    names, culprits = case
    finding, asked = run(needing(*culprits), names)
    assert finding == Finding(causes=(frozenset(culprits),), standing=BITS)
    assert len(asked) == len(set(asked))


@given(st.data())
def test_whatever_environments_give_the_answer_holds_and_is_minimal(data: st.DataObject) -> None:
    names = data.draw(packages)
    start = data.draw(st.sampled_from([AWAY, MEANING]))
    known: dict[Moved, Standing] = {}

    def judge(tried: Moved) -> Standing:
        # Never asked for twice, and never with a package that pip did not find.
        assert tried
        assert tried not in known
        assert not [name for name in tried if len(tried) > 1 and known[moved(name)] is UNOBTAINABLE]
        known[tried] = data.draw(st.sampled_from(Standing if len(tried) == 1 else [BROKEN, AWAY, MEANING, BITS]))
        return known[tried]

    finding, _ = run(judge, names, start=start)
    if not finding.causes:
        there = frozenset(name for name in names if known[moved(name)] is not UNOBTAINABLE)
        assert known.get(there, start) <= start
        assert all(known[moved(name)] <= start for name in names)
    for cause in finding.causes:
        assert known[cause] is finding.standing > start
        assert all(known[cause - {name}] < finding.standing for name in cause if len(cause) > 1)
