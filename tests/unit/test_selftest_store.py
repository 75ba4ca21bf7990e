"""Finished trials survive a kill, and serve no other question."""

from dataclasses import replace
from pathlib import Path

import pytest

from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.selftest.ladder import Instrument, promised_sizes
from esa_pytest.selftest.store import TrialStore, key_of
from tests.unit.builders import tokens_of
from tests.unit.noise_builders import noisy_golden
from tests.unit.selftest_builders import harmless, trial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not/yet/there/trials.jsonl"


def test_what_was_added_is_read(path: Path) -> None:
    store = TrialStore(path, "key")
    for done in (trial(), trial(Instrument.RMS, seed=3), harmless(2, alarm=True)):
        store.add(done)
    read = TrialStore(path, "key")
    assert read.trials == store.trials == {(t.instrument, t.multiple, t.seed): t for t in store.trials.values()}
    assert read.harmless == {(True, "last bits, seed 2"): harmless(2, alarm=True)}
    assert len(read.trials) == 2


def test_another_question_reads_nothing(path: Path) -> None:
    TrialStore(path, "key").add(trial())
    assert not TrialStore(path, "other").trials


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_half_a_line_is_passed_over_and_swallows_no_other(path: Path, cut: int) -> None:
    store = TrialStore(path, "key")
    store.add(trial(seed=0))
    store.add(trial(seed=1))
    path.write_bytes(path.read_bytes()[:-cut])
    again = TrialStore(path, "key")
    # Without its end of line alone, a line is whole.
    assert [seed for *_, seed in again.trials] == ([0, 1] if cut == 1 else [0])
    again.add(trial(seed=2))
    assert [seed for *_, seed in TrialStore(path, "key").trials] == [*(seed for *_, seed in again.trials)]
    assert (Instrument.REFERENCE, 1.0, 2) in TrialStore(path, "key").trials


def test_every_part_of_the_question_is_in_its_key() -> None:
    golden = noisy_golden()
    promise = promised_sizes(golden, DEFAULT_RULES)
    scores = tokens_of(golden)
    keys = [
        key_of(golden, promise, DEFAULT_RULES),
        key_of(golden, promise | {Instrument.RMS: 1.0}, DEFAULT_RULES),
        key_of(golden, promise, Rules(tolerances={"rms": 1.0})),
        key_of(golden, promise, Rules(false_alarm_rate=1e-3)),
        key_of(replace(golden, scores=replace(scores, nll=scores.nll + 1)), promise, DEFAULT_RULES),
        key_of(replace(golden, probe=None), promise, DEFAULT_RULES),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key_of(golden, promise, DEFAULT_RULES)
