"""Small reference probes, their noise, and strategies of both."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from esa_pytest.records import Probe, ProbeNoise, Record

POINTS = ("embed", "layers.0.attention", "layers.0.mlp", "layers.0", "norm")
PROBE = Probe(
    version=1,
    nll=np.array([1.0, 2.0, 0.5, 4.0], dtype=np.float64),
    points=POINTS,
    fingerprints=np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3),
)
NOISE = ProbeNoise(
    varied=("attention sdpa", "last bit of inv_freq"),
    distinct_bit_patterns=9,
    rms=1e-6,
    maximum=4e-6,
    fingerprints=np.array([1e-6, 2e-6, 4e-6, 8e-6, 16e-6], dtype=np.float32),
)


def probed(record: Record, probe: Probe | None = PROBE, noise: ProbeNoise | None = None) -> Record:
    """The record with a probe, as a measurement has it; with its noise, as a golden has it."""
    return replace(record, probe=probe, probe_noise=noise)


def moved(amount: float | npt.NDArray[np.float64], probe: Probe = PROBE) -> Probe:
    """The probe with every NLL, or each by its own, changed by so many nats."""
    return replace(probe, nll=probe.nll + amount)


def moved_at(point: str, amount: float, probe: Probe = PROBE, *, number: int = 1) -> Probe:
    """The probe with one number of one module's fingerprint changed."""
    fingerprints = probe.fingerprints.copy()
    fingerprints[probe.points.index(point), number] += amount
    return replace(probe, fingerprints=fingerprints)


def probe_content(record: Record) -> list[Any]:
    """What a record holds of a probe, comparable: arrays by their kinds and bytes."""
    return [
        None if part is None else [(name, _comparable(value)) for name, value in sorted(vars(part).items())]
        for part in (record.probe, record.probe_noise)
    ]


def _comparable(value: Any) -> Any:
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)


finite_float32s = st.floats(allow_nan=False, allow_infinity=False, width=32)
finite_float64s = st.floats(allow_nan=False, allow_infinity=False)
# Modules have names of one line.
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=6)


@st.composite
def probe_pairs(draw: st.DrawFn) -> tuple[Probe | None, ProbeNoise | None]:
    """No probe, a probe, or a probe with its noise."""
    if not draw(st.booleans()):
        return None, None
    points = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    probe = Probe(
        version=draw(st.integers(-3, 9)),
        nll=np.array(draw(st.lists(finite_float64s, min_size=1, max_size=5)), dtype=np.float64),
        points=points,
        fingerprints=_floats(draw, len(points) * 3).reshape(len(points), 3),
    )
    if not draw(st.booleans()):
        return probe, None
    return probe, ProbeNoise(
        varied=tuple(draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=3))),
        distinct_bit_patterns=draw(st.integers(1, 9)),
        rms=draw(finite_float64s),
        maximum=draw(finite_float64s),
        fingerprints=_floats(draw, len(points)),
    )


def _floats(draw: st.DrawFn, size: int) -> npt.NDArray[np.float32]:
    return np.array(draw(st.lists(finite_float32s, min_size=size, max_size=size)), dtype=np.float32)
