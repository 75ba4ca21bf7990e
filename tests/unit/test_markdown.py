from dataclasses import replace

import pytest
from hypothesis import given

from esa_pytest.drift.judge import judge
from esa_pytest.records import Record
from esa_pytest.report.markdown import Comparison, escaped, markdown_lines
from tests.unit.builders import ENVIRONMENT, changed_identity, small_record, texts, token_scores
from tests.unit.probe_builders import NOISE, moved, probed

GOLDEN = probed(small_record(token_scores([1.0, 3.0])), noise=NOISE)
NUDGED = replace(
    probed(small_record(token_scores([1.0, 3.001953125])), moved(1e-6)),
    environment={**ENVIRONMENT, "version.torch": "2.10.0|x"},
)
HEAD = [
    "### Baselines: golden -> measured",
    "",
    (
        "| baseline | outcome | loss | perplexity | token accuracy | tokens changed | drift of a token, nats "
        "| reference rms, nats | efficiency | memory over start |"
    ),
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]


def compared(old: Record | None, new: Record | None, *troubles: str) -> Comparison:
    verdict = None if old is None or new is None else judge(old, new)
    return Comparison(name="tiny-smoke (cpu)", old=old, new=new, verdict=verdict, troubles=troubles)


def shown(*rows: Comparison) -> list[str]:
    return markdown_lines(rows, old="golden", new="measured")


def test_equal_records_are_one_row() -> None:
    row = (
        "| tiny-smoke (cpu) | identical | 2 -> 2 (+0, +0.000%) | 7.38906 -> 7.38906 (+0, +0.000%) | 50.0000% -> "
        "50.0000% (+0, +0.000%) | 0 of 2 tokens | - | - | 1.00 x (not judged) | - |"
    )
    assert shown(compared(GOLDEN, GOLDEN)) == [*HEAD, row]


def test_a_drift_is_signed_and_its_environment_folded_away() -> None:
    assert shown(compared(GOLDEN, NUDGED)) == [
        *HEAD,
        (
            "| tiny-smoke (cpu) | within-noise | 2 -> 2.00098 (+0.000977, +0.049%) | 7.38906 -> 7.39628 (+0.00722, "
            "+0.098%) | 50.0000% -> 50.0000% (+0, +0.000%) | 1 of 2 tokens | mean +9.77e-04 · rms 1.38e-03 · max "
            "1.95e-03 | 1.0e-06 (allowed 4.0e-06) | 1.00 x (not judged) | - |"
        ),
        "",
        "<details><summary>tiny-smoke (cpu): within-noise, 1 difference in environment</summary>",
        "",
        (
            "Decided by tier 5 (aggregate): 1 of 2 token NLLs have other bits in an environment that differs in 1 "
            "item, the float32 reference agrees (rounding changed, meaning did not), and every metric is within its "
            "tolerance."
        ),
        "",
        "Reason given: first",
        "",
        "| environment | golden | measured |",
        "| --- | --- | --- |",
        "| version.torch | 2.9.0 | 2.10.0\\|x |",
        "",
        "</details>",
    ]


def test_the_loss_of_another_experiment_has_no_drift() -> None:
    lines = shown(compared(GOLDEN, changed_identity(NUDGED, ("windows", "bos"), "window")))
    assert lines[4].startswith("| tiny-smoke (cpu) | inputs-changed | 2 -> 2.00098 | ")
    assert lines[4].endswith(" | - | - | - | - | - |")
    assert "| windows.bos | none | window |" in lines


@pytest.mark.parametrize(
    ("pair", "outcome", "loss"),
    [
        ((None, GOLDEN), "new", "- -> 2"),
        ((GOLDEN, None), "removed", "2 -> -"),
    ],
)
def test_a_missing_side_is_said(pair: tuple[Record | None, Record | None], outcome: str, loss: str) -> None:
    assert shown(compared(*pair))[4].startswith(f"| tiny-smoke (cpu) | {outcome} | {loss} | ")


def test_a_side_that_cannot_be_read_is_told_why() -> None:
    lines = shown(compared(None, GOLDEN, "The golden x|y was edited."))
    assert lines[4].startswith("| tiny-smoke (cpu) | not to be trusted | - -> 2 | ")
    assert "The golden x\\|y was edited." in lines


def test_nothing_on_either_side_is_said() -> None:
    assert shown() == ["### Baselines: golden -> measured", "", "No golden on either side."]


def test_a_long_value_is_cut() -> None:
    environment = {**ENVIRONMENT, "version.torch": "x" * 500}
    (line,) = (line for line in shown(compared(GOLDEN, replace(NUDGED, environment=environment))) if "xxx" in line)
    assert line == f"| version.torch | 2.9.0 | {'x' * 119}… |"


def test_a_line_of_html_has_no_backslashes() -> None:
    one = Comparison(name="tiny_x-smoke <cpu>", old=GOLDEN, new=NUDGED, verdict=judge(GOLDEN, NUDGED), troubles=())
    (line,) = (line for line in shown(one) if line.startswith("<details>"))
    assert line.startswith("<details><summary>tiny_x-smoke &lt;cpu&gt;: within-noise, ")


@given(texts)
def test_text_makes_no_cell_no_line_and_no_markup(text: str) -> None:
    shown_text = escaped(text)
    assert len(shown_text.splitlines()) <= 1
    for character in "|`<":
        assert shown_text.replace(f"\\{character}", "").count(character) == 0
