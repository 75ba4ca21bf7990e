"""Under pytest-xdist the model that takes longest begins, and all baselines of a model stay with one worker."""

import json

import pytest

from tests.cluster.projects import NAMES, Three

TELLING = """
from pathlib import Path

def test_baseline(esa_baseline, worker_id):
    with Path({path!r}).open("a") as file:
        file.write(f"{{worker_id}} {{esa_baseline.baseline.model_name}}\\\\n")
"""
pytestmark = pytest.mark.cluster


def test_the_longest_model_begins(three: Three) -> None:
    order = three.folder / "order"
    three.project.write_test(TELLING.format(path=str(order)).replace("\\\\n", "\\n"))
    for name, seconds in zip(NAMES, (1.0, 5.0, 9.0), strict=True):
        manifest = three.outputs / f"{name}__smoke/manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"seconds": {"evaluate": seconds}}), encoding="utf-8")
    three.run("-n", "1", "--dist", "loadgroup")
    assert order.read_text(encoding="utf-8").split() == ["gw0", "third", "gw0", "second", "gw0", "tiny"]
