"""What a reader is shown of a verdict on other bits, word by word."""

from dataclasses import replace

import numpy as np
import pytest

from esa_pytest.drift.judge import judge
from esa_pytest.records import (
    BitDrift,
    MetricRow,
    Outcome,
    PairedDrift,
    PartDrift,
    Record,
    ReferenceDrift,
    Statistic,
    Tier,
    Verdict,
)
from esa_pytest.report.evidence import bits_line, evidence_lines, paired_lines, seen_line
from tests.unit.builders import changed_identity, small_record, tokens_of
from tests.unit.noise_builders import clean_run, noisy_golden, run_of

MEAN = Statistic(
    name="mean",
    unit="nats",
    value=-1.2e-4,
    noise=1e-4,
    allowed=4.7e-4,
    p_value=0.27,
    beyond=False,
    source="measured",
)
FLIPS = Statistic(
    name="top1_flips",
    unit="tokens",
    value=19,
    noise=19,
    allowed=64.3,
    p_value=0.5,
    beyond=False,
    source="measured",
)
ONE = replace(MEAN, name="maximum", value=1.55, allowed=0.67, p_value=1e-9, beyond=True)
POSITIONS = (
    PartDrift(label="0-15", num_tokens=32, num_changed=30, mean=1e-5, rms=2.5e-3),
    PartDrift(label="16-63", num_tokens=96, num_changed=96, mean=-1e-5, rms=3e-3),
)
PAIRED = PairedDrift(num_tokens=2048, num_patterns=13, rate=1e-4, statistics=(MEAN, FLIPS), positions=POSITIONS)
SOURCE = "                 (measured on 13 bit patterns and 2048 tokens; at most 1e-04 false alarms a check)"
BY_POSITION = "  by position    rms in nats (tokens changed): 0-15 2.5e-03 (30) · 16-63 3.0e-03 (96)"
BITS = BitDrift(
    num_tokens=2048,
    num_compared=2048,
    num_changed=2047,
    mean=-1.25e-4,
    rms=3e-3,
    maximum=2e-2,
    first_position=0,
    num_top1_flips=1,
)
BITS_LINE = (
    "2047 of 2048 tokens changed · mean -1.25e-04 · rms 3.00e-03 · max 2.00e-02 nats · first at position 0 of its "
    "window · 1 top-1 flip"
)
REFERENCE = ReferenceDrift(
    num_tokens=512,
    rms=1e-7,
    maximum=2e-7,
    allowed_rms=1e-6,
    allowed_maximum=4e-6,
    weak=False,
    first_moved=None,
    num_moved=0,
    num_points=27,
)
ROW = MetricRow(name="mean_nll", golden=2.0, measured=2.0, drift=0.0, allowed=1e-3, source="measured")
PASSING = Verdict(
    outcome=Outcome.WITHIN_NOISE,
    tier=Tier.PAIRED,
    reason="",
    rows=(ROW,),
    bits=BITS,
    reference=REFERENCE,
    paired=PAIRED,
)
FAILING = replace(PASSING, outcome=Outcome.NUMERIC_DRIFT, paired=replace(PAIRED, statistics=(ONE, MEAN)))
PLAIN = small_record()
FIRST = "                 the first changed bit stands at the very first, as another BOS, embedding, norm or head does"


def test_lines_of_a_passing_drift() -> None:
    assert evidence_lines(PASSING, PLAIN) == [
        f"  bits           {BITS_LINE}",
        (
            "  reference      rms 1.0e-07 (allowed 1.0e-06) · max 2.0e-07 (allowed 4.0e-06) nats over 512 tokens in "
            "float32"
        ),
        "  noise          mean -0.00012 (allowed 0.00047) · top-1 flips 19 (allowed 64)",
        SOURCE,
        BY_POSITION,
        (
            "  seen by        inputs unchanged · bits changed · meaning unchanged · bf16 rounding as noise does · "
            "metrics within tolerance"
        ),
    ]


def test_lines_of_a_failing_drift() -> None:
    text = evidence_lines(FAILING, PLAIN)
    assert text[:2] == [f"  bits           {BITS_LINE}", FIRST]
    assert text[3:] == [
        "  noise          one token 1.6 (allowed 0.67) <- beyond · mean -0.00012 (allowed 0.00047)",
        SOURCE,
        BY_POSITION,
        (
            "  seen by        inputs unchanged · bits changed · meaning unchanged · bf16 rounding beyond noise · "
            "metrics within tolerance"
        ),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mean", "mean 0.5"),
        ("rms", "rms 0.5"),
        ("maximum", "one token 0.5"),
        ("outlying", "outlying tokens 0.5"),
        ("top1_flips", "top-1 flips 0.5"),
        ("kl_top", "KL 0.5"),
        ("distance", "distance to the reference 0.5 of the golden's"),
    ],
)
def test_every_statistic_has_its_words(name: str, text: str) -> None:
    statistic = replace(MEAN, name=name, value=0.5, allowed=2.0)
    assert paired_lines(replace(PAIRED, statistics=(statistic,)))[0] == f"  noise          {text} (allowed 2)"


def test_allowance_of_a_user_names_its_source() -> None:
    source = "[tool.esa.tolerances], measured was 64"
    wide = replace(FLIPS, value=150, allowed=200, source=source)
    assert paired_lines(replace(PAIRED, statistics=(wide,)))[0] == (
        f"  noise          top-1 flips 1.5e+02 (allowed 2e+02, {source})"
    )


def test_refusal_stands_in_the_place_of_the_statistics() -> None:
    refused = replace(PAIRED, statistics=(), refusal="the golden was recorded without its noise")
    assert paired_lines(refused) == [
        "  noise          not judged by: the golden was recorded without its noise",
        BY_POSITION,
    ]
    assert paired_lines(replace(refused, positions=())) == [
        "  noise          not judged by: the golden was recorded without its noise"
    ]


def test_one_pattern_is_told_in_good_english_and_no_drift_by_nothing() -> None:
    assert paired_lines(replace(PAIRED, num_patterns=1, positions=()))[1:] == [
        SOURCE.replace("13 bit patterns", "1 bit pattern")
    ]
    assert paired_lines(None) == []


@pytest.mark.parametrize("verdict", [replace(PASSING, bits=replace(BITS, num_changed=0)), replace(PASSING, bits=None)])
def test_equal_bits_rest_on_nothing_else(verdict: Verdict) -> None:
    assert evidence_lines(verdict, PLAIN) == []


@pytest.mark.parametrize(
    ("position", "told"),
    [
        (0, FIRST),
        (1, "                 the first changed bit stands at the second, as what mixes tokens does: RoPE, attention"),
        (
            16,
            (
                "                 the first changed bit stands exactly at the model's sliding window of 16, as a fault "
                "of its mask does"
            ),
        ),
        (15, None),
        (None, None),
    ],
)
def test_fingerprint_of_the_first_changed_bit_is_shown_of_failures(position: int | None, told: str | None) -> None:
    measured = changed_identity(PLAIN, ("checkpoint", "config"), {"sliding_window": 16})
    verdict = replace(FAILING, bits=replace(BITS, first_position=position))
    text = evidence_lines(verdict, measured)
    assert [line for line in text if "first changed bit" in line] == ([] if told is None else [told])
    passing = replace(PASSING, bits=replace(BITS, first_position=position))
    assert not [line for line in evidence_lines(passing, measured) if "first changed bit" in line]


def test_the_drift_of_each_stratum_stands_below_that_by_position() -> None:
    strata = (
        PartDrift(label="prose", num_tokens=64, num_changed=60, mean=1.5e-3, rms=2.5e-3),
        PartDrift(label="code", num_tokens=64, num_changed=64, mean=-1e-5, rms=3e-3),
    )
    assert paired_lines(replace(PAIRED, strata=strata))[-2:] == [
        BY_POSITION,
        "  by stratum     mean and rms in nats: prose +1.5e-03 2.5e-03 · code -1.0e-05 3.0e-03",
    ]


@pytest.mark.parametrize("identity", [{}, {"checkpoint": {}}, {"checkpoint": {"config": None}}])
def test_checkpoint_without_a_config_has_no_window(identity: dict[str, object]) -> None:
    measured = replace(PLAIN, identity=identity)
    assert FIRST in evidence_lines(FAILING, measured)


def test_bits_of_blocks_are_told_without_flips() -> None:
    blocks = replace(BITS, num_compared=32, num_changed=1, first_position=None, num_top1_flips=None)
    assert bits_line(blocks) == ("1 of 32 blocks changed · mean -1.25e-04 · rms 3.00e-03 · max 2.00e-02 nats")


@pytest.mark.parametrize(
    ("reference", "meaning"),
    [(None, "not asked"), (REFERENCE, "unchanged"), (replace(REFERENCE, rms=1.0), "changed")],
)
@pytest.mark.parametrize(
    ("paired", "rounding"),
    [
        (None, "not judged"),
        (replace(PAIRED, refusal="why"), "not judged"),
        (PAIRED, "as noise does"),
        (FAILING.paired, "beyond noise"),
    ],
)
@pytest.mark.parametrize(
    ("rows", "metrics"),
    [
        ((ROW,), "within tolerance"),
        ((), "within tolerance"),
        ((ROW, replace(ROW, drift=-0.1)), "drifted"),
        ((replace(ROW, allowed=None, drift=9.0),), "within tolerance"),
    ],
)
def test_which_tier_saw_what(
    reference: ReferenceDrift | None,
    meaning: str,
    paired: PairedDrift | None,
    rounding: str,
    rows: tuple[MetricRow, ...],
    metrics: str,
) -> None:
    assert seen_line(replace(PASSING, reference=reference, paired=paired, rows=rows)) == (
        f"inputs unchanged · bits changed · meaning {meaning} · bf16 rounding {rounding} · metrics {metrics}"
    )


GOLDEN = noisy_golden()


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (clean_run(GOLDEN, 1), "as noise does"),
        (run_of(GOLDEN, 0.01 * (1.0 + tokens_of(GOLDEN).window.astype(np.float64))), "beyond noise"),
    ],
)
def test_judged_run_is_told_in_these_lines(measured: Record, told: str) -> None:
    text = evidence_lines(judge(GOLDEN, measured), measured)
    labels = [line[2:17].strip() for line in text]
    assert [label for label in labels if label] == ["bits", "reference", "noise", "by position", "seen by"]
    assert f"bf16 rounding {told}" in text[-1]
    assert text[labels.index("noise")].count(" · ") == 6
