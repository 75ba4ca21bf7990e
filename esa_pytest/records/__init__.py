"""Frozen, keyword-only records that travel between rooms; no IO, and nothing heavier than numpy."""

from esa_pytest.records.run import (
    CALIBRATION_NAMES,
    METRIC_NAMES,
    BitStability,
    Calibration,
    Consistency,
    Metrics,
    NonFinite,
    Probe,
    ProbeNoise,
    Record,
    Repeat,
)
from esa_pytest.records.scores import Batch, BlockScores, FloatArray, IntArray, TokenProbabilities, TokenScores, Window
from esa_pytest.records.verdict import BitDrift, Change, MetricRow, Outcome, ReferenceDrift, Tier, Verdict

__all__ = [
    "CALIBRATION_NAMES",
    "METRIC_NAMES",
    "Batch",
    "BitDrift",
    "BitStability",
    "BlockScores",
    "Calibration",
    "Change",
    "Consistency",
    "FloatArray",
    "IntArray",
    "MetricRow",
    "Metrics",
    "NonFinite",
    "Outcome",
    "Probe",
    "ProbeNoise",
    "Record",
    "ReferenceDrift",
    "Repeat",
    "Tier",
    "TokenProbabilities",
    "TokenScores",
    "Verdict",
    "Window",
]
