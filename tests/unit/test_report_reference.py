"""What a reader is shown of the float32 reference."""

from dataclasses import replace

import pytest

from esa_pytest.drift.judge import judge
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.evaluation.metrics import stratum_metrics
from esa_pytest.records import Outcome, Probe, Record, ReferenceDrift
from esa_pytest.report import evidence, lines
from tests.unit.builders import (
    CALIBRATION,
    ENVIRONMENT,
    STRATA,
    THROUGHPUT,
    UNJUDGED,
    scored,
    small_record,
    token_scores,
    tokens_of,
)
from tests.unit.probe_builders import NOISE, PROBE, moved, moved_at, probed

PLAIN = small_record()
GOLDEN = probed(PLAIN, PROBE, NOISE)
STRATUM_METRICS = stratum_metrics(tokens_of(PLAIN), STRATA)
ELSEWHERE = ENVIRONMENT | {"version.torch": "2.10.0"}
NUDGED = replace(scored(PLAIN, token_scores([1.0, 2.0, 3.0, 4.001, 0.5, 1.5])), environment=ELSEWHERE)
DRIFTED = replace(scored(PLAIN, token_scores([1.0, 2.5, 3.0, 4.0, 0.5, 1.5])), environment=ELSEWHERE)
MOVED = moved_at("norm", 0.5, moved_at("layers.0.mlp", 0.5, moved(1e-3)))
BITS = (
    "  bits           1 of 6 tokens changed · mean +1.67e-04 · rms 4.08e-04 · max 1.00e-03 nats · "
    "first at position 1 of its window · 0 top-1 flips"
)
SAME = "rms 0.0e+00 (allowed 4.0e-06) · max 0.0e+00 (allowed 1.6e-05) nats over 4 tokens in float32"
AWAY = "rms 1.0e-03 (allowed 4.0e-06) · max 1.0e-03 (allowed 1.6e-05) nats over 4 tokens in float32"
ENVIRONMENT_LINES = ["  environment    1 difference:", "    version.torch  2.9.0 -> 2.10.0"]


def unjudged(
    meaning: str, *, rms: str = "4.1e-04", code: str = "+3.3e-04 5.8e-04", metrics: str = "within tolerance"
) -> list[str]:
    """The lines of the noise, which these goldens were recorded without."""
    return [
        "  noise          not judged by: the golden was recorded without its noise",
        f"  by position    rms in nats (tokens changed): 0-15 {rms} (1)",
        f"  by stratum     mean and rms in nats: prose unchanged · code {code}",
        (
            f"  seen by        inputs unchanged · bits changed · meaning {meaning} · bf16 rounding not judged · "
            f"metrics {metrics}"
        ),
    ]


WEAK = "                 weak probe: this model's own float32 noise hides ordinary single weights"
TAIL = [
    "  golden         g/cpu.json of 2026-01-02T03:04:05+00:00",
    "",
    "  Check that it is no regression first. To accept it:",
    '    pytest -k tiny --snapshot-update --esa-reason "..."',
]
TAIL_ELSEWHERE = [*TAIL[:2], "  To find out which package did it:", "    esa bisect tiny-smoke", *TAIL[2:]]


def passed(measured: Record, golden: Record = GOLDEN, rules: Rules = DEFAULT_RULES) -> list[str]:
    verdict = judge(golden, measured, rules)
    assert verdict.outcome.passed
    return lines.passed_lines(verdict, measured, golden, STRATUM_METRICS)


def failed(measured: Record, golden: Record = GOLDEN, rules: Rules = DEFAULT_RULES) -> list[str]:
    verdict = judge(golden, measured, rules)
    assert not verdict.outcome.passed
    return lines.failed_lines(verdict, measured, golden, path="g/cpu.json", command="pytest -k tiny")


def test_agreeing_reference_stands_below_the_bits() -> None:
    assert passed(probed(NUDGED)) == [
        (
            "  within-noise   decided by tier 5 (aggregate): 1 of 6 token NLLs have other bits "
            "in an environment that differs in 1 item, the float32 reference agrees (rounding changed, meaning did "
            "not), and every metric is within its tolerance   loss 2.0002  ppl 7.39  acc 50.0%"
        ),
        *ENVIRONMENT_LINES,
        BITS,
        f"  reference      {SAME}",
        *unjudged("unchanged"),
        THROUGHPUT,
        UNJUDGED,
        "  strata         prose 1.50 (3) · code 2.50 (3)",
        "  would have caught: reference 5e-06 nats · a loss shift of 0.1% (provisional)",
    ]


def test_identical_run_tells_what_the_reference_would_see_and_no_more() -> None:
    text = passed(PLAIN)
    assert text[-1] == "  would have caught: any changed bit · reference 5e-06 nats"
    assert not [line for line in text if line.startswith("  reference")]


def test_drift_of_the_meaning_names_the_module_that_moved_first() -> None:
    assert failed(probed(NUDGED, MOVED)) == [
        "esa: tiny-smoke is semantic-drift, decided by tier 3 (reference):",
        (
            "  the model computes something else: the float32 reference moved by 0.001 nats rms a token, "
            "allowed is 4e-06; the first module that moved is layers.0.mlp."
        ),
        "",
        "  metric          golden   measured  drift      allowed",
        "  loss            2        2.00017   +0.000167  ±0.002 (provisional)",
        "  perplexity      7.38906  7.39029   +0.00123   ±0.0148 (provisional)",
        "  token accuracy  0.5      0.5       +0         ±0.01 (provisional)",
        "",
        BITS,
        f"  reference      {AWAY}",
        "  first moved    layers.0.mlp; 2 of 5 modules moved",
        *unjudged("changed"),
        THROUGHPUT,
        UNJUDGED,
        *ENVIRONMENT_LINES,
        *TAIL_ELSEWHERE,
    ]


def test_drift_of_the_meaning_in_one_line() -> None:
    assert lines.failed_line(judge(GOLDEN, probed(NUDGED, MOVED))) == (
        "  semantic-drift decided by tier 3 (reference): the model computes something else: the float32 reference "
        "moved by 0.001 nats rms a token, allowed is 4e-06; the first module that moved is layers.0.mlp"
    )


def test_drift_of_a_metric_shows_that_the_reference_agrees() -> None:
    text = failed(probed(DRIFTED))
    assert text[0] == "esa: tiny-smoke is metric-drift, decided by tier 5 (aggregate):"
    assert text[1] == (
        "  1 of 6 token NLLs have other bits in an environment that differs in 1 item, the float32 reference agrees "
        "(rounding changed, meaning did not), and perplexity drifted by +0.6421, allowed is 0.015."
    )
    assert text[-15:] == [
        f"  reference      {SAME}",
        *unjudged("unchanged", rms="2.0e-01", code="+1.7e-01 2.9e-01", metrics="drifted"),
        THROUGHPUT,
        UNJUDGED,
        *ENVIRONMENT_LINES,
        *TAIL_ELSEWHERE,
    ]


def test_unexplained_bits_show_the_module_that_moved_first() -> None:
    text = failed(probed(replace(NUDGED, environment=ENVIRONMENT), MOVED))
    assert text[0] == "esa: tiny-smoke is unexplained-bits, decided by tier 2 (exact):"
    assert text[1].endswith(" or bad memory; the first module that moved is layers.0.mlp.")
    assert text[-14:] == [
        BITS,
        f"  reference      {AWAY}",
        "  first moved    layers.0.mlp; 2 of 5 modules moved",
        *unjudged("changed"),
        THROUGHPUT,
        UNJUDGED,
        "  environment    the same as the golden's",
        *TAIL,
    ]


def test_equal_bits_with_a_drifted_calibration_show_no_reference() -> None:
    golden = replace(GOLDEN, calibration=CALIBRATION)
    text = failed(replace(PLAIN, calibration=replace(CALIBRATION, ece=0.075)), golden)
    assert text[:2] == [
        "esa: tiny-smoke is metric-drift, decided by tier 5 (aggregate):",
        "  6 of 6 token NLLs bit-equal, and ece drifted by +0.025, allowed is 0.01.",
    ]
    assert [line for line in text if line.startswith("  bits")] == [
        "  bits           0 of 6 tokens changed · mean +0.00e+00 · rms 0.00e+00 · max 0.00e+00 nats · 0 top-1 flips"
    ]
    assert not [line for line in text if line.startswith("  reference")]


def test_tolerance_that_was_widened_is_named_where_it_passes() -> None:
    rules = Rules(tolerances={"reference_rms": 0.5, "reference_maximum": 0.25})
    assert (
        "  reference      rms 1.0e-03 (allowed 5.0e-01, [tool.esa.tolerances], measured was 4e-06) · max 1.0e-03 "
        "(allowed 2.5e-01, [tool.esa.tolerances], measured was 1.6e-05) nats over 4 tokens in float32"
    ) in passed(probed(NUDGED, MOVED), rules=rules)


def test_tolerance_that_was_widened_is_named_where_it_fails() -> None:
    assert (
        "  reference      rms 1.0e-03 (allowed 5.0e-01, [tool.esa.tolerances], measured was 4e-06) · max 1.0e-03 "
        "(allowed 1.6e-05) nats over 4 tokens in float32"
    ) in failed(probed(NUDGED, MOVED), rules=Rules(tolerances={"reference_rms": 0.5}))


@pytest.mark.parametrize("found", [PROBE, MOVED])
def test_weak_probe_is_told(found: Probe) -> None:
    weak = probed(PLAIN, PROBE, replace(NOISE, rms=1.1e-4, maximum=1e-4))
    shown = passed if found is PROBE else failed
    assert WEAK in shown(probed(NUDGED, found), weak)
    assert WEAK not in shown(probed(NUDGED, found))


def test_lines_of_a_reference() -> None:
    drift = ReferenceDrift(
        num_tokens=512,
        rms=1e-7,
        maximum=2e-7,
        allowed_rms=1e-6,
        allowed_maximum=4e-6,
        weak=False,
        first_moved="norm",
        num_moved=1,
        num_points=27,
    )
    assert evidence.reference_lines(drift) == [
        (
            "  reference      rms 1.0e-07 (allowed 1.0e-06) · max 2.0e-07 (allowed 4.0e-06) nats over 512 tokens in "
            "float32"
        ),
        "  first moved    norm; 1 of 27 modules moved",
    ]
    assert evidence.reference_lines(replace(drift, first_moved=None))[1:] == []
    assert evidence.reference_lines(replace(drift, first_moved=None, weak=True))[1:] == [WEAK]
    assert evidence.reference_lines(None) == []


def test_recorded_run_tells_the_noise_of_its_reference() -> None:
    assert lines.recorded_lines(GOLDEN, path="g/cpu.json", strata=STRATUM_METRICS) == [
        "  recorded       g/cpu.json   loss 2.0000  ppl 7.39  acc 50.0%",
        "  bits           bit-equal in this and 2 fresh processes",
        (
            "  reference      float32 noise rms 1.0e-06, max 4.0e-06 nats over 9 bit patterns "
            "(attention sdpa, last bit of inv_freq)"
        ),
        "  throughput     1,234 tok/s, efficiency 0.50; peak resident 1.00 GiB; batch 3x2",
        "  strata         prose 1.50 (3) · code 2.50 (3)",
    ]


def test_recorded_run_without_a_reference_says_so() -> None:
    assert lines.noise_lines(PLAIN) == [
        "  reference      none: it does not suit this model, so its meaning is judged by metrics alone"
    ]


def test_drift_of_the_meaning_is_told_to_reports() -> None:
    verdict = judge(GOLDEN, probed(NUDGED, MOVED))
    properties = lines.properties(verdict.outcome, verdict, NUDGED)
    assert (properties["esa_outcome"], properties["esa_tier"]) == (Outcome.SEMANTIC_DRIFT.value, 3)
