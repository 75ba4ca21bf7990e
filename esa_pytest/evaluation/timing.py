"""Time between points of a device's work: CUDA events where there is a GPU, a clock where there is none."""

import time

import torch


class Stopwatch:
    """Marks points in the work that a device was given; reading the time between them waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[torch.cuda.Event | float] = []

    def mark(self) -> int:
        """Mark the work given so far; returns the mark's number. A GPU is not made to wait."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())
        return len(self._marks) - 1

    def seconds(self, begin: int, end: int) -> float:
        """Seconds between two marks."""
        first, last = self._marks[begin], self._marks[end]
        if isinstance(first, float) or isinstance(last, float):
            assert isinstance(first, float) and isinstance(last, float)  # noqa: PT018, S101  (one device, one kind)
            return last - first
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000.0
