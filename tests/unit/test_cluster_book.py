"""Whatever sequence of losses, retries and interrupts: each baseline is made final exactly once."""

from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.cluster.book import Book, Try

TESTS = ("a", "b", "c")
MOST = 3
# What may happen next: an answer, a loss, or an interrupt; of any try of any test, late and doubled ones included.
EVENTS = st.lists(
    st.tuples(st.sampled_from(["settle", "lose", "due", "stop"]), st.sampled_from(TESTS), st.integers(1, MOST + 1)),
    max_size=60,
)


class Told:
    """A book, and how often each test was made final."""

    def __init__(self) -> None:
        self.book = Book(TESTS, most_tries=MOST, after={"c": "a"})
        self.finals = dict.fromkeys(TESTS, 0)
        self.started: list[Try] = []

    def play(self, kind: str, attempt: Try) -> None:
        if kind == "due":
            self.started += self.book.due()
        elif kind == "stop":
            self.book.stop()
        elif kind == "settle":
            self.finals[attempt.test] += self.book.settle(attempt)
        else:
            self.finals[attempt.test] += not self.book.lose(attempt, "gone")


@given(EVENTS)
def test_no_sequence_makes_a_test_final_twice_or_tries_it_too_often(events: list[tuple[str, str, int]]) -> None:
    told = Told()
    for kind, test, number in events:
        told.play(kind, Try(test=test, number=number))
    assert max(told.finals.values()) <= 1
    assert len(set(told.started)) == len(told.started)
    assert max((attempt.number for attempt in told.started), default=0) <= MOST
    assert all(len(told.book.losses(test)) <= MOST for test in TESTS)


@given(EVENTS)
def test_whatever_happened_a_run_that_goes_on_makes_each_test_final(events: list[tuple[str, str, int]]) -> None:
    told = Told()
    for kind, test, number in events:
        if kind != "stop":
            told.play(kind, Try(test=test, number=number))
    while told.book.open:
        told.started += told.book.due()
        assert told.book.running()
        for attempt in told.book.running():
            told.play("settle", attempt)
    assert set(told.finals.values()) == {1}
    assert told.book.due() == []


@given(EVENTS)
def test_after_an_interrupt_nothing_is_started_and_what_is_there_still_counts(
    events: list[tuple[str, str, int]],
) -> None:
    told = Told()
    for kind, test, number in events:
        told.play(kind, Try(test=test, number=number))
    running = told.book.stop()
    assert told.book.due() == []
    assert not told.book.open
    before = dict(told.finals)
    for attempt in running:
        told.play("settle", attempt)
    assert {test for test in TESTS if told.finals[test] > before[test]} == {attempt.test for attempt in running}


def test_a_try_that_was_given_up_cannot_answer() -> None:
    book = Book(["a"], most_tries=2)
    (first,) = book.due()
    assert book.lose(first, "its node was lost")
    (second,) = book.due()
    assert not book.settle(first)
    assert book.settle(second)
    assert not book.settle(second)
    assert book.losses("a") == ("its node was lost",)


def test_the_last_loss_is_final() -> None:
    book = Book(["a"], most_tries=2)
    assert book.lose(book.due()[0], "one")
    assert not book.lose(book.due()[0], "two")
    assert (book.open, book.due(), book.losses("a")) == (False, [], ("one", "two"))


def test_a_test_waits_until_the_one_before_it_is_final_however_that_ends() -> None:
    book = Book(["a", "b"], most_tries=1, after={"b": "a"})
    (first,) = book.due()
    assert book.due() == []
    assert not book.lose(first, "gone")
    assert [attempt.test for attempt in book.due()] == ["b"]
