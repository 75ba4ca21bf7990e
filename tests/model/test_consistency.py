"""A run is compared with what should give the same: its other rounds, another batch shape, a fresh process."""

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.sources import FolderModel
from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation import fresh
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import FreshRun, FreshScores, bits_of, scores_of_fresh_process
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.splitting import WHOLE, Split
from esa_pytest.measuring import consistency
from esa_pytest.measuring.consistency import measure_consistency
from esa_pytest.records import Consistency, Repeat
from tests.model.tiny import evaluate_tiny, load_folder, prepare_tiny, tiny_baseline

CPU = torch.device("cpu")
Fresh = Callable[..., FreshScores]


def _rounds(model: LoadedModel, baseline: Baseline, *, count: int = 1) -> list[Round]:
    prepared = prepare_tiny(model, baseline)
    return [evaluate(model, prepared, seed=1337, description="tiny") for _ in range(count)]


def _fresh(monkeypatch: pytest.MonkeyPatch, answer: Fresh) -> None:
    monkeypatch.setattr(consistency, "scores_of_fresh_process", answer)


def _answering(done: Round, **changes: Any) -> FreshScores:
    metrics = compute_metrics(done.scores)
    fields = {
        "bits": bits_of(done.scores),
        "nll_sum": metrics.nll_sum,
        "num_scored_tokens": metrics.num_scored_tokens,
        "num_correct_tokens": metrics.num_correct_tokens,
    }
    return FreshScores(**(fields | changes))


def _measured(baseline: Baseline, model: LoadedModel, rounds: list[Round]) -> Consistency:
    found = measure_consistency(baseline, model, rounds)
    assert found is not None
    return found


def test_a_single_round_with_nothing_to_vary_has_no_consistency(llama: LoadedModel, corpus: Path) -> None:
    baseline = tiny_baseline(Path(), corpus)
    assert measure_consistency(baseline, llama, _rounds(llama, baseline)) is None


def test_every_other_round_is_compared_with_the_first(llama: LoadedModel, corpus: Path) -> None:
    baseline = tiny_baseline(Path(), corpus)
    first, second, third = _rounds(llama, baseline, count=3)
    nll = third.scores.nll.copy()
    nll[5] += 1.0
    third = replace(third, scores=replace(third.scores, nll=nll))
    found = _measured(baseline, llama, [first, second, third])
    assert found.first == compute_metrics(first.scores)
    assert found.repeats == (
        Repeat(kind="round", detail="2", metrics=compute_metrics(first.scores), bit_equal=True),
        Repeat(kind="round", detail="3", metrics=compute_metrics(third.scores), bit_equal=False),
    )
    assert found.repeats[1].metrics.nll_sum == pytest.approx(found.first.nll_sum + 1.0, abs=1e-4)


def test_the_other_shape_is_scored_and_named(llama: LoadedModel, corpus: Path) -> None:
    baseline = tiny_baseline(Path(), corpus, other_batch_shape=True)
    found = _measured(baseline, llama, _rounds(llama, baseline))
    (repeat,) = found.repeats
    assert (repeat.kind, repeat.detail, repeat.bit_equal) == ("batch shape", "1x32", True)
    assert repeat.metrics == found.first
    assert found.impossible == ()


def test_a_model_whose_scores_depend_on_the_shape_is_seen(llama: LoadedModel, corpus: Path) -> None:
    def shift(_module: object, _inputs: object, output: Tensor) -> Tensor:
        return output * 1.5 if len(output) == 1 and output.shape[1] == 32 else output

    llama.network.get_submodule("model.norm").register_forward_hook(shift)
    baseline = tiny_baseline(Path(), corpus, other_batch_shape=True)
    found = _measured(baseline, llama, _rounds(llama, baseline))
    assert not found.repeats[0].bit_equal
    assert found.repeats[0].metrics.nll_sum != found.first.nll_sum


def test_too_little_text_for_another_shape_is_told(llama: LoadedModel, corpus: Path) -> None:
    baseline = tiny_baseline(Path(), corpus, scored_tokens={"cpu": 32}, other_batch_shape=True)
    found = _measured(baseline, llama, _rounds(llama, baseline))
    assert found.repeats == ()
    assert found.impossible == ("there is too little to score for another batch shape",)


def test_a_fresh_process_gets_the_batch_that_fitted(
    llama: LoadedModel, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def answer(baseline: Baseline, *, device: torch.device, batch_tokens: int) -> FreshScores:
        asked.append((baseline.id, device, batch_tokens))
        return _answering(done)

    _fresh(monkeypatch, answer)
    baseline = tiny_baseline(Path(), corpus, fresh_process=True)
    smaller = prepare_tiny(llama, baseline).halved()
    assert smaller is not None
    done = evaluate(llama, smaller, seed=1337, description="halved")
    found = _measured(baseline, llama, [done])
    assert asked == [("tiny-tiny", CPU, 32)]
    assert found.repeats == (Repeat(kind="fresh process", detail="1", metrics=found.first, bit_equal=True),)


def test_a_fresh_process_with_other_bits_is_seen(
    llama: LoadedModel, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = tiny_baseline(Path(), corpus, fresh_process=True)
    (done,) = _rounds(llama, baseline)
    _fresh(monkeypatch, lambda *_a, **_k: _answering(done, bits="other", num_correct_tokens=3))
    (repeat,) = _measured(baseline, llama, [done]).repeats
    assert not repeat.bit_equal
    assert repeat.metrics.num_correct_tokens == 3


def test_each_seed_has_the_metrics_of_its_own_windows(llama: LoadedModel, corpus: Path) -> None:
    sizes = {"cpu": 192}
    baseline = tiny_baseline(Path(), corpus, seeds=(5, 3, 4), scored_tokens=sizes)
    found = _measured(baseline, llama, _rounds(llama, baseline))
    assert sorted(found.seeds) == [3, 4, 5]
    for seed, metrics in found.seeds.items():
        alone = tiny_baseline(Path(), corpus, seeds=(seed,), scored_tokens={"cpu": 64})
        assert metrics == compute_metrics(evaluate_tiny(llama, alone)[1].scores)
    assert len({metrics.nll_sum for metrics in found.seeds.values()}) == 3
    assert found.repeats == ()


def test_a_fresh_process_gives_the_bits_of_this_one(own_checkpoint: Path, own_cache: Path, corpus: Path) -> None:
    baseline = tiny_baseline(own_checkpoint, corpus, bos="window", fresh_process=True)
    model = load_folder(own_checkpoint)
    (done,) = _rounds(model, baseline)
    assert scores_of_fresh_process(baseline, device=CPU, batch_tokens=64) == _answering(done)


def test_a_fresh_process_that_fails_is_told_with_its_last_line(
    own_checkpoint: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = own_checkpoint.parent / "python"
    script.write_text("#!/bin/sh\necho first >&2\necho 'the last line' >&2\nexit 3\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    with pytest.raises(EvaluationError) as caught:
        scores_of_fresh_process(tiny_baseline(own_checkpoint, corpus), device=CPU, batch_tokens=64)
    assert str(caught.value) == (
        "A fresh process that was to repeat tiny-tiny ended with 3 and no result (the last line); mend the cause and "
        "run again."
    )


def test_a_fresh_process_spreads_its_model_as_this_one_does(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = tiny_baseline(Path(), corpus)
    spread = baseline.model_copy(update={"model": FolderModel(path=Path(), device_map="sequential")})
    run = FreshRun(baseline=spread, device="cpu", threads=1, batch_tokens=64)
    asked: list[Split] = []

    def loaded(*_: Any, split: Split = WHOLE, **__: Any) -> None:
        asked.append(split)
        raise EvaluationError("seen")

    monkeypatch.setattr(sys, "stdin", io.StringIO(run.model_dump_json()))
    monkeypatch.setattr(fresh, "locate", lambda *_, **__: None)
    monkeypatch.setattr(fresh, "load_model", loaded)
    with pytest.raises(EvaluationError, match="seen"):
        fresh.main()
    assert asked == [Split(device_map="sequential")]
