"""From a loaded model to a record: what identifies it, what may change its bits, what it used."""

import dataclasses
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.sources import FolderModel
from esa_pytest.errors import CheckpointError, EvaluationError, ModelUnavailableError
from esa_pytest.evaluation.checkpoints import Checkpoint
from esa_pytest.evaluation.efficiency import forward_flops
from esa_pytest.evaluation.likelihoods import BatchScores
from esa_pytest.evaluation.loading import LoadedModel, load_model
from esa_pytest.evaluation.scoring import score_batch
from esa_pytest.measuring.measurement import measure
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.records import METRIC_NAMES, FloatArray, NonFinite, Record, TokenScores
from tests.model.tiny import NUM_LAYERS, evaluate_tiny, save_tiny, tiny_baseline

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def baseline(own_checkpoint: Path, corpus: Path) -> Baseline:
    return tiny_baseline(own_checkpoint, corpus)


@pytest.fixture
def shelved(baseline: Baseline) -> Shelved:
    return ModelShelf(device="cpu").get(baseline)


def _measured(baseline: Baseline, shelved: Shelved, *, rounds: int | None = None) -> Record:
    return measure(
        baseline, shelved, rounds=rounds, benchmark=None, provenance={}, limit=lambda _phase: nullcontext()
    ).record


def _nll(record: Record) -> FloatArray:
    assert isinstance(record.scores, TokenScores)
    return record.scores.nll


def test_the_identity_names_everything_that_makes_it_the_same_experiment(baseline: Baseline, shelved: Shelved) -> None:
    identity = _measured(baseline, shelved).identity
    prepared, _ = evaluate_tiny(shelved.model, baseline)
    assert identity == {
        "model": {"architecture": "LlamaForCausalLM", "dtype": "bfloat16"},
        "checkpoint": {
            "config": shelved.checkpoint.config,
            "weights_sha256": shelved.checkpoint.weights_sha256,
        },
        "tokenizer": {"sha256": shelved.checkpoint.tokenizer_sha256},
        "corpus": {"tiny": {"sha256": prepared.corpora_sha256["tiny"]}},
        "windows": {
            "bos": "none",
            "context_lengths": [32],
            "seeds": [1337],
            "stride": None,
            "sha256": prepared.windows_identity(),
        },
        "tokens": {"sha256": prepared.tokens_sha256()},
        "probe": {"sha256": prepared.probe_sha256()},
        "metrics": list(METRIC_NAMES),
    }


def test_a_smaller_micro_batch_gives_the_same_bits_in_another_environment(baseline: Baseline, shelved: Shelved) -> None:
    one_by_one = baseline.type.model_copy(update={"batch_tokens": {"cpu": 32}})
    first = _measured(baseline, shelved)
    second = _measured(baseline.model_copy(update={"type": one_by_one}), shelved)
    assert first.environment["batch_shapes"] == "2x32"
    assert second.environment["batch_shapes"] == "1x32"
    assert _nll(first).tobytes() == _nll(second).tobytes()


def test_every_round_is_run_and_the_scores_are_the_first_ones(baseline: Baseline, shelved: Shelved) -> None:
    once, thrice = _measured(baseline, shelved), _measured(baseline, shelved, rounds=3)
    assert (once.resources["rounds"], thrice.resources["rounds"]) == (1, 3)
    assert _nll(once).tobytes() == _nll(thrice).tobytes()


def test_a_batch_that_was_too_large_is_noted_and_not_tried_again_by_the_next_round(
    baseline: Baseline, shelved: Shelved, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def short(network: PreTrainedModel, input_ids: Tensor, targets: Tensor, **options: Any) -> BatchScores:
        sizes.append(len(input_ids))
        if len(input_ids) == 2:
            raise torch.OutOfMemoryError
        return score_batch(network, input_ids, targets, **options)

    monkeypatch.setattr("esa_pytest.evaluation.prefill.score_batch", short)
    done = measure(baseline, shelved, rounds=2, benchmark=None, provenance={}, limit=lambda _phase: nullcontext())
    assert sizes == [2] + [1] * 8
    (note,) = done.notes
    assert note == (
        "The device ran out of memory, so the batch was halved once: 1x32 instead of 2x32; all tokens were scored "
        "again in the smaller one."
    )
    assert (done.prepared.batch_tokens, done.record.environment["batch_shapes"]) == (32, "1x32")


def test_rounds_with_other_bits_are_no_measurement(
    baseline: Baseline, shelved: Shelved, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def drifting(network: PreTrainedModel, input_ids: Tensor, targets: Tensor, **options: Any) -> BatchScores:
        calls.append(len(input_ids))
        scores = score_batch(network, input_ids, targets, **options)
        return dataclasses.replace(scores, nll=scores.nll + float(len(calls) > 2))

    monkeypatch.setattr("esa_pytest.evaluation.prefill.score_batch", drifting)
    with pytest.raises(EvaluationError) as caught:
        _measured(baseline, shelved, rounds=3)
    assert str(caught.value) == (
        "3 rounds of tiny-tiny in one process gave 2 bit patterns; one is expected, so look for a kernel that is not "
        "deterministic, or set --esa-rounds 1."
    )


def test_the_phase_that_may_be_limited_is_the_evaluation_with_its_repeats(
    baseline: Baseline, shelved: Shelved, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def limit(phase: str) -> Iterator[None]:
        events.append(f"begin {phase}")
        yield
        events.append("end")

    def score(*arguments: Any, **options: Any) -> BatchScores:
        events.append("score")
        return score_batch(*arguments, **options)

    monkeypatch.setattr("esa_pytest.evaluation.prefill.score_batch", score)
    in_two_shapes = baseline.type.model_copy(update={"other_batch_shape": True})
    measure(
        baseline.model_copy(update={"type": in_two_shapes}),
        shelved,
        rounds=1,
        benchmark=None,
        provenance={},
        limit=limit,
    )
    assert events == ["begin evaluate", *["score"] * 6, "end"]


def test_finite_scores_whose_perplexity_is_not_finite_are_no_measurement(baseline: Baseline, shelved: Shelved) -> None:
    shelved.model.network.lm_head.weight.mul_(1000)
    record = _measured(baseline, shelved)
    assert bool(torch.from_numpy(_nll(record)).isfinite().all())
    assert record.non_finite == NonFinite(what="perplexity")
    assert record.metrics is None


def test_a_nan_is_carried_into_the_record(baseline: Baseline, shelved: Shelved) -> None:
    shelved.model.network.model.norm.weight[3] = float("nan")
    record = _measured(baseline, shelved)
    assert record.non_finite == NonFinite(what="output", window=0, token=0, layer="model.norm")
    assert record.metrics is None


def test_the_environment_holds_what_may_change_bits(
    baseline: Baseline, shelved: Shelved, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_SCHEDULE", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    before = _measured(baseline, shelved).environment
    monkeypatch.setenv("OMP_SCHEDULE", "static")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("ESA_SOMETHING", "else")
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    after = _measured(baseline, shelved).environment
    assert dict(after.items() - before.items()) == {
        "env.OMP_SCHEDULE": "static",
        "env.ONEDNN_MAX_CPU_ISA": "AVX2",
        "cpu.instruction_set": f"{before['cpu.instruction_set']}, oneDNN up to AVX2",
        "torch.mkldnn": "False",
    }
    assert before.items() - after.items() == {(key, before[key]) for key in ("cpu.instruction_set", "torch.mkldnn")}
    assert list(before) == sorted(before)
    assert before["cpu.threads"] == str(torch.get_num_threads())
    assert (before["attention"], before["scoring.head"].split(",")[0]) == ("sdpa", "split")


def test_operations_are_counted_as_torch_counts_them(tiny_model: LoadedModel, corpus: Path) -> None:
    prepared, _ = evaluate_tiny(tiny_model, tiny_baseline(Path(), corpus, stride=16))
    batch = prepared.batches[0]
    with FlopCounterMode(display=False) as counted:
        score_batch(
            tiny_model.network,
            torch.from_numpy(batch.input_ids),
            torch.from_numpy(batch.targets).long(),
            split_head=True,
        )
    # torch leaves attention out on the CPU: 2 * hidden * context a token and layer, the causal half of the square.
    attention = batch.input_ids.size * NUM_LAYERS * 2 * 64 * 32
    assert forward_flops(tiny_model.network, (batch,)) == counted.get_total_flops() + attention


def test_the_shelf_keeps_the_last_model_and_drops_it_before_it_loads_another(
    baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny("gpt-neox", tmp_path / "other")
    other = baseline.model_copy(update={"model_name": "other", "model": FolderModel(path=tmp_path / "other")})
    shelf = ModelShelf(device="cpu")
    first = weakref.ref(shelf.get(baseline).model.network)
    assert shelf.get(baseline.model_copy(update={"type_name": "longer"})).model.network is first()
    still_there = []

    def load(name: str, checkpoint: Checkpoint, **options: Any) -> LoadedModel:
        still_there.append(first() is not None)
        return load_model(name, checkpoint, **options)

    monkeypatch.setattr("esa_pytest.measuring.shelf.load_model", load)
    second = weakref.ref(shelf.get(other).model.network)
    assert type(second()).__name__ == "GPTNeoXForCausalLM"
    assert still_there == [False]
    shelf.clear()
    assert second() is None


def test_an_unavailable_model_is_found_out_once(baseline: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def absent(model: object, **_: object) -> NoReturn:
        asked.append(model)
        raise ModelUnavailableError("nobody answers")

    monkeypatch.setattr("esa_pytest.measuring.shelf.locate", absent)
    shelf = ModelShelf(device="cpu")
    for _ in range(2):
        with pytest.raises(ModelUnavailableError, match="nobody answers"):
            shelf.get(baseline)
    assert asked == [baseline.model]


def test_a_damaged_model_is_refused_and_the_next_one_loads(baseline: Baseline, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = baseline.model_copy(update={"model_name": "empty", "model": FolderModel(path=tmp_path / "empty")})
    shelf = ModelShelf(device="cpu")
    first = dataclasses.replace(shelf.get(baseline).checkpoint, hash_seconds=0.0)
    with pytest.raises(CheckpointError):
        shelf.get(empty)
    again = dataclasses.replace(shelf.get(baseline).checkpoint, hash_seconds=0.0)
    assert dataclasses.asdict(again) == dataclasses.asdict(first)
