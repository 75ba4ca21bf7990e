"""What a selftest promises before its first fault, and the rungs at which that is tried."""

from dataclasses import replace

import pytest

from esa_pytest.drift.noise_model import noise_model_of
from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.drift.sight import detectable
from esa_pytest.records import Tier
from esa_pytest.selftest.ladder import SIZES, Instrument, promised_sizes, rungs_of
from tests.unit.noise_builders import noisy_golden

GOLDEN = noisy_golden()
PROMISE = {Instrument.REFERENCE: 4e-5, Instrument.BITS: 1.0}


def test_the_promise_is_what_a_check_says_that_it_would_have_caught() -> None:
    told = detectable(GOLDEN, noise_model_of(GOLDEN), DEFAULT_RULES, in_full=True)
    promise = promised_sizes(GOLDEN, DEFAULT_RULES)
    assert {str(name): size for name, size in promise.items()} == told | {"bits": 1.0}


def test_what_a_user_allows_widens_no_promise() -> None:
    wide = Rules(tolerances={"reference_rms": 1.0, "mean_nll": 1.0, "rms": 1.0})
    assert promised_sizes(GOLDEN, wide) == promised_sizes(GOLDEN, DEFAULT_RULES)


def test_a_rarer_false_alarm_is_paid_by_a_larger_promise() -> None:
    strict = promised_sizes(GOLDEN, Rules(false_alarm_rate=1e-6))
    assert strict[Instrument.MEAN] > promised_sizes(GOLDEN, DEFAULT_RULES)[Instrument.MEAN]


def test_without_a_reference_only_bits_are_promised() -> None:
    assert set(promised_sizes(replace(GOLDEN, probe=None), DEFAULT_RULES)) == {Instrument.BITS}


def test_bits_are_promised_where_they_were_proven_stable() -> None:
    assert Instrument.BITS not in promised_sizes(replace(GOLDEN, bit_stability=None), DEFAULT_RULES)


def test_the_promised_size_comes_first() -> None:
    rungs = rungs_of(PROMISE)
    reference = [rung.multiple for rung in rungs if rung.instrument is Instrument.REFERENCE]
    assert reference[0] == 1
    assert sorted(reference) == list(SIZES)
    assert [(rung.multiple, rung.wanted) for rung in rungs if rung.instrument is Instrument.BITS] == [(1.0, 1.0)]


@pytest.mark.parametrize("multiple", SIZES)
def test_a_rung_that_was_promised_holds_no_smaller_fault(multiple: float) -> None:
    (rung,) = rungs_of({Instrument.REFERENCE: 4e-5}, [multiple])
    least, most = rung.bounds
    assert rung.promised == (multiple >= 1)
    assert least <= rung.wanted < most
    assert not rung.promised or least == rung.wanted


def test_a_mean_is_judged_by_two_tiers_and_all_else_by_one() -> None:
    assert {instrument: instrument.tiers for instrument in Instrument} == {
        Instrument.BITS: (Tier.EXACT,),
        Instrument.REFERENCE: (Tier.REFERENCE,),
        Instrument.MEAN: (Tier.PAIRED, Tier.AGGREGATE),
        Instrument.RMS: (Tier.PAIRED,),
        Instrument.MAXIMUM: (Tier.PAIRED,),
    }
