"""How the noise of bf16 scores is measured: harmless changes that are undone, on samples that fit each other."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.drift.noise_model import LEAST_VARIANTS, why_unmeasured
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation import noise as noise_module
from esa_pytest.evaluation import noise_sample
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.noise import ATTENTION, LEAST_PATTERNS, NUM_FLIPS, measure_noise, other_meanings
from esa_pytest.evaluation.noise_sample import NoiseSample, noise_windows, sample_of
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.rectangle import Rectangle
from esa_pytest.evaluation.reference import rounded_at_probe
from esa_pytest.evaluation.variants import flipped_last_bits, smaller_processors
from esa_pytest.records import CALIBRATION_NAMES
from tests.model.tiny import CONTEXT_LENGTH, evaluate_tiny, load_folder, prepare_tiny, tiny_baseline, write_corpus
from tests.model.twins import state_of


@pytest.fixture(scope="module")
def model(llama_checkpoint: Path) -> LoadedModel:
    return load_folder(llama_checkpoint)


@pytest.fixture(scope="module")
def baseline(llama_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    return tiny_baseline(llama_checkpoint, write_corpus(tmp_path_factory.mktemp("corpus")), calibration=True)


@pytest.fixture(scope="module")
def first(model: LoadedModel, baseline: Baseline) -> Round:
    return round_of(model, prepare_tiny(model, baseline))


def round_of(model: LoadedModel, prepared: Prepared) -> Round:
    return evaluate(model, prepared, seed=1337, description="tiny", probabilities=True)


def comparable(part: Any) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Arrays by their kinds and bytes."""
    return {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in vars(part).items()}


def test_short_run_is_its_own_sample(first: Round) -> None:
    assert noise_windows(first.prepared).tolist() == [0, 1, 2, 3]
    assert noise_windows(first.prepared).dtype == np.int32
    whole, some = sample_of(first), sample_of(first, noise_windows(first.prepared))
    assert comparable(whole.scores) == comparable(some.scores)
    assert comparable(whole.top) == comparable(some.top)
    assert whole.calibration == some.calibration
    assert set(whole.calibration) == set(CALIBRATION_NAMES)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 64)), min_size=1, max_size=3), st.data())
def test_sample_of_a_long_run_holds_the_probe_and_what_fits(shapes: list[tuple[int, int]], data: st.DataObject) -> None:
    sizes = [scored for rows, scored in shapes for _ in range(rows)]
    rectangles = tuple(
        Rectangle(
            input_ids=np.zeros((rows, scored), dtype=np.int64),
            targets=np.zeros((rows, scored), dtype=np.int32),
            strata=np.zeros((rows, scored), dtype=np.int32),
        )
        for rows, scored in shapes
    )
    probe = data.draw(st.integers(0, len(sizes) - 1))
    prepared = Prepared(
        segments=(),
        rectangles=rectangles,
        batch_tokens=64,
        strata=(),
        corpora_sha256={},
        notes=(),
        probe_ids=np.zeros(3, dtype=np.int64),
        probe_window=probe,
        sample_every=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_sample, "MOST_TOKENS", 256)
        windows = noise_windows(prepared).tolist()
    assert windows == sorted(set(windows))
    assert probe in windows
    total = sum(sizes[window] for window in windows)
    assert total <= 256
    # Whatever is left out did not fit any more.
    assert all(total + sizes[window] > 256 for window in range(len(sizes)) if window not in windows)


@pytest.mark.parametrize("windows", [[0], [0, 1, 2, 3], [1, 3], [0, 2], [3]])
def test_part_of_a_round_is_what_a_round_of_the_part_gives(
    windows: list[int], model: LoadedModel, first: Round
) -> None:
    chosen = np.array(windows, dtype=np.int32)
    part, alone = sample_of(first, chosen), sample_of(round_of(model, first.prepared.only(chosen)))
    assert comparable(part.scores) == comparable(alone.scores)
    assert comparable(part.top) == comparable(alone.top)
    assert part.calibration == alone.calibration


@pytest.mark.parametrize("batch_tokens", [1, 32, 96, 1024])
def test_likeliest_tokens_do_not_depend_on_the_batch_shape(batch_tokens: int, model: LoadedModel, first: Round) -> None:
    other = round_of(model, first.prepared.rebatched(batch_tokens))
    assert comparable(other.top) == comparable(first.top)
    assert comparable(other.scores) == comparable(first.scores)
    np.testing.assert_array_equal(first.top.token, np.arange(128, dtype=np.int32))
    # Another logit in bf16 may be as large.
    argmax = first.top.ids == first.scores.argmax[:, None]
    np.testing.assert_array_equal(first.top.log_probability[argmax], first.top.log_probability[:, 0])
    assert (np.diff(first.top.log_probability, axis=1) <= 0).all()
    mass = np.exp(first.top.log_probability.astype(np.float64)).sum(axis=1)
    assert ((mass > 0) & (mass < 1 + 1e-6)).all()


def test_bf16_scores_of_the_probe_are_those_of_its_tokens(first: Round) -> None:
    prepared = first.prepared
    rounded = rounded_at_probe(first.scores, prepared)
    assert rounded is not None
    count = prepared.probe_ids.size - 1
    begin = prepared.probe_window * CONTEXT_LENGTH
    np.testing.assert_array_equal(rounded, first.scores.nll[begin : begin + count])
    np.testing.assert_array_equal(first.scores.target[begin : begin + count], prepared.probe_ids[1:])
    kept = sample_of(first, np.array([prepared.probe_window], dtype=np.int32)).scores
    np.testing.assert_array_equal(rounded, kept.nll[:count])
    longer = np.append(prepared.probe_ids, np.zeros(CONTEXT_LENGTH, dtype=np.int64))
    assert rounded_at_probe(first.scores, _with_probe(prepared, longer)) is None


def _with_probe(prepared: Prepared, ids: Any) -> Prepared:
    return Prepared(**{**vars(prepared), "probe_ids": ids})


def test_noise_of_a_tiny_model(model: LoadedModel, baseline: Baseline, first: Round) -> None:
    before = state_of(model.network)
    noise = measure_noise(model, baseline, first, elsewhere={}, untried=("Nothing else.",))
    assert state_of(model.network) == before
    assert bits_of(round_of(model, first.prepared).scores) == bits_of(first.scores)
    assert noise.distinct_bit_patterns >= LEAST_PATTERNS
    assert len(noise.moved) >= LEAST_VARIANTS
    assert why_unmeasured(noise) is None
    names = [variant.name for variant in noise.variants]
    assert names[0] == "attention eager"
    assert names[1:] == [f"last bits, seed {seed}" for seed in range(len(names) - 1)]
    assert len(names) > NUM_FLIPS
    assert noise.untried == ("Nothing else.",)
    for name in ("nll", "position", "window"):
        np.testing.assert_array_equal(getattr(noise, name), getattr(first.scores, name))
    assert all(set(variant.calibration) == set(CALIBRATION_NAMES) for variant in noise.variants)
    for variant in noise.variants:
        assert (str(variant.drift.dtype), variant.drift.shape) == ("float16", (128,))
        assert variant.kl_top is not None
        assert (variant.kl_top > 0) == bool(variant.drift.any())


def test_variant_is_what_its_change_does(model: LoadedModel, baseline: Baseline, first: Round) -> None:
    variant = measure_noise(model, baseline, first, elsewhere={}).variants[3]
    with flipped_last_bits(model.network, 2):
        scores = round_of(model, first.prepared).scores
    assert variant.name == "last bits, seed 2"
    drift = scores.nll.astype(np.float64) - first.scores.nll
    np.testing.assert_array_equal(variant.drift, drift.astype(np.float16))
    assert variant.num_top1_flips == np.count_nonzero(scores.argmax != first.scores.argmax)
    right = [int(np.count_nonzero(each.argmax == each.target)) for each in (scores, first.scores)]
    assert variant.correct_drift == right[0] - right[1]


def test_noise_of_some_windows_is_of_theirs(
    llama_checkpoint: Path, corpus: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_sample, "MOST_TOKENS", 2 * CONTEXT_LENGTH)
    monkeypatch.setattr(noise_module, "LEAST_PATTERNS", 1)
    monkeypatch.setattr(noise_module, "NUM_FLIPS", 1)
    baseline = tiny_baseline(llama_checkpoint, corpus, calibration=True)
    prepared, _ = evaluate_tiny(model, baseline)
    whole = round_of(model, prepared)
    elsewhere: dict[str, NoiseSample] = {"another machine": sample_of(whole, noise_windows(prepared))}
    noise = measure_noise(model, baseline, whole, elsewhere=elsewhere)
    assert len(noise.windows) == 2
    assert prepared.probe_window in noise.windows.tolist()
    chosen = np.isin(whole.scores.window, noise.windows)
    for name in ("nll", "position", "window"):
        np.testing.assert_array_equal(getattr(noise, name), getattr(whole.scores, name)[chosen])
    same, eager, _ = noise.variants
    assert (same.name, bool(same.drift.any()), same.kl_top) == ("another machine", False, 0.0)
    assert same not in noise.moved
    assert set(same.calibration.values()) == {0.0}
    assert set(eager.calibration) == set(CALIBRATION_NAMES)


def test_model_that_nothing_moves_tells_all_that_was_tried(
    model: LoadedModel, baseline: Baseline, first: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_module, "flipped_last_bits", lambda network, seed: nullcontext())
    monkeypatch.setattr(noise_module, "_MOST_FLIPS", NUM_FLIPS + 2)
    noise = measure_noise(model, baseline, first, elsewhere={})
    assert [variant.name for variant in noise.variants[1:]] == [f"last bits, seed {n}" for n in range(NUM_FLIPS + 2)]
    assert noise.distinct_bit_patterns <= 2
    assert len(noise.moved) <= 1
    assert why_unmeasured(noise) == (
        f"only {len(noise.moved)} harmless changes moved a bit when the golden was recorded"
    )


def test_change_that_overflows_is_told_and_not_counted(
    model: LoadedModel, baseline: Baseline, first: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def overflowing(network: Any, seed: int) -> Iterator[None]:
        weight = network.model.layers[0].mlp.down_proj.weight.data
        before = weight[0, 0].clone()
        weight[0, 0] = torch.inf
        try:
            yield
        finally:
            weight[0, 0] = before

    monkeypatch.setattr(noise_module, "flipped_last_bits", overflowing)
    monkeypatch.setattr(noise_module, "_MOST_FLIPS", 2)
    before = state_of(model.network)
    noise = measure_noise(model, baseline, first, elsewhere={}, untried=("Nothing else.",))
    assert state_of(model.network) == before
    assert [variant.name for variant in noise.variants] == ["attention eager"]
    assert noise.untried == (
        "Nothing else.",
        "Under last bits, seed 0 the scores are not finite.",
        "Under last bits, seed 1 the scores are not finite.",
    )


def test_processor_that_cannot_be_tried_is_told(
    model: LoadedModel, baseline: Baseline, first: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def failing(_baseline: Baseline, **options: Any) -> None:
        asked.append((dict(options["variables"]), options["windows"].tolist(), options["with_probe"]))
        raise EvaluationError("it is gone.")

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(noise_module, "sample_of_fresh_process", failing)
    found, untried = noise_module.other_processors(baseline, model, first, with_probe=True)
    assert found == {}
    assert untried == (
        "The instruction set baseline x86-64 could not be tried: it is gone.",
        "The instruction set that MKL has everywhere could not be tried: it is gone.",
    )
    assert asked == [(dict(variables), [0, 1, 2, 3], True) for variables in smaller_processors().values()]


def test_attention_that_computes_something_else_is_no_noise(
    model: LoadedModel, baseline: Baseline, first: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sdpa without the sliding window that eager attention has: nats apart, which would make room for any drift."""

    @contextmanager
    def without_what_sdpa_has(network: Any, attention: str) -> Iterator[None]:
        norm = network.get_parameter("model.norm.weight")
        norm.data *= 0.125
        yield
        norm.data *= 8.0

    monkeypatch.setattr(noise_module, "with_attention", without_what_sdpa_has)
    noise = measure_noise(model, baseline, first, elsewhere={})
    assert not any(variant.name.startswith(ATTENTION) for variant in noise.variants)
    assert noise.untried == ("Attention eager computes something else here, which is no noise.",)
    assert noise.distinct_bit_patterns >= LEAST_PATTERNS


@given(st.dictionaries(st.sampled_from([f"last bits, seed {n}" for n in range(8)]), st.floats(0, 1)), st.floats(0, 1))
def test_attention_is_noise_up_to_ten_times_the_usual(sizes: dict[str, float], attention: float) -> None:
    found = other_meanings({"attention eager": attention, **sizes})
    moved = [size for size in [attention, *sizes.values()] if size > 0]
    assert found == (["attention eager"] if moved and attention > 10 * float(np.median(moved)) else [])
