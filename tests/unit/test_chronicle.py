import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.golden.ledger import ChangedItem, LedgerEntry
from esa_pytest.report.chronicle import History, chronicle_lines, sparkline, steps_of
from tests.unit.ledger_builders import entry, numbers


def day(number: int) -> str:
    return f"2026-01-{number:02d}T00:00:00+00:00"


def chain(*losses: float) -> tuple[LedgerEntry, ...]:
    """One acceptance a day; the seals fit together."""
    made = []
    for number, loss in enumerate(losses):
        before = losses[number - 1] if number else None
        made.append(
            entry(
                loss,
                before,
                utc=day(number + 1),
                old=None if before is None else numbers(before, "abcdef"[(number - 1) % 6]),
                new=numbers(loss, "abcdef"[number % 6]),
                reason=f"reason {number}",
            )
        )
    return tuple(made)


def history(entries: tuple[LedgerEntry, ...], seal: str | None = None, *, wanted: bool = True) -> History:
    return History(
        name="tiny-smoke (cpu, float32)",
        entries=entries,
        golden_sha256=entries[-1].new.judged_sha256 if seal is None else seal * 64 or None,
        wanted=wanted,
    )


def test_acceptances_stand_in_a_table_below_their_sparkline() -> None:
    assert chronicle_lines([history(chain(2.0, 2.001, 2.0005))]) == [
        "tiny-smoke (cpu, float32)  ▁█▅  loss 2.0005, 3 acceptances",
        "  date        loss    step     outcome       reason",
        "  2026-01-01  2                first         reason 0",
        "  2026-01-02  2.001   +0.001   within-noise  reason 1",
        "  2026-01-03  2.0005  -0.0005  within-noise  reason 2",
    ]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("throughput-drift", "throughput-drift (efficiency 0.5 to 0.4)"),
        ("memory-drift", "memory-drift (peak MiB 100 to 150)"),
        ("within-noise", "within-noise"),
    ],
)
def test_what_was_accepted_of_a_resource_is_said(outcome: str, said: str) -> None:
    old, new = (
        numbers(2.0, seal).model_copy(update={"efficiency": efficiency, "peak_bytes": peak * 2.0**20})
        for seal, efficiency, peak in (("a", 0.5, 100), ("b", 0.4, 150))
    )
    (line,) = [
        line
        for line in chronicle_lines([history((entry(2.0, 2.0, outcome=outcome, old=old, new=new),))])
        if "-drift" in line or "within" in line
    ]
    assert f"  {said}  " in line


def test_histories_are_apart() -> None:
    lines = chronicle_lines([history(chain(2.0)), history(chain(3.0))])
    assert lines[3] == ""
    assert lines[4].endswith("loss 3, 1 acceptance")


def test_what_was_forced_or_of_other_inputs_is_said() -> None:
    changed = entry(
        3.0,
        outcome="inputs-changed",
        forced=True,
        inputs=(ChangedItem(name="corpus.mine.sha256", old="1", new="2"),),
    )
    (line,) = chronicle_lines([history((changed,))])[2:]
    assert line == "  2026-01-02  3           inputs-changed (forced) (corpus.mine.sha256)  -"


def test_a_reason_cannot_break_the_lines_or_the_terminal() -> None:
    lines = chronicle_lines([history((entry(reason="one\n\x1b[31mtwo"),))])
    assert lines[-1].endswith("one  [31mtwo")


def test_a_slow_walk_is_told_with_its_beginning_and_its_total() -> None:
    entries = chain(2.0, *(2.0 + 0.0018 * step for step in range(1, 14)))
    (warning,) = chronicle_lines([history(entries)])[-1:]
    assert warning == (
        "  warning: the loss has walked +0.0234 nats (+1.17%) in 13 accepted steps since 2026-01-02, seen on "
        "2026-01-14: each was accepted by itself, and chance alone shows this once in 469 acceptances; compare with: "
        "esa diff --against ffffffffffff"
    )


def test_changed_inputs_restart_the_walk() -> None:
    entries = list(chain(2.0, *(2.0 + 0.0018 * step for step in range(1, 14))))
    entries[7] = entries[7].model_copy(update={"drift": None, "outcome": "inputs-changed"})
    assert not any("walked" in line for line in chronicle_lines([history(tuple(entries))]))


def test_steps_are_in_units_of_what_would_have_passed() -> None:
    first, second = chain(2.0, 2.001)
    assert steps_of([first, second]) == [None, pytest.approx(0.5)]


def test_without_an_allowance_the_provisional_tolerance_is_the_unit() -> None:
    _, second = chain(4.0, 4.002)
    assert second.drift is not None
    unjudged = second.model_copy(update={"drift": second.drift.model_copy(update={"loss_allowed": None})})
    assert steps_of([unjudged]) == [pytest.approx(0.5)]


def test_a_loss_of_zero_has_no_unit() -> None:
    _, still = chain(0.0, 0.0)
    _, moved = chain(0.0, 1.0)
    drifts = [
        one.model_copy(update={"drift": one.drift.model_copy(update={"loss_allowed": None})})
        for one in (still, moved)
        if one.drift is not None
    ]
    assert steps_of(drifts) == [0.0, None]


def test_a_golden_that_changed_without_the_ledger_is_told() -> None:
    first, _, third = chain(2.0, 2.001, 2.002)
    assert chronicle_lines([history((first, third))])[-1] == (
        "  warning: the golden that was replaced on 2026-01-03 is not the one that was accepted on 2026-01-01: in "
        "between it was changed without the ledger, or two branches were merged"
    )


@pytest.mark.parametrize(("seal", "state"), [("f", "is another"), ("", "is missing or cannot be read")])
def test_a_golden_that_is_not_the_accepted_one_is_told(seal: str, state: str) -> None:
    assert chronicle_lines([history(chain(2.0), seal)])[-1] == (
        f"  warning: the golden that was accepted last {state}: take golden and ledger from the same commit, or record "
        f"anew"
    )


def test_a_golden_that_nobody_wants_any_more_may_be_gone() -> None:
    assert not any("warning" in line for line in chronicle_lines([history(chain(2.0), "", wanted=False)]))


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=30))
def test_a_sparkline_has_a_bar_a_value_and_keeps_their_order(values: list[float]) -> None:
    bars = sparkline(values)
    assert len(bars) == len(values)
    ranked = sorted(zip(values, bars, strict=True))
    assert [bar for _, bar in ranked] == sorted(bars)


def test_equal_values_lie_in_the_middle() -> None:
    assert sparkline([1.0, 1.0]) == "▅▅"
