"""Another batch is the same text; every corpus, context length and seed has its share of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.sources import FileCorpus
from esa_pytest.errors import CorpusError
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.preparation import ModelLimits, limits_of, prepare
from esa_pytest.evaluation.prepared import Prepared
from tests.model.tiny import evaluate_tiny, prepare_tiny, running_text, tiny_baseline

SEEDS = (1337, 123, 999)


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    """Two corpora, two context lengths, three seeds."""
    paths = {name: tmp_path / f"{name}.txt" for name in ("long", "short")}
    paths["long"].write_text(running_text(6000, seed=1), encoding="utf-8")
    paths["short"].write_text(running_text(2000, seed=2), encoding="utf-8")
    baseline = tiny_baseline(
        Path(),
        tmp_path,
        corpora=("long", "short"),
        context_lengths=(32, 64),
        seeds=SEEDS,
        scored_tokens={"cpu": 3072},
        batch_tokens={"cpu": 256},
    )
    return baseline.model_copy(update={"corpora": {name: FileCorpus(path=path) for name, path in paths.items()}})


@pytest.fixture
def prepared(llama: LoadedModel, baseline: Baseline) -> Prepared:
    return prepare_tiny(llama, baseline)


def _with_limits(llama: LoadedModel, baseline: Baseline, limits: ModelLimits) -> Prepared:
    return prepare(baseline, llama.tokenizer, device_type="cpu", limits=limits, hub=Hub())


def test_segments_come_by_context_length_then_corpus_then_seed(prepared: Prepared) -> None:
    assert [(s.context_length, s.corpus, s.seed) for s in prepared.segments] == [
        (length, corpus, seed) for length in (32, 64) for corpus in ("long", "short") for seed in SEEDS
    ]


def test_each_segment_has_an_equal_share(prepared: Prepared) -> None:
    scored = [sum(window.num_scored for window in segment.windows) for segment in prepared.segments]
    assert scored == [256] * 12
    assert sum(batch.num_scored for batch in prepared.batches) == 3072


def test_each_seed_chooses_other_windows_in_every_cell(prepared: Prepared) -> None:
    cells: dict[tuple[int, str], set[Any]] = {}
    for segment in prepared.segments:
        cells.setdefault((segment.context_length, segment.corpus), set()).add(segment.windows)
    assert {cell: len(choices) for cell, choices in cells.items()} == dict.fromkeys(cells, len(SEEDS))


def test_the_seed_of_a_window_is_the_one_that_chose_it(llama: LoadedModel, baseline: Baseline) -> None:
    prepared, done = evaluate_tiny(llama, baseline)
    seeds = prepared.seed_of_window()
    per_segment = [8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4]
    assert seeds.tolist() == [seed for count, seed in zip(per_segment, SEEDS * 4, strict=True) for _ in range(count)]
    assert int(done.scores.window.max()) + 1 == len(seeds)
    # The targets of a seed's windows are those of the baseline that has this seed alone.
    alone = baseline.type.model_copy(update={"seeds": (123,), "scored_tokens": {"cpu": 1024}})
    only = evaluate_tiny(llama, baseline.model_copy(update={"type": alone}))[1]
    assert np.array_equal(done.scores.target[seeds[done.scores.window] == 123], only.scores.target)


def test_windows_are_identified_by_corpus_context_length_and_seed(prepared: Prepared) -> None:
    identity = prepared.windows_identity()
    assert list(identity)[:4] == ["long/32/1337", "long/32/123", "long/32/999", "short/32/1337"]
    assert len(identity) == 12


def _others(prepared: Prepared) -> dict[str, Prepared | None]:
    return {
        "halved": prepared.halved(),
        "another shape": prepared.in_another_shape(),
        "rebatched": prepared.rebatched(100_000),
    }


@pytest.mark.parametrize("kind", ["halved", "another shape", "rebatched"])
def test_another_batch_is_the_same_text(prepared: Prepared, kind: str) -> None:
    other = _others(prepared)[kind]
    assert other is not None
    assert other.batch_shapes != prepared.batch_shapes
    assert other.tokens_sha256() == prepared.tokens_sha256()
    assert other.windows_identity() == prepared.windows_identity()
    for field in ("input_ids", "targets", "strata"):
        for length in (32, 64):
            before, after = (
                np.concatenate([getattr(b, field) for b in p.batches if b.input_ids.shape[1] == length])
                for p in (prepared, other)
            )
            assert np.array_equal(before, after)


def test_halving_ends_at_single_windows(prepared: Prepared) -> None:
    shapes = [prepared.batch_shapes]
    smaller = prepared.halved()
    while smaller is not None:
        shapes.append(smaller.batch_shapes)
        smaller = smaller.halved()
    assert shapes == ["8x32 4x64", "4x32 2x64", "2x32 1x64", "1x32 1x64"]


def test_another_shape_is_single_windows_or_two_where_it_was_one(prepared: Prepared) -> None:
    single = prepared.in_another_shape()
    assert single is not None
    assert single.batch_shapes == "1x32 1x64"
    double = single.in_another_shape()
    assert double is not None
    assert double.batch_shapes == "4x32 2x64"


def test_one_window_has_no_other_shape(llama: LoadedModel, corpus: Path) -> None:
    prepared = prepare_tiny(llama, tiny_baseline(Path(), corpus, scored_tokens={"cpu": 32}))
    assert prepared.batch_shapes == "1x32"
    assert prepared.in_another_shape() is None
    assert prepared.halved() is None


def test_another_order_of_the_same_windows_is_another_text(llama: LoadedModel, baseline: Baseline) -> None:
    turned = baseline.type.model_copy(update={"seeds": SEEDS[::-1]})
    first = prepare_tiny(llama, baseline)
    second = prepare_tiny(llama, baseline.model_copy(update={"type": turned}))
    assert first.windows_identity() == second.windows_identity()
    assert first.tokens_sha256() != second.tokens_sha256()


def test_a_context_beyond_the_positions_is_left_out_with_a_note(llama: LoadedModel, baseline: Baseline) -> None:
    prepared = _with_limits(llama, baseline, ModelLimits(positions=63))
    assert prepared.context_lengths == [32]
    assert prepared.notes == ("The context length 64 is left out: the model has 63 positions.",)
    # What is left has all of the tokens.
    assert sum(batch.num_scored for batch in prepared.batches) == 3072


def test_a_context_as_long_as_the_positions_is_scored(llama: LoadedModel, baseline: Baseline) -> None:
    prepared = _with_limits(llama, baseline, ModelLimits(positions=64))
    assert (prepared.context_lengths, prepared.notes) == ([32, 64], ())


def test_a_model_with_fewer_positions_than_every_context_is_refused(llama: LoadedModel, baseline: Baseline) -> None:
    with pytest.raises(CorpusError) as caught:
        _with_limits(llama, baseline, ModelLimits(positions=31))
    assert str(caught.value) == (
        "The model has 31 positions and the baseline's shortest context length is 32; give context_lengths that it "
        "reaches."
    )


def test_the_limits_of_a_model_are_its_own(tiny_model: LoadedModel) -> None:
    assert limits_of(tiny_model.network) == ModelLimits(positions=256, embeddings=258)


def test_a_corpus_without_a_single_window_is_refused(llama: LoadedModel, baseline: Baseline) -> None:
    short = baseline.corpora["short"]
    assert isinstance(short, FileCorpus)
    short.path.write_text(running_text(50), encoding="utf-8")
    with pytest.raises(CorpusError) as caught:
        prepare_tiny(llama, baseline)
    assert str(caught.value) == (
        "The corpus 'short' is too short: its 52 tokens give no window of 64 tokens; give a longer text, or lower "
        "context_lengths of the baseline type."
    )


def test_corpora_that_are_too_short_together_are_refused(llama: LoadedModel, baseline: Baseline) -> None:
    greedy = baseline.type.model_copy(update={"scored_tokens": {"cpu": 100_000}})
    with pytest.raises(CorpusError) as caught:
        prepare_tiny(llama, baseline.model_copy(update={"type": greedy}))
    # A seed may take half of a corpus' 187, 62, 93 and 31 windows.
    capacity = 3 * (94 * 32 + 31 * 32 + 47 * 64 + 16 * 64)
    assert str(caught.value) == (
        f"The corpora are too short: 'long' of 6002 tokens, 'short' of 2002 tokens give {capacity} tokens to score and "
        f"the baseline asks for 100000; give longer texts, or lower scored_tokens of the baseline type."
    )
