"""How long each baseline is expected to take: as its last run did, or by the size of its weights and its text."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.sources import FolderModel, WheelModel
from esa_pytest.report.documents import MANIFEST

# Parts of a check as its manifest names them; recording a golden takes others too, which say nothing of judging.
PARTS = ("locate", "load", "prepare", "evaluate", "consistency", "assemble", "reference", "judge")


def expected_seconds(baselines: Sequence[Baseline], output_dir: Path) -> dict[str, float]:
    """Seconds for each baseline, by its id; infinite where nothing is known, so that it begins first.

    Args:
        baselines: of the matrix.
        output_dir: where the last run left its manifests.
    """
    known = {baseline.id: _measured(output_dir / baseline.folder / MANIFEST) for baseline in baselines}
    works = {baseline.id: _work(baseline) for baseline in baselines}
    rates = [seconds / work for name, seconds in known.items() if seconds and (work := works[name])]
    # Without any measurement the sizes alone give the order.
    rate = statistics.median(rates) if rates else 1.0
    return {
        baseline.id: known[baseline.id] or (math.inf if (work := works[baseline.id]) is None else rate * work)
        for baseline in baselines
    }


def _measured(manifest: Path) -> float | None:
    try:
        seconds = json.loads(manifest.read_text(encoding="utf-8"))["seconds"]
        return math.fsum(float(seconds.get(part, 0.0)) for part in PARTS) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _work(baseline: Baseline) -> float | None:
    """Bytes of weights times scored tokens; None where the size is not known without asking anybody."""
    match baseline.model:
        case FolderModel():
            size = sum(path.stat().st_size for path in baseline.model.path.glob("*.safetensors"))
        case WheelModel():
            size = baseline.model.wheel_bytes
        case _:
            return None
    return float(size * max(baseline.type.scored_tokens.values())) or None
