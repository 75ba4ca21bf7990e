from dataclasses import replace

import pytest

from esa_pytest.drift.judge import judge
from esa_pytest.evaluation.metrics import stratum_metrics
from esa_pytest.records import BitDrift, Change, MetricRow, NonFinite, Outcome, Record, Tier, Verdict
from esa_pytest.report import evidence, lines, resources
from tests.unit.builders import (
    CALIBRATION,
    ENVIRONMENT,
    STRATA,
    THROUGHPUT,
    UNJUDGED,
    changed_identity,
    scored,
    small_record,
    token_scores,
    tokens_of,
)

GOLDEN = small_record()
STRATUM_METRICS = stratum_metrics(tokens_of(GOLDEN), STRATA)
TORCH = Change(name="version.torch", golden="2.9.0", measured="2.10.0")
THREADS = Change(name="cpu.threads", golden="2", measured=None)


def elsewhere(record: Record) -> Record:
    return replace(record, environment=ENVIRONMENT | {"version.torch": "2.10.0"})


DRIFTED = elsewhere(scored(GOLDEN, token_scores([1.0, 2.5, 3.0, 4.0, 0.5, 1.5])))
NUDGED = elsewhere(scored(GOLDEN, token_scores([1.0, 2.0, 3.0, 4.001, 0.5, 1.5])))


def failed(measured: Record, golden: Record = GOLDEN) -> list[str]:
    return lines.failed_lines(judge(golden, measured), measured, golden, path="g/cpu.json", command="pytest -k tiny")


def test_identical_run_in_the_same_environment() -> None:
    assert lines.passed_lines(judge(GOLDEN, GOLDEN), GOLDEN, GOLDEN, STRATUM_METRICS) == [
        "  identical      6 of 6 token NLLs bit-equal   loss 2.0000  ppl 7.39  acc 50.0%",
        THROUGHPUT,
        UNJUDGED,
        "  strata         prose 1.50 (3) · code 2.50 (3)",
        "  would have caught: any changed bit",
    ]


def test_run_within_noise_elsewhere() -> None:
    assert lines.passed_lines(judge(GOLDEN, NUDGED), NUDGED, GOLDEN, STRATUM_METRICS) == [
        (
            "  within-noise   decided by tier 5 (aggregate): 1 of 6 token NLLs have other bits "
            "in an environment that differs in 1 item, and every metric is within its tolerance   "
            "loss 2.0002  ppl 7.39  acc 50.0%"
        ),
        "  environment    1 difference:",
        "    version.torch  2.9.0 -> 2.10.0",
        (
            "  bits           1 of 6 tokens changed · mean +1.67e-04 · rms 4.08e-04 · max 1.00e-03 nats · "
            "first at position 1 of its window · 0 top-1 flips"
        ),
        "  noise          not judged by: the golden was recorded without its noise",
        "  by position    rms in nats (tokens changed): 0-15 4.1e-04 (1)",
        "  by stratum     mean and rms in nats: prose unchanged · code +3.3e-04 5.8e-04",
        (
            "  seen by        inputs unchanged · bits changed · meaning not asked · bf16 rounding not judged · "
            "metrics within tolerance"
        ),
        THROUGHPUT,
        UNJUDGED,
        "  strata         prose 1.50 (3) · code 2.50 (3)",
        "  would have caught: a loss shift of 0.1% (provisional)",
    ]


def test_drifted_run_shows_the_table_the_environment_and_the_remedy() -> None:
    assert failed(DRIFTED) == [
        "esa: tiny-smoke is metric-drift, decided by tier 5 (aggregate):",
        (
            "  1 of 6 token NLLs have other bits in an environment that differs in 1 item, "
            "and perplexity drifted by +0.6421, allowed is 0.015."
        ),
        "",
        "  metric          golden   measured  drift    allowed",
        "  loss            2        2.08333   +0.0833  ±0.002 (provisional)  <- drifted",
        "  perplexity      7.38906  8.03119   +0.642   ±0.0148 (provisional)  <- drifted",
        "  token accuracy  0.5      0.5       +0       ±0.01 (provisional)",
        "",
        (
            "  bits           1 of 6 tokens changed · mean +8.33e-02 · rms 2.04e-01 · max 5.00e-01 nats · "
            "first at position 1 of its window · 0 top-1 flips"
        ),
        "                 the first changed bit stands at the second, as what mixes tokens does: RoPE, attention",
        "  noise          not judged by: the golden was recorded without its noise",
        "  by position    rms in nats (tokens changed): 0-15 2.0e-01 (1)",
        "  by stratum     mean and rms in nats: prose unchanged · code +1.7e-01 2.9e-01",
        (
            "  seen by        inputs unchanged · bits changed · meaning not asked · bf16 rounding not judged · "
            "metrics drifted"
        ),
        THROUGHPUT,
        UNJUDGED,
        "  environment    1 difference:",
        "    version.torch  2.9.0 -> 2.10.0",
        "  golden         g/cpu.json of 2026-01-02T03:04:05+00:00",
        "",
        "  To find out which package did it:",
        "    esa bisect tiny-smoke",
        "  Check that it is no regression first. To accept it:",
        '    pytest -k tiny --snapshot-update --esa-reason "..."',
    ]


def test_notes_stand_with_a_failure_above_its_remedy() -> None:
    text = lines.failed_lines(
        judge(GOLDEN, DRIFTED), DRIFTED, GOLDEN, path="g", command="pytest", notes=("The text is odd.", "So is this.")
    )
    place = text.index("  golden         g of 2026-01-02T03:04:05+00:00")
    assert text[place + 1 : place + 4] == ["  note: The text is odd.", "  note: So is this.", ""]


def test_changed_inputs_are_listed_where_there_are_several() -> None:
    measured = changed_identity(GOLDEN, ("tokens", "sha256"), "0" * 64)
    assert failed(changed_identity(measured, ("corpus", "embedded", "sha256"), None)) == [
        "esa: tiny-smoke is inputs-changed, decided by tier 0 (identity):",
        "  corpus.embedded.sha256 is null, the golden has cccccccccccc…; it is not the same experiment.",
        "",
        "  changed inputs, the likeliest cause first:",
        f"    corpus.embedded.sha256  {'c' * 57}… -> null",
        f"    tokens.sha256           {'e' * 57}… -> {'0' * 57}…",
        "",
        "  environment    the same as the golden's",
        "  golden         g/cpu.json of 2026-01-02T03:04:05+00:00",
        "",
        "  Check that it is no regression first. To accept it:",
        '    pytest -k tiny --snapshot-update --esa-reason "..."',
    ]


def test_single_changed_input_is_told_once() -> None:
    assert failed(changed_identity(GOLDEN, ("model", "dtype"), "bfloat16")) == [
        "esa: tiny-smoke is inputs-changed, decided by tier 0 (identity):",
        "  model.dtype is bfloat16, the golden has float32; it is not the same experiment.",
        "",
        "  environment    the same as the golden's",
        "  golden         g/cpu.json of 2026-01-02T03:04:05+00:00",
        "",
        "  Check that it is no regression first. To accept it:",
        '    pytest -k tiny --snapshot-update --esa-reason "..."',
    ]


def test_run_that_is_not_finite_cannot_be_accepted() -> None:
    measured = replace(GOLDEN, metrics=None, non_finite=NonFinite(what="nll", window=1, token=3))
    verdict = judge(GOLDEN, measured)
    assert lines.failed_lines(verdict, measured, None, path="g/cpu.json", command="pytest -k tiny") == [
        "esa: tiny-smoke is non-finite, decided by tier 1 (finite):",
        "  the nll is NaN or infinite, first in window 1, token 3.",
        "",
        "",
        "  A run that is not finite is never a golden: mend the model or its inputs.",
    ]


def test_failure_in_one_line() -> None:
    assert lines.failed_line(judge(GOLDEN, changed_identity(GOLDEN, ("model", "dtype"), "bfloat16"))) == (
        "  inputs-changed decided by tier 0 (identity): "
        "model.dtype is bfloat16, the golden has float32; it is not the same experiment"
    )


@pytest.mark.parametrize("outcome", Outcome)
def test_label_never_touches_its_text(outcome: Outcome) -> None:
    verdict = Verdict(outcome=outcome, tier=Tier.EXACT, reason="why")
    assert lines.failed_line(verdict).startswith(f"  {outcome.value} ")


@pytest.mark.parametrize(
    ("golden", "compared"),
    [
        (None, "no golden"),
        (GOLDEN, "golden of 2026-01-02, same environment"),
        (elsewhere(GOLDEN), "golden of 2026-01-02, 1 difference in environment"),
        (replace(GOLDEN, environment={}), "golden of 2026-01-02, 5 differences in environment"),
    ],
)
def test_environment_line_says_where_and_what_is_compared(golden: Record | None, compared: str) -> None:
    assert lines.environment_line(GOLDEN, golden) == f"esa: cpu (avx2) · torch 2.9.0 · transformers 5.0.0 · {compared}"


def test_environment_line_names_the_accelerator_where_there_is_one() -> None:
    measured = replace(GOLDEN, device="cuda-sm90", environment=ENVIRONMENT | {"cuda.device": "NVIDIA H200"})
    assert lines.environment_line(measured, None).startswith("esa: cuda-sm90 (NVIDIA H200) · torch 2.9.0 · ")


@pytest.mark.parametrize(
    ("before", "compared"),
    [(0.25, "2.00 of the golden's efficiency"), (0.0, "efficiency 0.50"), (None, "efficiency 0.50")],
)
def test_throughput_is_compared_where_the_golden_has_an_efficiency(before: float | None, compared: str) -> None:
    golden = replace(GOLDEN, resources={"efficiency": before})
    assert resources.throughput_line(GOLDEN, golden) == f"1,234 tok/s, {compared}; peak resident 1.00 GiB; batch 3x2"


def test_memory_names_each_peak() -> None:
    peaks = {"peak_resident_bytes": 2**29, "peak_cuda_allocated_bytes": 3 * 2**30, "rounds": 1, "peak_unknown": None}
    assert resources.memory_text(peaks) == "peak resident 0.50 GiB, peak cuda allocated 3.00 GiB"


def test_metric_without_a_bound_is_shown_and_not_gated() -> None:
    row = MetricRow(name="mean_nll", golden=2.0, measured=2.5, drift=0.5, allowed=None, source="")
    assert lines.table((row,)) == [
        "  metric  golden  measured  drift  allowed",
        "  loss    2       2.5       +0.5   not gated",
    ]


def test_change_that_one_side_lacks_is_shown_as_none() -> None:
    verdict = replace(judge(GOLDEN, DRIFTED), environment=(THREADS, TORCH))
    text = lines.failed_lines(verdict, DRIFTED, GOLDEN, path="g", command="pytest")
    begin = text.index("  environment    2 differences:")
    assert text[begin + 1 : begin + 3] == ["    cpu.threads    2 -> (none)", "    version.torch  2.9.0 -> 2.10.0"]


def test_drifted_calibration_stands_in_the_table_by_its_spoken_names() -> None:
    golden = replace(GOLDEN, calibration=CALIBRATION)
    drifted = replace(golden, calibration=replace(CALIBRATION, ece=0.075, top_k_mass=0.85))
    assert lines.table(judge(golden, drifted).rows) == [
        "  metric          golden   measured  drift   allowed",
        "  loss            2        2         +0      ±0.002 (provisional)",
        "  perplexity      7.38906  7.38906   +0      ±0.0148 (provisional)",
        "  token accuracy  0.5      0.5       +0      ±0.01 (provisional)",
        "  ECE             0.05     0.075     +0.025  ±0.01 (provisional)  <- drifted",
        "  Brier score     0.5      0.5       +0      ±0.01 (provisional)",
        "  entropy         2        2         +0      ±0.02 (provisional)",
        "  top-k mass      0.9      0.85      -0.05   ±0.01 (provisional)  <- drifted",
    ]


def test_calibration_is_told_in_two_lines() -> None:
    assert lines.calibration_lines(CALIBRATION) == [
        "  calibration    ECE 0.0500 · Brier 0.5000 · top-k mass 0.9000",
        "  entropy        2.000 nats; by position 0-15 2.50 · 16-63 1.50",
    ]


def test_run_without_calibration_has_no_line_of_it() -> None:
    assert lines.calibration_lines(None) == []


def test_notes_are_told_a_sentence_a_line() -> None:
    assert lines.notes_lines(("One.", "Two.")) == ["  note: One.", "  note: Two."]
    assert lines.notes_lines(()) == []


def test_drift_of_blocks_is_told_without_flips() -> None:
    bits = BitDrift(
        num_tokens=128,
        num_compared=2,
        num_changed=1,
        mean=0.5,
        rms=0.25,
        maximum=1.0,
        first_position=64,
        num_top1_flips=None,
    )
    assert evidence.bits_line(bits) == (
        "1 of 2 blocks changed · mean +5.00e-01 · rms 2.50e-01 · max 1.00e+00 nats · first at position 64 of its window"
    )


def test_properties_are_those_of_the_run() -> None:
    properties = lines.properties(Outcome.IDENTICAL, judge(GOLDEN, GOLDEN), GOLDEN)
    assert properties["esa_outcome"] == "identical"
    assert type(properties["esa_outcome"]) is str
    assert (properties["esa_tier"], type(properties["esa_tier"])) == (2, int)
    assert properties["esa_mean_nll"] == 2.0
    assert properties["esa_efficiency"] == 0.5


def test_run_without_verdict_or_metrics_has_fewer_properties() -> None:
    properties = lines.properties("recorded", None, replace(GOLDEN, metrics=None))
    assert properties["esa_outcome"] == "recorded"
    assert not {"esa_tier", "esa_mean_nll", "esa_perplexity"} & properties.keys()
