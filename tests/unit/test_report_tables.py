from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.report.columns import aligned
from esa_pytest.report.comparison import comparison_lines
from esa_pytest.report.listing import ListedBaseline, listing_lines
from esa_pytest.report.reported import reported_lines, reported_text
from esa_pytest.report.runs import Run, Unreadable
from tests.unit.run_builders import REPORTED, document, run, unjudged

OF_FULL_TWIN = REPORTED | dict.fromkeys(("loss", "perplexity", "token_accuracy"))
REMARK = "2025-08-29, CUDA, bf16, on a short paragraph repeated to fill the window: no figures of running text"


def test_columns_are_two_blanks_apart_and_end_in_no_blank() -> None:
    assert aligned([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]


def test_columns_of_numbers_end_in_one_line() -> None:
    assert aligned([("a", "1"), ("b", "100")], right=frozenset({1})) == ["a    1", "b  100"]


@given(st.lists(st.tuples(*[st.text("ab", min_size=1, max_size=5)] * 3), min_size=1, max_size=5))
def test_columns_keep_every_cell_in_its_place(rows: list[tuple[str, str, str]]) -> None:
    assert [tuple(line.split()) for line in aligned(rows)] == rows
    begin = 2 + max(len(row[0]) for row in rows)
    assert all(
        line[begin - 1] == " " and line[begin : begin + len(row[1])] == row[1]
        for line, row in zip(aligned(rows), rows, strict=True)
    )


def test_reported_figures_are_told_with_their_remark() -> None:
    assert reported_lines(REPORTED) == [
        f"  reported       loss 0.1826  ppl 1.2004  acc 96.88%  2.86 GiB  8,507 tok/s ({REMARK})"
    ]


def test_no_loss_is_told_of_a_full_twin() -> None:
    assert reported_text(OF_FULL_TWIN) == "2.86 GiB  8,507 tok/s"


def listed(name: str, **given_parts: Any) -> ListedBaseline:
    parts: dict[str, Any] = {"golden": "none", "weights": "in the cache", "reason": None, "reported": None}
    return ListedBaseline(id=name, **parts | given_parts)


HERE = listed("a-smoke", golden="2026-01-02")
GONE = listed("pythia-1.4b-smoke", weights="unreachable", reason="the hub does not answer", reported=REPORTED)


def test_listing_of_what_is_there() -> None:
    assert listing_lines([HERE, listed("longer-smoke")], [], device="cpu") == [
        "baseline      golden (cpu)  weights       reported",
        "a-smoke       2026-01-02    in the cache  -",
        "longer-smoke  none          in the cache  -",
    ]


def test_listing_tells_what_is_reported_and_what_is_not_there() -> None:
    assert listing_lines([HERE, GONE], [], device="cuda-sm90") == [
        "baseline           golden (cuda-sm90)  weights       reported",
        "a-smoke            2026-01-02          in the cache  -",
        (
            "pythia-1.4b-smoke  none                unreachable   "
            "loss 0.1826  ppl 1.2004  acc 96.88%  2.86 GiB  8,507 tok/s"
        ),
        "",
        "unreachable (1 baseline): the hub does not answer",
        "",
        f"reported: {REMARK}",
    ]


def test_listing_sets_the_rest_of_the_catalog_apart_in_the_same_columns() -> None:
    assert listing_lines([HERE], [listed("b-a-longer-name", golden="2026-03-04")], device="cpu") == [
        "baseline         golden (cpu)  weights       reported",
        "a-smoke          2026-01-02    in the cache  -",
        "",
        "in the catalog, and not in the matrix of this project:",
        "b-a-longer-name  2026-03-04    in the cache  -",
    ]


def test_each_reason_is_told_once_with_how_many_it_holds_back() -> None:
    other = listed("c-smoke", weights="gated", reason="no token")
    lines = listing_lines([GONE, other], [GONE], device="cpu")
    assert [line for line in lines if line.startswith("unreachable (")] == [
        "unreachable (2 baselines): the hub does not answer",
        "unreachable (1 baseline): no token",
    ]


def summary(**parts: Any) -> Run:
    return run(document(**parts))


HEADING = "baseline          outcome      loss  perplexity  bits/byte  accuracy   tok/s  peak GiB"


def test_comparison_is_a_row_a_run() -> None:
    assert comparison_lines([summary(), summary(baseline="tiny-standard", outcome="metric-drift")]) == [
        "baseline             outcome         loss  perplexity  bits/byte  accuracy   tok/s  peak GiB",
        "tiny-smoke (cpu)     identical     1.0000      2.7183     0.4809    50.00%  12,346      1.50",
        "tiny-standard (cpu)  metric-drift  1.0000      2.7183     0.4809    50.00%  12,346      1.50",
        "esa: 2 baselines",
    ]


def test_comparison_sets_what_was_reported_below() -> None:
    assert comparison_lines([summary(reported=REPORTED)]) == [
        HEADING,
        "tiny-smoke (cpu)  identical  1.0000      2.7183     0.4809    50.00%  12,346      1.50",
        "  reported                   0.1826      1.2004          -    96.88%   8,507      2.86",
        "",
        f"reported: {REMARK}",
        "esa: 1 baseline",
    ]


def test_comparison_tells_no_reported_loss_of_a_full_twin() -> None:
    assert "  reported                        -           -          -         -   8,507      2.86" in comparison_lines(
        [summary(reported=OF_FULL_TWIN)]
    )


def test_comparison_shows_what_is_not_there_as_a_dash() -> None:
    overflowed = {"mean_nll": 800.0, "perplexity": None, "token_accuracy": 0.0, "num_scored_tokens": 4}
    lines = comparison_lines(
        [
            summary(outcome="non-finite", metrics=None, resources={}, text=None),
            summary(outcome="recorded", metrics=overflowed),
            run(unjudged(outcome="GoldenError")),
            Unreadable(folder="torn__smoke", cause="EOF"),
        ]
    )
    assert lines[1:5] == [
        "tiny-smoke (cpu)  non-finite         -           -          -         -       -         -",
        "tiny-smoke (cpu)  recorded    800.0000           -     0.4809     0.00%  12,346      1.50",
        "tiny-smoke        not judged         -           -          -         -       -         -",
        "torn__smoke       unreadable         -           -          -         -       -         -",
    ]


def test_comparison_tells_why_some_came_to_no_verdict() -> None:
    lines = comparison_lines(
        [
            summary(),
            run(unjudged(state="error", outcome="GoldenError", reason="It was edited. Record it anew.")),
            run(unjudged(baseline="b", state="skipped", outcome="HubUnreachableError", reason="No\x1b hub.")),
            Unreadable(folder="torn__smoke", cause="EOF"),
        ]
    )
    assert [line.split()[1] for line in lines[2:4]] == ["broken", "not"]
    assert lines[5:] == [
        "",
        "tiny-smoke is broken: It was edited.",
        "b is not judged: No  hub.",
        "torn__smoke is broken: its manifest cannot be read (EOF).",
        "esa: 4 baselines",
    ]


def test_a_manifest_writes_nothing_but_text_to_the_terminal() -> None:
    lines = comparison_lines([summary(baseline="\x1b[31mred", outcome="\u202edesrever\n")])
    assert lines[1].startswith(" [31mred (cpu)   desrever ")


@pytest.mark.parametrize(
    "resources",
    [
        {"peak_cuda_allocated_bytes": 2**30, "peak_cuda_reserved_bytes": 2**32},
        {"peak_cuda_reserved_bytes": 2**32, "peak_cuda_allocated_bytes": 2**30},
    ],
)
def test_peak_is_what_was_allocated_and_not_what_was_reserved(resources: dict[str, int]) -> None:
    assert comparison_lines([summary(resources=resources)])[1].endswith(" 1.00")


def test_comparison_of_nothing_says_so() -> None:
    assert comparison_lines([])[-1] == "esa: 0 baselines"
