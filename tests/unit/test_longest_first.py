"""The order of a worker's tests, by what its controller told it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from esa_pytest.baselines.catalog import Baseline, BaselineType
from esa_pytest.baselines.sources import FileCorpus, FolderModel
from esa_pytest.cluster.hooks import LongestFirst
from esa_pytest.resume.hooks import FIXTURE

KIND = BaselineType(
    corpora=("text",), context_lengths=(32,), scored_tokens={"cpu": 1}, seeds=(1,), batch_tokens={"cpu": 32}
)


def item(model: str, type_name: str) -> Any:
    guarded = Baseline(
        model_name=model,
        type_name=type_name,
        model=FolderModel(path=Path(model)),
        type=KIND,
        corpora={"text": FileCorpus(path=Path("text"))},
    )
    return SimpleNamespace(nodeid=guarded.id, callspec=SimpleNamespace(params={FIXTURE: guarded}))


def arranged(config: Any, items: list[Any]) -> list[str]:
    plugin = LongestFirst(cast("pytest.Config", config), settings=lambda: pytest.fail("asked by a worker"))
    plugin.pytest_collection_modifyitems(items)
    return [each.nodeid for each in items]


def test_a_worker_begins_with_the_model_that_takes_longest_in_all() -> None:
    other = SimpleNamespace(nodeid="other")
    items = [other, item("a", "smoke"), item("b", "smoke"), item("a", "standard"), item("c", "smoke")]
    told = {"a-smoke": 1.0, "a-standard": 6.0, "b-smoke": 5.0, "c-smoke": 9.0}
    worker = SimpleNamespace(workerinput={"esa_seconds": told})
    assert arranged(worker, items) == ["c-smoke", "a-smoke", "a-standard", "b-smoke", "other"]


@pytest.mark.parametrize("config", [SimpleNamespace(), SimpleNamespace(workerinput={})])
def test_without_a_controller_that_knows_nothing_is_arranged(config: Any) -> None:
    assert arranged(config, [item("b", "smoke"), item("a", "smoke")]) == ["b-smoke", "a-smoke"]
