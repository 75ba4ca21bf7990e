"""Each score is the one of a plain float64 computation, whatever the batch and the chunk."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from esa_pytest.baselines.sources import BosPolicy
from esa_pytest.evaluation import scoring
from esa_pytest.evaluation.byte_tokenizer import VOCABULARY
from esa_pytest.evaluation.likelihoods import BatchScores, LogitsReader
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.scoring import score_batch
from tests.model.oracle import oracle_scores, random_windows
from tests.model.tiny import FAMILIES, build_network, evaluate_tiny, prepare_tiny, tiny_baseline, write_corpus

pytestmark = pytest.mark.usefixtures("native_head")

# Four windows of 32 are one chunk, so that the oracle's head sees the same matrix product.
WINDOWS = random_windows(4, 32, vocabulary=VOCABULARY)


@pytest.mark.parametrize("num_scored", [32, 13, 1])
def test_scores_equal_a_float64_oracle(tiny_model: LoadedModel, num_scored: int) -> None:
    input_ids, targets = WINDOWS[0], WINDOWS[1][:, -num_scored:]
    scores = score_batch(tiny_model.network, input_ids, targets, split_head=True)
    nll, argmax = oracle_scores(tiny_model.network, input_ids, targets)
    torch.testing.assert_close(scores.nll.double(), nll, rtol=0.0, atol=1e-6)
    assert torch.equal(scores.argmax.long(), argmax)
    assert scores.finite.all()
    assert (scores.nll.dtype, scores.argmax.dtype, scores.finite.dtype) == (torch.float32, torch.int32, torch.bool)


def test_mean_nll_is_the_loss_of_transformers(tiny_model: LoadedModel) -> None:
    input_ids, targets = random_windows(1, 40, vocabulary=VOCABULARY)
    tokens = torch.cat([input_ids, targets[:, -1:]], dim=1)
    with torch.inference_mode():
        loss = tiny_model.network(input_ids=tokens, labels=tokens).loss
    scores = score_batch(tiny_model.network, input_ids, targets, split_head=True)
    assert float(scores.nll.mean()) == pytest.approx(float(loss), abs=1e-3)


@pytest.mark.parametrize("split_head", [True, False])
@pytest.mark.parametrize("probabilities", [True, False])
def test_logits_of_another_device_are_read_there(
    *, split_head: bool, probabilities: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the head of a model lies on another GPU than its embedding; here that other device holds no numbers."""
    network, other = build_network("llama"), torch.device("meta")
    network.lm_head.register_forward_hook(lambda _head, _inputs, logits: logits.to(other))
    read, seen = LogitsReader.read, []

    def watched(reader: LogitsReader, logits: Tensor, targets: Tensor, **how: Any) -> BatchScores:
        seen.append({logits.device, targets.device, how["sampled"].device})
        return read(reader, logits, targets, **how)

    monkeypatch.setattr(LogitsReader, "read", watched)
    scores = score_batch(network, *WINDOWS, split_head=split_head, sample_every=4, probabilities=probabilities)
    assert seen
    assert all(devices == {other} for devices in seen)
    assert (scores.nll.device, scores.nll.shape, len(scores.top_ids)) == (other, (128,), 32)


@pytest.mark.parametrize("split_head", [True, False])
@pytest.mark.parametrize(("step", "right"), [(1, True), (0, False), (2, False)])
def test_a_model_that_knows_the_next_token_is_right_and_no_other(
    llama: LoadedModel, tmp_path: Path, step: int, *, right: bool, split_head: bool
) -> None:
    """Were labels shifted twice, or not at all, the model of another step would be the right one."""
    vocabulary = 400
    network, logit = _successor_network(vocabulary, step=step)
    # Each letter's token is the one before it, plus one.
    text = write_corpus(tmp_path, "".join(chr(ord("!") + index) for index in range(49)))
    sizes = {"cpu": 48, "cuda": 48}
    baseline = tiny_baseline(tmp_path, text, context_lengths=(16,), scored_tokens=sizes, batch_tokens=sizes)
    batches = prepare_tiny(replace(llama, network=network), baseline).batches
    targets = torch.cat([torch.from_numpy(batch.targets) for batch in batches]).long()
    input_ids = torch.cat([torch.from_numpy(batch.input_ids) for batch in batches])
    assert targets.flatten().tolist() == list(range(1, 49))
    scores = score_batch(network, input_ids, targets, split_head=split_head)
    # The one logit that is not zero is the target's, or another's.
    expected = math.log(math.exp(logit) + vocabulary - 1) - (logit if right else 0.0)
    assert scores.nll.tolist() == pytest.approx([expected] * 48, rel=1e-5)
    assert bool((scores.argmax == targets.flatten()).all()) is right
    assert bool((scores.argmax == targets.flatten()).any()) is right


def _successor_network(vocabulary: int, *, step: int) -> tuple[PreTrainedModel, float]:
    """A Llama whose layers add nothing and whose head answers token `t` with `t + step`; and that answer's logit."""
    network = build_network(
        "llama", vocab_size=vocabulary, hidden_size=vocabulary, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    scale = 0.5
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        network.get_input_embeddings().weight.copy_(torch.eye(vocabulary))
        network.get_output_embeddings().weight.copy_(scale * torch.eye(vocabulary).roll(step, dims=0))
    return network, scale * math.sqrt(vocabulary)


@pytest.mark.parametrize("size", [1, 2])
def test_scores_do_not_depend_on_the_batch(tiny_model: LoadedModel, size: int) -> None:
    """To the bit: so it is for these sizes with the bf16 kernels of AVX2, AVX-512 and AVX512-BF16."""
    assert torch.equal(_in_batches(tiny_model.network, size), _in_batches(tiny_model.network, 4))


def _in_batches(network: PreTrainedModel, size: int) -> Tensor:
    input_ids, targets = WINDOWS
    groups = zip(input_ids.split(size), targets.split(size), strict=True)
    return torch.cat([score_batch(network, ids, wanted, split_head=True).nll for ids, wanted in groups])


@pytest.mark.parametrize("chunk_rows", [16, 48, 4096])
def test_scores_do_not_depend_on_the_chunk(
    tiny_model: LoadedModel, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    input_ids, targets = WINDOWS
    expected = score_batch(tiny_model.network, input_ids, targets, split_head=True)
    monkeypatch.setattr(scoring, "CHUNK_ROWS", chunk_rows)
    for split_head in (True, False):
        scores = score_batch(tiny_model.network, input_ids, targets, split_head=split_head)
        assert torch.equal(scores.nll, expected.nll)
        assert torch.equal(scores.argmax, expected.argmax)


def test_scores_behind_the_first_chunk_are_of_their_tokens(tiny_model: LoadedModel) -> None:
    """More rows than a chunk has, against the model's own logits."""
    input_ids, targets = random_windows(5, 120, vocabulary=VOCABULARY)
    assert targets.numel() > scoring.CHUNK_ROWS
    scores = score_batch(tiny_model.network, input_ids, targets, split_head=True)
    nll, argmax = oracle_scores(tiny_model.network, input_ids, targets)
    torch.testing.assert_close(scores.nll.double(), nll, rtol=0.0, atol=0.1)
    assert float((scores.nll.double() - nll).abs().median()) < 1e-3
    assert float((scores.argmax == argmax).float().mean()) > 0.95


@pytest.mark.parametrize("chunk_rows", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_of_a_few_rows_give_the_same_float32_scores(
    family: str, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, since a product of one row may take another kernel, whose bf16 rounds otherwise."""
    network = build_network(family).float()
    input_ids, targets = WINDOWS
    expected = score_batch(network, input_ids, targets, split_head=True)
    monkeypatch.setattr(scoring, "CHUNK_ROWS", chunk_rows)
    scores = score_batch(network, input_ids, targets, split_head=True)
    torch.testing.assert_close(scores.nll, expected.nll, rtol=0.0, atol=1e-5)
    assert torch.equal(scores.argmax, expected.argmax)


@pytest.mark.parametrize("bos", ["none", "window"])
@pytest.mark.parametrize("stride", [32, 12])
def test_each_score_is_of_its_token_behind_its_context(
    llama: LoadedModel, llama_checkpoint: Path, corpus: Path, bos: BosPolicy, stride: int
) -> None:
    """Token by token from the text, so that windows, positions, targets and labels must all fit together."""
    sizes = {"cpu": 72, "cuda": 72}
    baseline = tiny_baseline(llama_checkpoint, corpus, bos=bos, stride=stride, scored_tokens=sizes, batch_tokens=sizes)
    model = replace(llama, network=llama.network.float())
    prepared, done = evaluate_tiny(model, baseline)
    ids = llama.tokenizer(corpus.read_text(encoding="utf-8") + "\n\n", add_special_tokens=False)["input_ids"]
    first = [llama.tokenizer.bos_token_id] if bos == "window" else []
    at = 0
    for index, window in enumerate(prepared.segments[0].windows):
        for token in range(window.score_begin, window.score_end):
            prefix = first + ids[window.context_begin : token]
            nll, argmax = oracle_scores(llama.network, torch.tensor([prefix]), torch.tensor([[ids[token]]]))
            assert float(done.scores.nll[at]) == pytest.approx(float(nll), abs=1e-4)
            assert done.scores.argmax[at] == int(argmax)
            assert done.scores.target[at] == ids[token]
            assert (done.scores.window[at], done.scores.position[at]) == (index, len(prefix) - 1)
            at += 1
    assert at == len(done.scores.nll)
    assert at >= 64


def test_with_a_bos_each_token_of_the_text_is_scored_once(
    llama: LoadedModel, llama_checkpoint: Path, corpus: Path
) -> None:
    corpus.write_text(corpus.read_text(encoding="utf-8")[: 4 * 32 - 2], encoding="utf-8")
    baseline = tiny_baseline(llama_checkpoint, corpus, bos="window")
    prepared = prepare_tiny(llama, baseline)
    ids = llama.tokenizer(corpus.read_text(encoding="utf-8") + "\n\n", add_special_tokens=False)["input_ids"]
    assert [token for batch in prepared.batches for token in batch.targets.flatten().tolist()] == ids
    assert all((batch.input_ids[:, 0] == llama.tokenizer.bos_token_id).all() for batch in prepared.batches)
    assert not any((batch.input_ids[:, 1:] == llama.tokenizer.bos_token_id).any() for batch in prepared.batches)
