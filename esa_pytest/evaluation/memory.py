"""Peak memory of a stretch of work, each figure under the name of what it is."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_HUGE_PAGE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
# What an allocator takes from a device at a time: torch's on CUDA, and a huge page where the kernel does not tell.
_BLOCK_BYTES = 2 * 2**20


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, int]]:
    """Measure the peak while the block runs; the dict is filled on leaving, in bytes.

    On CUDA: `peak_cuda_allocated_bytes` and `peak_cuda_reserved_bytes` of torch's allocator. On CPU:
    `peak_rss_bytes` of the process, weights included; `peak_rss_of_process_bytes` where the kernel cannot reset its
    peak, which is then the peak since the process started. `peak_..._over_start_bytes` is what the work itself took:
    the peak over what was held when it began, which weights and everything else of the process are part of. It is
    known to `memory_granularity_bytes`.
    """
    peaks: dict[str, int] = {}
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        yield peaks
        peaks["peak_cuda_allocated_bytes"] = torch.cuda.max_memory_allocated(device)
        peaks["peak_cuda_allocated_over_start_bytes"] = peaks["peak_cuda_allocated_bytes"] - start
        peaks["peak_cuda_reserved_bytes"] = torch.cuda.max_memory_reserved(device)
        peaks["memory_granularity_bytes"] = _BLOCK_BYTES
        return
    _return_free_memory()
    reset, held = _reset_rss_peak(), _rss("VmRSS")
    yield peaks
    peak = _rss("VmHWM")
    if not reset or held is None or peak is None:
        peaks["peak_rss_of_process_bytes"] = _rss_peak_of_process()
        return
    peaks["peak_rss_bytes"] = peak
    peaks["peak_rss_over_start_bytes"] = max(0, peak - held)
    peaks["memory_granularity_bytes"] = _huge_page_bytes()


def _return_free_memory() -> None:
    """Let the C library give back what it keeps of memory that was freed.

    What earlier work left behind would be held when the work begins, and be used by it without a trace.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
        if trim is not None:
            trim(0)


def _reset_rss_peak() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _rss(field: str) -> int | None:
    """A line of the process's status, in bytes; None where the system has no such file."""
    try:
        text = _STATUS.read_text(encoding="ascii")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields[field].split()[0]) * 1024


def _rss_peak_of_process() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _huge_page_bytes() -> int:
    """The largest piece that the kernel adds to a process at a time."""
    try:
        return int(_HUGE_PAGE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _BLOCK_BYTES
