"""A golden of another device: what its float32 reference says."""

from dataclasses import replace

import numpy as np
import pytest

from esa_pytest.drift.elsewhere import judge_elsewhere
from esa_pytest.records import Outcome, Probe
from tests.unit.builders import small_record
from tests.unit.probe_builders import NOISE, PROBE, moved, probed

GOLDEN = probed(replace(small_record(), device="cuda-sm90"), PROBE, replace(NOISE, maximum=1e-6))
ONE_TOKEN = replace(PROBE, nll=PROBE.nll + np.array([0.0, 0.0, 1.7 * 4e-6, 0.0]))


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        (PROBE, "agrees with that of cuda-sm90: 0 nats rms a token, allowed is 4e-06"),
        (moved(1e-3), "differs from that of cuda-sm90: 0.001 nats rms a token, allowed is 4e-06"),
        (ONE_TOKEN, "differs from that of cuda-sm90: 6.8e-06 nats at one token, allowed is "),
    ],
    ids=["same", "all tokens", "one token"],
)
def test_the_drift_that_is_told_is_the_one_that_is_beyond(probe: Probe, told: str) -> None:
    verdict = judge_elsewhere(GOLDEN, probed(small_record(), probe))
    assert verdict is not None
    assert verdict.outcome is Outcome.REFERENCE_ONLY
    assert told in verdict.reason
