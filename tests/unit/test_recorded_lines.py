"""What is shown of a golden that was written, and of the one whose place it took."""

from dataclasses import replace

from esa_pytest.evaluation.metrics import stratum_metrics
from esa_pytest.records import BitStability, Outcome, Tier, Verdict
from esa_pytest.report import lines
from tests.unit.builders import STRATA, scored, small_record, token_scores, tokens_of

GOLDEN = small_record()
STRATUM_METRICS = stratum_metrics(tokens_of(GOLDEN), STRATA)
NUDGED = scored(GOLDEN, token_scores([1.0, 2.0, 3.0, 4.001, 0.5, 1.5]))


def test_recorded_run_tells_its_place_and_its_stability() -> None:
    assert lines.recorded_lines(GOLDEN, path="g/cpu.json", strata=STRATUM_METRICS) == [
        "  recorded       g/cpu.json   loss 2.0000  ppl 7.39  acc 50.0%",
        "  bits           bit-equal in this and 2 fresh processes",
        "  reference      none: it does not suit this model, so its meaning is judged by metrics alone",
        "  throughput     1,234 tok/s, efficiency 0.50; peak resident 1.00 GiB; batch 3x2",
        "  strata         prose 1.50 (3) · code 2.50 (3)",
    ]


def test_recorded_run_that_is_not_stable_says_so() -> None:
    measured = replace(GOLDEN, bit_stability=BitStability(fresh_processes=2, distinct_bit_patterns=3))
    assert lines.recorded_lines(measured, path="g", strata={})[1] == (
        "  bits           3 bit patterns in 3 processes: not stable"
    )


def test_recording_tells_what_it_replaces() -> None:
    verdict = Verdict(outcome=Outcome.SEMANTIC_DRIFT, tier=Tier.REFERENCE, reason="why")
    assert lines.environment_line(GOLDEN, None, replaced=GOLDEN).endswith(" · replaces the golden of 2026-01-02")
    assert lines.replaced_line(verdict, NUDGED, GOLDEN) == (
        "  replaces       semantic-drift from the golden of 2026-01-02: loss 2.0000 -> 2.0002"
    )
