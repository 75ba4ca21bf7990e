"""Tier 3: two probes beside the noise that the golden knows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.reference import NOISE_FACTOR, WEAK_ABOVE, allowed_rms, reference_drift
from esa_pytest.drift.rules import Rules
from esa_pytest.records import Probe, ProbeNoise, ReferenceDrift
from tests.unit.builders import small_record
from tests.unit.probe_builders import NOISE, POINTS, PROBE, moved, moved_at, probed

PLAIN = small_record()
# Noise so large that rounding of the values themselves decides nothing.
COARSE = replace(NOISE, rms=2.0**-10, maximum=2.0**-8, fingerprints=np.full(5, 2.0**-10, dtype=np.float32))
WHOLE = replace(PROBE, nll=np.array([1.0, 2.0, 3.0, 4.0]), fingerprints=np.zeros((5, 3), dtype=np.float32))


def drift(new: Probe, *, old: Probe = PROBE, noise: ProbeNoise = NOISE) -> ReferenceDrift:
    found = reference_drift(probed(PLAIN, old, noise), probed(PLAIN, new))
    assert found is not None
    return found


def test_equal_probes_are_within() -> None:
    found = drift(PROBE)
    assert found == ReferenceDrift(
        num_tokens=4,
        rms=0.0,
        maximum=0.0,
        allowed_rms=4e-6,
        allowed_maximum=16e-6,
        weak=False,
        first_moved=None,
        num_moved=0,
        num_points=5,
        modules=tuple((point, 0.0) for point in PROBE.points),
    )
    assert found.within


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("factor", "within"), [(4.0, True), (4.0 + 2**-10, False)])
def test_four_times_the_noise_is_allowed_for_the_whole(sign: int, factor: float, *, within: bool) -> None:
    found = drift(moved(sign * factor * COARSE.rms, WHOLE), old=WHOLE, noise=COARSE)
    assert found.rms == factor * COARSE.rms
    assert found.within is within


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("factor", "within"), [(4.0, True), (4.0 + 2**-10, False)])
def test_four_times_the_noise_is_allowed_for_one_token(sign: int, factor: float, *, within: bool) -> None:
    noise = replace(COARSE, rms=COARSE.maximum)
    one = moved(np.array([0.0, 0.0, sign * factor * noise.maximum, 0.0]), WHOLE)
    found = drift(one, old=WHOLE, noise=noise)
    assert found.maximum == factor * noise.maximum
    assert found.rms == found.maximum / 2
    assert found.within is within


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_noise_of_a_lucky_model_is_taken_for_that_of_float32(noise: float) -> None:
    lucky = replace(NOISE, rms=noise, maximum=noise, fingerprints=np.zeros(5, dtype=np.float32))
    assert allowed_rms(lucky) == 1e-6
    found = drift(moved_at("norm", 3e-6, moved(0.9e-6)), noise=lucky)
    assert (found.allowed_rms, found.allowed_maximum) == (1e-6, 1e-6)
    assert found.within
    assert found.first_moved is None
    assert not drift(moved(1.1e-6), noise=lucky).within
    assert drift(moved_at("norm", 5e-6), noise=lucky).first_moved == "norm"


def test_tolerance_counts_with_its_source_where_it_is_wider_than_what_was_measured() -> None:
    rules = Rules(tolerances={"reference_rms": 1.0, "reference_maximum": 1e-9})
    found = reference_drift(probed(PLAIN, PROBE, NOISE), probed(PLAIN, PROBE), rules)
    assert found is not None
    assert (found.allowed_rms, found.rms_source) == (1.0, "[tool.esa.tolerances], measured was 4e-06")
    assert (found.allowed_maximum, found.maximum_source) == (16e-6, "measured")


@given(
    st.lists(st.floats(-1e-3, 1e-3), min_size=4, max_size=4),
    st.floats(0, 1e-3),
    st.floats(0, 1e-3),
)
def test_drift_is_the_same_in_both_directions(amounts: list[float], rms: float, maximum: float) -> None:
    noise = replace(NOISE, rms=rms, maximum=maximum)
    other = moved(np.array(amounts))
    there, back = drift(other, noise=noise), drift(PROBE, old=other, noise=noise)
    assert (there.rms, there.maximum, there.within) == (back.rms, back.maximum, back.within)
    assert there.within == (there.rms <= there.allowed_rms and there.maximum <= there.allowed_maximum)


@given(st.integers(0, 3), st.sampled_from([np.nan, np.inf, -np.inf]), st.floats(0, 1e300))
def test_value_that_is_no_number_is_a_drift_whatever_the_noise(token: int, value: float, noise: float) -> None:
    amounts = np.zeros(4)
    amounts[token] = value
    with np.errstate(over="ignore"):
        found = drift(moved(amounts), noise=replace(NOISE, rms=noise, maximum=noise))
    assert not found.within


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_fingerprint_that_is_no_number_has_moved(value: float) -> None:
    found = drift(moved_at("layers.0", value))
    assert (found.first_moved, found.num_moved) == ("layers.0", 1)


def test_other_version_is_never_compared() -> None:
    assert reference_drift(probed(PLAIN, PROBE, NOISE), probed(PLAIN, replace(PROBE, version=2))) is None


@pytest.mark.parametrize("nll", [PROBE.nll[:3], np.append(PROBE.nll, 1.0), PROBE.nll[:1]])
def test_other_number_of_tokens_is_never_compared(nll: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    assert reference_drift(probed(PLAIN, PROBE, NOISE), probed(PLAIN, replace(PROBE, nll=nll))) is None


@pytest.mark.parametrize("numbers", [1, 2])
def test_fingerprints_of_another_kind_are_never_compared(numbers: int) -> None:
    other = replace(PROBE, fingerprints=PROBE.fingerprints[:, :numbers])
    assert reference_drift(probed(PLAIN, PROBE, NOISE), probed(PLAIN, other)) is None


def test_missing_probe_or_noise_is_nothing_to_compare() -> None:
    assert reference_drift(PLAIN, probed(PLAIN)) is None
    assert reference_drift(probed(PLAIN, PROBE, NOISE), PLAIN) is None
    assert reference_drift(probed(PLAIN), probed(PLAIN)) is None
    assert reference_drift(PLAIN, PLAIN) is None


@pytest.mark.parametrize(("index", "point"), list(enumerate(POINTS)))
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_module_moves_beyond_four_times_its_own_noise(index: int, point: str, number: int, sign: int) -> None:
    noise = replace(COARSE, fingerprints=np.linspace(2.0**-10, 5 * 2.0**-10, 5, dtype=np.float32))
    allowed = sign * NOISE_FACTOR * float(noise.fingerprints[index])
    still = drift(moved_at(point, allowed, WHOLE, number=number), old=WHOLE, noise=noise)
    assert (still.first_moved, still.num_moved) == (None, 0)
    gone = drift(moved_at(point, 1.01 * allowed, WHOLE, number=number), old=WHOLE, noise=noise)
    assert (gone.first_moved, gone.num_moved) == (point, 1)


@given(st.sets(st.sampled_from(POINTS)), st.permutations(POINTS))
def test_first_moved_is_the_first_that_ran_in_the_golden(gone: set[str], order: list[str]) -> None:
    new = PROBE
    for point in gone:
        new = moved_at(point, 0.5, new)
    rows = [new.points.index(point) for point in order]
    new = replace(new, points=tuple(order), fingerprints=new.fingerprints[rows])
    found = drift(new)
    assert found.first_moved == next((point for point in POINTS if point in gone), None)
    assert (found.num_moved, found.num_points) == (len(gone), 5)


def test_modules_that_one_side_lacks_are_skipped() -> None:
    new = moved_at("norm", 0.5, moved_at("embed", 0.5))
    renamed = replace(new, points=("embedding", *new.points[1:]))
    assert drift(renamed).first_moved == "norm"
    fewer = replace(new, points=new.points[1:], fingerprints=new.fingerprints[1:])
    assert (drift(fewer).first_moved, drift(fewer).num_points) == ("norm", 5)
    more = replace(new, points=("extra", *new.points), fingerprints=np.pad(new.fingerprints, ((1, 0), (0, 0))))
    assert drift(more).first_moved == "embed"
    strange = replace(new, points=tuple(f"other.{name}" for name in new.points))
    assert (drift(strange).first_moved, drift(strange).num_moved) == (None, 0)


def test_moved_module_alone_is_no_drift_of_the_meaning() -> None:
    assert drift(moved_at("layers.0", 0.5)).within


@pytest.mark.parametrize(("rms", "weak"), [(0.0, False), (WEAK_ABOVE, False), (1.001 * WEAK_ABOVE, True), (1.0, True)])
def test_probe_is_weak_above_a_tenthousandth_of_a_nat(rms: float, *, weak: bool) -> None:
    assert WEAK_ABOVE == 1e-4
    assert drift(PROBE, noise=replace(NOISE, rms=rms)).weak is weak
