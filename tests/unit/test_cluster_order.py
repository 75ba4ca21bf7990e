import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.baselines.catalog import Baseline, BaselineType
from esa_pytest.baselines.sources import FileCorpus, FolderModel, HubModel, ModelSource
from esa_pytest.cluster.expected import expected_seconds
from esa_pytest.cluster.needs import Need, Node, need_of, threads_of
from esa_pytest.cluster.order import longest_first

WORKS = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1e6) | st.just(math.inf)))


@given(WORKS)
def test_groups_stay_together_and_the_longest_is_first(works: list[tuple[str, float]]) -> None:
    ordered = longest_first(works, group=lambda work: work[0], seconds=lambda work: work[1])
    assert sorted(ordered) == sorted(works)
    names = [name for index, (name, _) in enumerate(ordered) if index == 0 or ordered[index - 1][0] != name]
    assert len(names) == len(set(names))
    totals = [math.fsum(seconds for name, seconds in works if name == group) for group in names]
    assert totals == sorted(totals, reverse=True)
    for group in names:
        assert [work for work in ordered if work[0] == group] == [work for work in works if work[0] == group]


def baseline(name: str, model: ModelSource, *, tokens: int = 100) -> Baseline:
    return Baseline(
        model_name=name,
        type_name="smoke",
        model=model,
        type=BaselineType(
            corpora=("text",),
            context_lengths=(32,),
            scored_tokens={"cpu": tokens},
            seeds=(1,),
            batch_tokens={"cpu": 32},
        ),
        corpora={"text": FileCorpus(path=Path("text"))},
    )


def folder_model(path: Path, size: int) -> FolderModel:
    path.mkdir()
    (path / "model.safetensors").write_bytes(bytes(size))
    return FolderModel(path=path)


def test_what_ran_before_is_known_the_rest_by_its_size_and_the_unknown_begins_first(tmp_path: Path) -> None:
    known = baseline("known", folder_model(tmp_path / "known", 1000))
    bigger = baseline("bigger", folder_model(tmp_path / "bigger", 4000), tokens=50)
    hub = baseline("hub", HubModel(repo="org/name", revision="0" * 40))
    manifest = tmp_path / "out" / known.folder / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"seconds": {"load": 1, "evaluate": 9, "noise": 500}}), encoding="utf-8")
    found = expected_seconds([known, bigger, hub], tmp_path / "out")
    assert found == {known.id: 10.0, bigger.id: pytest.approx(20.0), hub.id: math.inf}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"seconds": {"load": "x"}}', '{"seconds": 3}'])
def test_a_manifest_that_says_nothing_is_as_none(tmp_path: Path, text: str) -> None:
    known = baseline("known", folder_model(tmp_path / "known", 3))
    path = tmp_path / known.folder / "manifest.json"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert expected_seconds([known], tmp_path) == {known.id: 300.0}


def test_gpus_are_asked_for_where_there_are_any_and_the_device_allows_it() -> None:
    spread = baseline("large", FolderModel(path=Path("large"), gpus=4))
    with_gpu, without = Node(name="a", cpus=8, gpus=8), Node(name="b", cpus=8, gpus=0)
    assert need_of(spread, device="auto", nodes=[without, with_gpu], threads=2) == Need(cpus=1, gpus=4)
    assert need_of(spread, device="auto", nodes=[without], threads=2) == Need(cpus=2)
    assert need_of(spread, device="cpu", nodes=[with_gpu], threads=2) == Need(cpus=2)
    assert need_of(spread, device="cuda", nodes=[without], threads=2) == Need(cpus=1, gpus=4)
    assert with_gpu.fits(Need(cpus=1, gpus=4))
    assert not without.fits(Need(cpus=1, gpus=4))


@pytest.mark.parametrize(("given", "threads"), [("", 1), (" ", 1), ("4", 4), ("4,2", 4), (" 3 , 2", 3)])
def test_a_task_computes_with_the_threads_of_the_outermost_level(given: str, threads: int) -> None:
    assert threads_of(given) == threads
