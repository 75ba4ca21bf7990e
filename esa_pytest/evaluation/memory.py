"""Peak memory of a stretch of work, each figure under the name of what it is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, int]]:
    """Measure the peak while the block runs; the dict is filled on leaving, in bytes.

    On CUDA: `peak_cuda_allocated_bytes` and `peak_cuda_reserved_bytes` of torch's allocator. On CPU:
    `peak_rss_bytes` of the process, weights included; `peak_rss_of_process_bytes` where the kernel cannot reset its
    peak, which is then the peak since the process started.
    """
    peaks: dict[str, int] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peaks
        peaks["peak_cuda_allocated_bytes"] = torch.cuda.max_memory_allocated(device)
        peaks["peak_cuda_reserved_bytes"] = torch.cuda.max_memory_reserved(device)
        return
    reset = _reset_rss_peak()
    yield peaks
    peaks["peak_rss_bytes" if reset else "peak_rss_of_process_bytes"] = _rss_peak()


def _reset_rss_peak() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _rss_peak() -> int:
    if _STATUS.exists():
        fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines() if ":" in line)
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
