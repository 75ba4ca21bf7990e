"""The matrix products beside an evaluation: of the model's own shapes, few, and without a trace in its scores."""

import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.evaluation import evaluate as evaluation
from esa_pytest.evaluation.efficiency import (
    LEAST_APART,
    LEAST_COLUMNS,
    PART,
    Portion,
    Yardstick,
    ceiling_of,
    forward_flops,
)
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.memory import peak_memory
from esa_pytest.evaluation.timing import Stopwatch
from esa_pytest.golden.assembly import resources_of
from tests.model.tiny import FAMILIES, NUM_LAYERS, build_network, evaluate_tiny, prepare_tiny, tiny_baseline

CPU = torch.device("cpu")
MIB = 2**20


def portions_of(family: str, *, tokens: int, passes: int, **changes: int) -> list[Portion]:
    """What a yardstick measures while a network reads so many tokens so many times."""
    network, watch = build_network(family, **changes), Stopwatch(CPU)
    yardstick = Yardstick(network, watch)
    begin = watch.mark()
    with yardstick.laid(), torch.inference_mode():
        for _ in range(passes):
            network(input_ids=torch.arange(tokens)[None])
    end = watch.mark()
    assert not any(module._forward_pre_hooks for module in network.modules())
    return yardstick.portions(begin, end)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_are_parts_of_the_models_own_and_each_has_its_turn(family: str) -> None:
    network = build_network(family)
    matrices = {m.weight.shape for m in network.modules() if isinstance(m, torch.nn.Linear)} - {
        network.get_output_embeddings().weight.shape
    }
    head = network.get_output_embeddings().weight[: math.ceil(network.config.vocab_size / NUM_LAYERS)].shape
    expected = {(32, max(LEAST_COLUMNS, rows // PART), width) for rows, width in {*matrices, head}}
    expected |= {(32, min(columns, rows), width) for rows, width in {*matrices, head} for columns in (LEAST_COLUMNS,)}
    found = portions_of(family, tokens=32, passes=8)
    assert {portion.shape for portion in found} <= expected
    assert {portion.shape[2] for portion in found} == {width for _, width in {*matrices, head}}
    assert all(portion.seconds > 0 and portion.flops == 2 * math.prod(portion.shape) for portion in found)


def test_they_take_a_fortieth_of_the_products_that_they_stand_beside() -> None:
    wide = {"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 8}
    found = portions_of("llama", tokens=16, passes=5, **wide)
    network = build_network("llama", **wide)
    head = network.get_output_embeddings().weight.numel()
    products = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Linear)) - head
    share = sum(portion.flops for portion in found) / (5 * 2 * 16 * (products + head))
    # The smallest products of a tiny model are not cut below a width that other kernels would take.
    assert 0.8 / (PART * LEAST_APART) <= share <= 1.6 / (PART * LEAST_APART)


def test_scores_have_the_same_bits_beside_them(
    tiny_model: LoadedModel, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = tiny_baseline(Path(), corpus)
    _, beside = evaluate_tiny(tiny_model, baseline)
    assert beside.portions
    monkeypatch.setattr(Yardstick, "_measure", lambda *_: None)
    _, alone = evaluate_tiny(tiny_model, baseline)
    assert not alone.portions
    assert bits_of(beside.scores) == bits_of(alone.scores)


def test_their_time_is_not_the_evaluations(
    tiny_model: LoadedModel, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**9))
    monkeypatch.setattr("esa_pytest.evaluation.timing.time.perf_counter", lambda: float(next(clock)))
    prepared = prepare_tiny(tiny_model, tiny_baseline(Path(), corpus))
    done = evaluation.evaluate(tiny_model, prepared, seed=1, description="tiny")
    marks = done.timed_seconds + sum(portion.seconds for portion in done.portions)
    # Every mark is a second: two for each portion, one that they share with what comes next, and the last.
    assert [portion.seconds for portion in done.portions] == [1.0] * len(done.portions)
    assert marks == 2 * len(done.portions) + 1
    used = resources_of(tiny_model, [done])
    ceiling = sum(portion.flops for portion in done.portions) / len(done.portions)
    achieved = forward_flops(tiny_model.network, done.timed_batches) / done.timed_seconds
    assert used["efficiency"] == pytest.approx(achieved / ceiling)
    assert used["throughput_tokens_per_second"] == done.timed_tokens / done.timed_seconds


def test_without_products_there_is_no_efficiency(
    tiny_model: LoadedModel, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Yardstick, "_measure", lambda *_: None)
    _, done = evaluate_tiny(tiny_model, tiny_baseline(Path(), corpus))
    used = resources_of(tiny_model, [done])
    assert used["efficiency"] is used["efficiency_error"] is used["matrix_product_flops_per_second"] is None
    assert used["efficiency_freedom"] == 0


def test_a_network_that_lies_on_several_ranks_is_measured_beside_none() -> None:
    network, watch = build_network("llama"), Stopwatch(CPU)
    # As a DTensor has it.
    network.get_output_embeddings().weight.placements = ()
    begin = watch.mark()
    yardstick = Yardstick(network, watch)
    with yardstick.laid(), torch.inference_mode():
        for _ in range(LEAST_APART):
            network(input_ids=torch.arange(8)[None])
    assert yardstick.portions(begin, watch.mark()) == []


@given(st.lists(st.tuples(st.integers(1, 4), st.floats(1e-4, 10)), min_size=1, max_size=30))
def test_ceiling_is_the_rate_of_all_and_its_error_that_of_equal_work(drawn: list[tuple[int, float]]) -> None:
    portions = [Portion(shape=(size,), flops=float(size), seconds=seconds) for size, seconds in drawn]
    ceiling = ceiling_of(portions)
    assert ceiling is not None
    total = sum(seconds for _, seconds in drawn)
    assert ceiling.flops_per_second == pytest.approx(sum(size for size, _ in drawn) / total)
    assert ceiling.freedom == len(drawn) - len({size for size, _ in drawn})
    assert (ceiling.error == math.inf) is (ceiling.freedom == 0)
    doubled = ceiling_of([*portions, *portions])
    assert doubled is not None
    if 0 < ceiling.error < math.inf:
        assert doubled.error < ceiling.error


def test_error_of_equal_products_is_that_of_their_mean() -> None:
    times = [1.0, 1.2, 0.8, 1.1, 0.9]
    found = ceiling_of([Portion(shape=(1,), flops=1.0, seconds=seconds) for seconds in times])
    assert found is not None
    assert found.error == pytest.approx(torch.tensor(times).std().item() / math.sqrt(5), rel=1e-6)
    assert ceiling_of([]) is None


def test_peak_over_the_beginning_is_what_the_work_took_whatever_was_held_and_freed_before() -> None:
    held = torch.ones(64 * MIB, dtype=torch.uint8)
    freed = [torch.ones(MIB, dtype=torch.uint8) for _ in range(64)]
    freed.clear()
    with peak_memory(CPU) as peaks:
        torch.ones(32 * MIB, dtype=torch.uint8)
    assert held.numel() == 64 * MIB
    assert peaks["peak_rss_over_start_bytes"] + 2 * MIB >= 32 * MIB
    assert peaks["peak_rss_over_start_bytes"] <= 40 * MIB
    assert peaks["peak_rss_bytes"] > 96 * MIB
    assert peaks["memory_granularity_bytes"] >= 4096


class FakeEvent:
    """A CUDA event of a GPU that works a quarter of a second from one to the next."""

    log: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.number = len(self.log)

    def record(self, stream: object) -> None:
        self.log.append(("record", self.number, stream))

    def synchronize(self) -> None:
        self.log.append(("synchronize", self.number))

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert ("synchronize", end.number) in self.log
        return 250.0 * (end.number - self.number)


def test_stopwatch_of_a_gpu_marks_its_stream_and_waits_only_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the current stream of {device}")
    monkeypatch.setattr(FakeEvent, "log", [])
    watch = Stopwatch(torch.device("cuda", 1))
    marks = [watch.mark() for _ in range(3)]
    assert FakeEvent.log == [("record", number, "the current stream of cuda:1") for number in range(3)]
    assert watch.seconds(marks[0], marks[2]) == 0.5
    assert FakeEvent.log[3:] == [("synchronize", 2)]
