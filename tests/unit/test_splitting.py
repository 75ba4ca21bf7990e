from pathlib import Path

import pytest

from esa_pytest.baselines.sources import FolderModel
from esa_pytest.errors import RanksMissingError
from esa_pytest.evaluation.ranks import agreed_status, is_follower, local_rank, world_size
from esa_pytest.evaluation.splitting import WHOLE, Split, boundaries, split_of

RANKS = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
MAP = {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": 1, "model.norm": 1, "lm_head": "cuda:1"}


@pytest.fixture
def second_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in RANKS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


def test_a_process_of_its_own_is_its_only_rank() -> None:
    assert (world_size(), local_rank(), is_follower(), agreed_status(3)) == (1, 0, False, 3)


def test_a_rank_left_behind_by_a_scheduler_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (world_size(), is_follower()) == (1, False)


def test_the_second_rank_follows(second_rank: None) -> None:
    assert (world_size(), local_rank(), is_follower()) == (2, 1, True)
    assert split_of("large", FolderModel(path=Path("large"), tensor_parallel=True)).ranks == 2


def test_ranks_and_models_that_do_not_fit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RanksMissingError, match="torchrun --nproc-per-node 8 -m pytest -k large"):
        split_of("large", FolderModel(path=Path("large"), tensor_parallel=True, gpus=8))
    for name, value in RANKS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RanksMissingError, match="is not tensor_parallel, and 2 ranks of torchrun"):
        split_of("small", FolderModel(path=Path("small")))


def test_a_model_is_split_in_one_way_only() -> None:
    with pytest.raises(ValueError, match="by device_map or by tensor_parallel, not by both"):
        FolderModel(path=Path("large"), tensor_parallel=True, device_map="auto")


@pytest.mark.parametrize(
    ("split", "placement"),
    [
        (WHOLE, "cuda:0 cuda:1"),
        (Split(device_map="auto"), "cuda:0 cuda:1, device_map auto, split at model.layers.1 lm_head"),
        (Split(ranks=4), "cuda:0 cuda:1, tensor parallel over 4 ranks"),
    ],
)
def test_the_way_of_splitting_is_part_of_the_placement(split: Split, placement: str) -> None:
    assert split.placement("cuda:0 cuda:1", MAP) == placement


def test_a_map_onto_one_device_has_no_boundary() -> None:
    assert boundaries(dict.fromkeys(MAP, "cpu")) == boundaries({}) == ""


def test_what_from_pretrained_is_told() -> None:
    assert WHOLE.options() == Split(device_map="auto").options() == {}
    (told,) = Split(ranks=2).options().values()
    assert getattr(told, "tp_plan", told) == "auto"
