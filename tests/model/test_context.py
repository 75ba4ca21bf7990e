"""What is made of a long context, against a plain forward pass over each window; and its noise."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.context_plan import NUM_TEXTS, ContextPlan
from esa_pytest.errors import CorpusError, InsufficientMemoryError
from esa_pytest.evaluation import noise
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.noise import measure_noise
from esa_pytest.evaluation.preparation import ModelLimits, prepare
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.golden.assembly import summed_up
from esa_pytest.records import LongContext
from tests.model.tiny import build_network, load_folder, running_text, save_tiny, tiny_baseline, write_corpus

CONTEXT, SHORT, CHUNK = 256, 16, 48
PLAN: dict[str, Any] = {
    "longest": {"cpu": 4096},
    "chunk_tokens": {"cpu": CHUNK},
    "short_tokens": SHORT,
    "depths": 1,
    "facts_a_depth": 1,
}


def baseline_of(checkpoint: Path, folder: Path, **plan: Any) -> Baseline:
    corpus = write_corpus(folder, running_text(2500))
    return tiny_baseline(
        checkpoint,
        corpus,
        bos="window",
        context_lengths=(100_000,),
        scored_tokens={"cpu": 768},
        seeds=(1, 2),
        calibration=True,
        context=ContextPlan(**(PLAN | plan)),
    )


def prepare_long(model: LoadedModel, baseline: Baseline, *, positions: int | None = CONTEXT) -> Prepared:
    limits = ModelLimits(positions=positions, embeddings=258)
    return prepare(baseline, model.tokenizer, device_type="cpu", limits=limits, hub=Hub())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("long") / "llama"
    save_tiny("llama", folder)
    loaded = load_folder(folder)
    # In float32 an independent computation agrees to rounding.
    return replace(loaded, network=build_network("llama").float())


@pytest.fixture(scope="module")
def baseline(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    return baseline_of(Path(), tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def done(model: LoadedModel, baseline: Baseline) -> Round:
    return evaluate(model, prepare_long(model, baseline), seed=1, description="", probabilities=True)


@pytest.fixture(scope="module")
def context(done: Round) -> LongContext:
    found = summed_up(done).context
    assert found is not None
    return found


def plain_nll(model: LoadedModel, input_ids: npt.NDArray[np.int64], targets: npt.NDArray[np.int32]) -> Any:
    """NLLs of one window from its whole logits, float64, shape (scored,)."""
    with torch.inference_mode():
        logits = model.network(input_ids=torch.from_numpy(input_ids)[None], use_cache=False).logits[0].double()
    logp = logits.log_softmax(-1)[-len(targets) :]
    return -logp.gather(-1, torch.from_numpy(targets).long()[:, None])[:, 0].numpy()


def test_documents_are_scored_by_a_window_and_its_slide(done: Round) -> None:
    prepared = done.prepared
    assert [r.targets.shape for r in prepared.rectangles] == [(2, CONTEXT), (2, CONTEXT // 2)]
    assert prepared.batch_shapes == "1x256 2x32"
    first, slide = (r.input_ids[0] for r in prepared.rectangles)
    assert np.array_equal(slide[1 : CONTEXT // 2], first[CONTEXT // 2 + 1 :])
    assert sorted(prepared.windows_identity()) == ["tiny/256/1", "tiny/256/1/slide", "tiny/256/2", "tiny/256/2/slide"]
    assert prepared.seed_of_window().tolist() == [1, 2, 1, 2]


def test_the_gain_is_that_of_the_same_targets(model: LoadedModel, done: Round, context: LongContext) -> None:
    texts, prepared = done.prepared.context, done.prepared
    assert texts is not None
    window = prepared.rectangles[0].rows([prepared.probe_window])
    number = texts.num_short
    assert number == CONTEXT // 4
    assert np.array_equal(texts.short.targets.ravel(), window.targets[0, -number:])
    long = plain_nll(model, window.input_ids[0], window.targets[0])[-number:]
    short = np.concatenate(
        [plain_nll(model, *pair) for pair in zip(texts.short.input_ids, texts.short.targets, strict=True)]
    )
    assert context.gain.nats == pytest.approx((short - long).mean(), abs=1e-5)
    assert context.gain.long_nll == pytest.approx(long.mean(), abs=1e-5)
    assert (context.gain.short_context, context.gain.long_context) == (SHORT + 1, CONTEXT - number + 1)


def test_retrieval_compares_each_answer_with_and_without_its_fact(
    model: LoadedModel, done: Round, context: LongContext
) -> None:
    texts = done.prepared.context
    assert texts is not None
    each = [plain_nll(model, *pair) for pair in zip(texts.questions.input_ids, texts.questions.targets, strict=True)]
    gains = []
    for fact, text in enumerate(texts.planted):
        answers = [row[texts.fact == fact].sum() for row in each]
        gains.append(answers[1 - text] - answers[text])
    (found,) = context.retrieval
    assert (found.num_facts, found.label) == (NUM_TEXTS, "0-100%")
    assert found.gain == pytest.approx(np.mean(gains), abs=1e-4)
    assert found.gain == pytest.approx(found.control_nll - found.planted_nll)
    # With two values the 95 % interval is 12.706 times their standard error.
    assert found.error == pytest.approx(12.7062 * abs(gains[0] - gains[1]) / 2, rel=1e-4)


def test_positions_hold_every_token_of_the_documents(done: Round, context: LongContext) -> None:
    nll, position = done.scores.nll.astype(np.float64), done.scores.position
    assert [p.label for p in context.positions] == ["0-15", "16-63", "64-255"]
    assert context.positions[1].mean_nll == pytest.approx(nll[(position >= 16) & (position < 64)].mean())
    assert sum(p.num_tokens for p in context.positions) == nll.size == 768


def test_noise_is_measured_of_every_metric_and_knows_other_chunks(
    model: LoadedModel, baseline: Baseline, context: LongContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "NUM_FLIPS", 1)
    monkeypatch.setattr(noise, "LEAST_PATTERNS", 1)
    rounded = replace(model, network=build_network("llama"))
    first = evaluate(rounded, prepare_long(rounded, baseline), seed=1, description="", probabilities=True)

    def no_room(loaded: LoadedModel, prepared: Prepared, **options: Any) -> Round:
        if prepared.chunk_tokens == CHUNK // 4:
            raise InsufficientMemoryError("The device ran out of memory.")
        return evaluate(loaded, prepared, **options)

    monkeypatch.setattr(noise, "evaluate", no_room)
    found = measure_noise(rounded, baseline, first, elsewhere={})
    assert [v.name for v in found.variants] == ["attention eager", "chunks of 24 tokens", "last bits, seed 0"]
    assert found.untried == ("Chunks of 12 tokens could not be tried: The device ran out of memory.",)
    for variant in found.variants:
        assert set(variant.context) == set(context.metrics)
        # Kernels whose rows do not depend on their number give other chunks the same bits, as those of AVX2 do.
        assert any(variant.context.values()) or variant.name.startswith("chunks")


def test_a_context_without_room_is_refused_with_the_remedy(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"256 tokens is less than four times the 128 .* \(the model has 256 pos"):
        prepare_long(model, baseline_of(Path(), tmp_path, short_tokens=128))
    with pytest.raises(CorpusError, match="No fact fits into half of a context of 256 tokens at 2 depths; lower"):
        prepare_long(model, baseline_of(Path(), tmp_path, depths=2))
    with pytest.raises(CorpusError, match="its 2502 tokens give no window of 6144 tokens"):
        prepare_long(model, baseline_of(Path(), tmp_path), positions=None)
