"""What else a machine did while an evaluation ran, and whether its speed can be believed."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from esa_pytest.evaluation.gpu_conditions import disturbance_of_gpu, read_gpu
from esa_pytest.evaluation.leases import num_workers

# Shares of all cores' time that others, a wait for a core, or a quota may take before the speed is not believed.
MOST_OTHERS = 0.10
MOST_PRESSURE = 0.20
MOST_THROTTLED = 0.02
_PRESSURE = Path("/proc/pressure/cpu")
_CGROUP = Path("/sys/fs/cgroup/cpu.stat")
_IDLE = ("idle", "iowait")
# Counted within `user` and `nice` already.
_TWICE = ("guest", "guest_nice")

Conditions = dict[str, float | int | str | None]


@contextmanager
def watch_conditions(device: torch.device) -> Iterator[Conditions]:
    """Watch the machine while the block runs; the dict is filled on leaving.

    It says under `disturbance`, as a clause, what keeps a speed from being believed; None where nothing does.
    """
    found: Conditions = {}
    on_gpu = device.type == "cuda"
    before, gpu = _Clocks.now(), read_gpu(device) if on_gpu else {}
    yield found
    found |= before.until(_Clocks.now()) | {"xdist_workers": num_workers()}
    if on_gpu:
        found |= read_gpu(device)
        found["disturbance"] = disturbance_of_gpu(gpu) or disturbance_of_gpu(found)
    else:
        found["disturbance"] = disturbance_of_cpu(found)


def disturbance_of_cpu(found: Mapping[str, float | int | str | None]) -> str | None:
    """What keeps the speed of a CPU from being believed, as a clause; None where nothing does."""
    workers = found["xdist_workers"]
    if isinstance(workers, int) and workers > 1:
        return f"{workers} workers of pytest-xdist share the cores"
    others, pressure, throttled = (
        value if isinstance(value := found[f"cpu_{name}_share"], float) else None
        for name in ("others", "pressure", "throttled")
    )
    if others is None and pressure is None:
        return "this system does not tell what else ran on the cores"
    if others is not None and others > MOST_OTHERS:
        return f"other processes took {others:.0%} of the cores, at most {MOST_OTHERS:.0%} are believed"
    if pressure is not None and pressure > MOST_PRESSURE:
        return f"a process waited for a core {pressure:.0%} of the time, at most {MOST_PRESSURE:.0%} are believed"
    if throttled is not None and throttled > MOST_THROTTLED:
        return f"a CPU quota stopped this process {throttled:.0%} of the time"
    return None


@dataclass(frozen=True, kw_only=True)
class _Clocks:
    """Seconds since some beginning.

    Attributes:
        wall: of the clock.
        busy: of all cores together.
        own: of this process and its threads.
        pressure: in which some process waited for a core; None where the kernel does not tell.
        throttled: in which a quota stopped this control group; None where there is none.
    """

    wall: float
    busy: float
    own: float
    pressure: float | None
    throttled: float | None

    @classmethod
    def now(cls) -> "_Clocks":
        every = psutil.cpu_times()._asdict()
        own = os.times()
        return cls(
            wall=time.perf_counter(),
            busy=sum(seconds for name, seconds in every.items() if name not in (*_IDLE, *_TWICE)),
            own=own.user + own.system,
            pressure=_microseconds(_PRESSURE, after="total="),
            throttled=_microseconds(_CGROUP, after="throttled_usec "),
        )

    def until(self, later: "_Clocks") -> Conditions:
        """Shares of the time in between, each None where it cannot be known."""
        wall = max(later.wall - self.wall, 1e-9)
        busy, own = later.busy - self.busy, later.own - self.own
        # Some sandboxes count nothing at all, which must not be taken for silence.
        counted = busy >= own / 2
        cores = os.cpu_count() or 1
        return {
            "cpu_others_share": min(1.0, max(0.0, busy - own) / (wall * cores)) if counted else None,
            "cpu_pressure_share": _share(self.pressure, later.pressure, wall),
            "cpu_throttled_share": _share(self.throttled, later.throttled, wall),
        }


def _share(before: float | None, after: float | None, wall: float) -> float | None:
    return None if before is None or after is None else min(1.0, max(0.0, after - before) / wall)


def _microseconds(path: Path, *, after: str) -> float | None:
    """The first number of microseconds behind a word, in seconds; None where it cannot be read."""
    try:
        text = path.read_text(encoding="ascii")
        return int(text.split(after, 1)[1].split()[0]) / 1e6
    except (OSError, IndexError, ValueError):
        return None
