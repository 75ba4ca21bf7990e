"""Goldens that measured the noise of their resources, and runs to judge by it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from esa_pytest.records import Record, ResourceNoise, ResourceRound
from tests.unit.builders import ENVIRONMENT, RESOURCES, small_record

MIB = 2**20
EFFICIENCIES = (0.5, 0.505, 0.495, 0.5, 0.51, 0.49, 0.5)
PEAKS = (100.0, 101.0, 99.0, 100.0, 100.0, 102.0, 98.0)
USED: dict[str, float | int | str | None] = {
    **RESOURCES,
    "efficiency": 0.5,
    "efficiency_error": 0.005,
    "efficiency_freedom": 40,
    "timed_seconds": 12.0,
    "peak_cuda_allocated_bytes": 400 * MIB,
    "peak_rss_over_start_bytes": 100 * MIB,
    "memory_granularity_bytes": 2 * MIB,
    "disturbance": None,
}
PLACE = {"cpu.model": "EPYC", "placement": "cpu"}


def noise_of(
    efficiencies: Sequence[float | None] = EFFICIENCIES,
    peaks: Sequence[float | None] = PEAKS,
    *,
    disturbances: Sequence[str | None] | None = None,
) -> ResourceNoise:
    """Rounds of these efficiencies and peaks in MiB."""
    told = disturbances or [None] * len(efficiencies)
    return ResourceNoise(
        rounds=tuple(
            ResourceRound(
                efficiency=efficiency,
                peak_bytes=None if peak is None else round(peak * MIB),
                disturbance=disturbance,
            )
            for efficiency, peak, disturbance in zip(efficiencies, peaks, told, strict=True)
        )
    )


def judged_golden(noise: ResourceNoise | None = None, **used: Any) -> Record:
    """A golden whose throughput and memory can be judged; `used` of its resources are others."""
    return replace(
        small_record(),
        environment={**ENVIRONMENT, **PLACE},
        resources=USED | used,
        resource_noise=noise_of() if noise is None else noise,
    )


def run_using(**used: Any) -> Record:
    """A plain run with the golden's bits that used this; memory in bytes."""
    return replace(judged_golden(), resources=USED | used, resource_noise=None, bit_stability=None)
