"""What of the rounds around a recording is kept where they repeat a part of it."""

from dataclasses import replace

import pytest

from esa_pytest.golden.resource_noise import about
from esa_pytest.records import ResourceRound

BUSY = "other processes took 43% of the cores, at most 10% are believed"
BEGIN = ResourceRound(efficiency=0.6, peak_bytes=1000, disturbance=None)
REPEATS = [
    ResourceRound(efficiency=efficiency, peak_bytes=peak, disturbance=None)
    for efficiency, peak in ((0.3, 490), (0.29, 500), (0.31, 510))
]


def test_repeats_of_a_part_lie_about_the_recorded_round() -> None:
    found = about(BEGIN, REPEATS)
    assert [done.efficiency for done in found] == pytest.approx([0.6, 0.58, 0.62])
    assert [done.peak_bytes for done in found] == [990, 1000, 1010]


def test_a_disturbed_repeat_moves_no_other() -> None:
    disturbed = replace(REPEATS[0], efficiency=0.01, disturbance=BUSY)
    found = about(BEGIN, [disturbed, *REPEATS])
    assert [done.efficiency for done in found[1:]] == pytest.approx([0.6, 0.58, 0.62])
    assert found[0].disturbance == BUSY


def test_nothing_lies_about_a_recorded_round_that_cannot_be_believed() -> None:
    found = about(replace(BEGIN, disturbance=BUSY), REPEATS)
    assert {done.disturbance for done in found} == {BUSY}


def test_without_a_value_of_the_recorded_round_there_is_none_of_its_repeats() -> None:
    found = about(replace(BEGIN, efficiency=None, peak_bytes=None), REPEATS)
    assert {(done.efficiency, done.peak_bytes) for done in found} == {(None, None)}
