"""The examples of docs/perturbation.md run as they are printed, for every model of a matrix."""

import re
from pathlib import Path

from tests.plugin.conftest import Project

DOCUMENT = Path(__file__).parents[2] / "docs" / "perturbation.md"


def test_sweep_that_is_printed_runs_for_each_model(two_models: Project, bits_taken_for_stable: None) -> None:
    two_models.record()
    examples = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    (sweeping,) = [example for example in examples if "def test_sweep" in example]
    # Two hundred are for a reader's machine.
    two_models.write_test(sweeping.replace("count=200", "count=2"))
    two_models.run().assert_outcomes(passed=2)
    assert len(list(two_models.pytester.path.glob("outputs/*.svg"))) == 2
