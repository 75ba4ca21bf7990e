"""What others reported of a baseline, beside what was measured here; shown, never judged by."""

from collections.abc import Mapping
from typing import Any

from esa_pytest.report.layout import labelled

# Accuracies that are multiples of 1/2048 at perplexities of 1.03 to 1.20: no running text gives such figures.
REMARK = "2025-08-29, CUDA, bf16, on a short paragraph repeated to fill the window: no figures of running text"


def reported_lines(reported: Mapping[str, float]) -> list[str]:
    """The reported figures in one line, with the remark that belongs to them."""
    return [labelled("reported", f"{reported_text(reported)} ({REMARK})")]


def reported_text(reported: Mapping[str, Any]) -> str:
    """The reported figures as a clause."""
    resources = f"{reported['peak_vram_gib']:.2f} GiB  {reported['tokens_per_second']:,.0f} tok/s"
    if reported["loss"] is None:
        return resources
    quality = f"loss {reported['loss']:.4f}  ppl {reported['perplexity']:.4f}  acc {reported['token_accuracy']:.2%}"
    return f"{quality}  {resources}"
