"""The reference probe as arrays of a golden's side file, and back."""

from typing import Any

import numpy as np

from esa_pytest.errors import GoldenError
from esa_pytest.golden.part_arrays import Arrays, Expected, Shape, refuse_malformed
from esa_pytest.golden.schema import ProbePart
from esa_pytest.records import Probe, ProbeNoise

_NLL, _POINTS, _PRINTS, _NOISE = "probe_nll", "probe_points", "probe_fingerprints", "probe_noise"
_ROUNDED = "probe_rounded_nll"


def probe_part(probe: Probe | None, noise: ProbeNoise | None) -> dict[str, Any] | None:
    """What the JSON says of the probe."""
    if probe is None:
        return None
    return {
        "noise": None
        if noise is None
        else {
            "distinct_bit_patterns": noise.distinct_bit_patterns,
            "maximum": noise.maximum,
            "rms": noise.rms,
            "varied": list(noise.varied),
        },
        "num_points": len(probe.points),
        "num_tokens": int(probe.nll.size),
        "rounded": probe.rounded_nll is not None,
        "version": probe.version,
        "window": probe.window,
    }


def probe_arrays(probe: Probe | None, noise: ProbeNoise | None) -> Arrays:
    """What the side file holds of the probe."""
    if probe is None:
        return {}
    arrays: Arrays = {
        _NLL: probe.nll,
        _POINTS: np.frombuffer("\n".join(probe.points).encode(), dtype=np.uint8),
        _PRINTS: probe.fingerprints,
    }
    if probe.rounded_nll is not None:
        arrays[_ROUNDED] = probe.rounded_nll
    if noise is not None:
        arrays[_NOISE] = noise.fingerprints
    return arrays


def read_probe(part: ProbePart | None, arrays: Arrays, *, name: str) -> tuple[Probe | None, ProbeNoise | None]:
    """The probe of a golden.

    Args:
        part: what its JSON says.
        arrays: those of its side file whose names begin with `probe_`.
        name: what the golden is called in a message.

    Raises:
        GoldenError: an array is missing, too many, of another kind or size, or not finite.
    """
    refuse_malformed(arrays, _expected(part), part="probe", name=name)
    if part is None:
        return None, None
    try:
        points = tuple(arrays[_POINTS].tobytes().decode().split("\n"))
    except UnicodeDecodeError:
        points = ()
    if len(points) != part.num_points:
        raise GoldenError(f"The golden {name} is damaged: its array {_POINTS} does not name {part.num_points} modules.")
    probe = Probe(
        version=part.version,
        nll=arrays[_NLL],
        points=points,
        fingerprints=arrays[_PRINTS],
        window=part.window,
        rounded_nll=arrays.get(_ROUNDED),
    )
    if part.noise is None:
        return probe, None
    return probe, ProbeNoise(
        varied=part.noise.varied,
        distinct_bit_patterns=part.noise.distinct_bit_patterns,
        rms=part.noise.rms,
        maximum=part.noise.maximum,
        fingerprints=arrays[_NOISE],
    )


def _expected(part: ProbePart | None) -> Expected:
    if part is None:
        return {}
    expected: dict[str, tuple[type[np.generic], Shape]] = {
        _NLL: (np.float64, (part.num_tokens,)),
        # How long the modules' names are, and how many numbers make a fingerprint, only the arrays say.
        _POINTS: (np.uint8, (None,)),
        _PRINTS: (np.float32, (part.num_points, None)),
    }
    if part.noise is not None:
        expected[_NOISE] = (np.float32, (part.num_points,))
    if part.rounded:
        expected[_ROUNDED] = (np.float32, (part.num_tokens,))
    return expected
