import pytest

from esa_pytest.records import Consistency, Metrics, Repeat
from esa_pytest.report.consistency import consistency_lines


def metrics(nll_sum: float, correct: int = 2) -> Metrics:
    return Metrics(nll_sum=nll_sum, num_scored_tokens=4, num_correct_tokens=correct)


FIRST = metrics(4.0)


def repeat(kind: str, detail: str = "2", *, found: Metrics = FIRST, bit_equal: bool = True) -> Repeat:
    return Repeat(kind=kind, detail=detail, metrics=found, bit_equal=bit_equal)


def lines(*repeats: Repeat, seeds: dict[int, Metrics] | None = None, impossible: tuple[str, ...] = ()) -> list[str]:
    return consistency_lines(
        Consistency(first=FIRST, repeats=repeats, seeds=seeds or {1337: FIRST}, impossible=impossible)
    )


def test_run_that_was_not_repeated_has_no_line() -> None:
    assert consistency_lines(None) == lines() == []


@pytest.mark.parametrize(
    ("repeats", "line"),
    [
        ((repeat("round"),), "1 more round: bit-equal"),
        ((repeat("round", "2"), repeat("round", "3")), "2 more rounds: bit-equal"),
        ((repeat("batch shape", "2x1024"),), "1 other batch shape (2x1024): bit-equal"),
        (
            (repeat("batch shape", "2x1024"), repeat("batch shape", "1x1024")),
            "2 other batch shapes (2x1024, 1x1024): bit-equal",
        ),
        ((repeat("fresh process", "1"),), "1 other fresh process: bit-equal"),
        ((repeat("fresh process", "1"), repeat("fresh process", "2")), "2 other fresh processes: bit-equal"),
    ],
)
def test_repeats_that_agree_are_told_in_a_word(repeats: tuple[Repeat, ...], line: str) -> None:
    assert lines(*repeats) == [f"  consistency    {line}"]


def test_repeats_that_differ_are_told_by_how_much_each_metric_does() -> None:
    other = repeat("batch shape", "1x8", found=metrics(4.004, 3), bit_equal=False)
    assert lines(other) == [
        (
            "  consistency    1 other batch shape (1x8): other bits, "
            "loss differs by 0.001, perplexity differs by 0.0027, accuracy differs by 0.25"
        )
    ]


def test_largest_difference_between_any_two_is_told() -> None:
    both = [repeat("round", found=metrics(value), bit_equal=False) for value in (3.6, 4.4)]
    (line,) = lines(*both)
    assert "2 more rounds: other bits, loss differs by 0.2, perplexity" in line


def test_other_bits_of_one_repeat_are_not_hidden_by_another() -> None:
    (line,) = lines(repeat("round"), repeat("round", "3", bit_equal=False))
    assert line == (
        "  consistency    2 more rounds: other bits, loss differs by 0, perplexity differs by 0, accuracy differs by 0"
    )


def test_spread_over_seeds_is_mean_and_standard_deviation() -> None:
    assert lines(seeds={1337: metrics(4.0), 123: metrics(4.4, 3)}) == [
        "  consistency    over 2 seeds loss 1.0500 ± 0.0707, perplexity 2.8612 ± 0.2022, accuracy 0.6250 ± 0.1768"
    ]


def test_perplexity_that_overflows_is_told_and_breaks_nothing() -> None:
    huge = metrics(4000.0)
    assert lines(seeds={1: huge, 2: huge}) == [
        "  consistency    over 2 seeds loss 1000.0000 ± 0.0000, perplexity inf ± nan, accuracy 0.5000 ± 0.0000"
    ]
    (line,) = lines(repeat("round", found=huge, bit_equal=False))
    assert "perplexity differs by inf" in line


def test_every_kind_has_its_line_and_the_label_stands_once() -> None:
    assert lines(
        repeat("round"),
        repeat("batch shape", "1x8"),
        repeat("fresh process", "1"),
        seeds={1: FIRST, 2: FIRST},
        impossible=("there is too little to score for another batch shape",),
    ) == [
        "  consistency    1 more round: bit-equal",
        "                 1 other batch shape (1x8): bit-equal",
        "                 1 other fresh process: bit-equal",
        "                 over 2 seeds loss 1.0000 ± 0.0000, perplexity 2.7183 ± 0.0000, accuracy 0.5000 ± 0.0000",
        "                 there is too little to score for another batch shape",
    ]
