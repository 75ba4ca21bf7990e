"""Perplexity against lm-evaluation-harness on the same checkpoint and the same windows (`tox -e agreement`)."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.baselines.corpus import read_corpus
from esa_pytest.baselines.sources import FileCorpus
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_model
from esa_pytest.evaluation.metrics import compute_metrics
from tests.model.tiny import evaluate_tiny, tiny_baseline, write_corpus

CONTEXT_LENGTH = 1024
NUM_WINDOWS = 3


@pytest.mark.agreement
def test_perplexity_agrees_with_the_rolling_log_likelihood_of_lm_eval(tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    catalog = load_catalog({}, folder=Path())
    checkpoint = locate(catalog.models["smollm2-135m"], hub=Hub())
    model = load_model("smollm2-135m", checkpoint, device=torch.device("cpu"))
    embedded = catalog.corpora["embedded"]
    assert isinstance(embedded, FileCorpus)
    text = "\n\n".join(document.text for document in read_corpus("embedded", embedded).documents)
    # Half a window more than is scored, so that every window of the text is taken.
    beginning = model.tokenizer(text)["input_ids"][: NUM_WINDOWS * CONTEXT_LENGTH + CONTEXT_LENGTH // 2]
    baseline = tiny_baseline(
        checkpoint.folder,
        write_corpus(tmp_path, model.tokenizer.decode(beginning)),
        context_lengths=(CONTEXT_LENGTH,),
        scored_tokens={"cpu": NUM_WINDOWS * CONTEXT_LENGTH},
        batch_tokens={"cpu": CONTEXT_LENGTH},
    )
    prepared, done = evaluate_tiny(model, baseline)
    ours = compute_metrics(done.scores)

    # Our first token is context only. There it is the prefix, and the text begins behind it: the windows are the same.
    scored = np.concatenate([batch.targets.flatten() for batch in prepared.batches])
    theirs = HFLM(
        pretrained=str(checkpoint.folder),
        dtype="bfloat16",
        device="cpu",
        batch_size=1,
        max_length=CONTEXT_LENGTH,
        prefix_token_id=int(prepared.batches[0].input_ids[0, 0]),
        # Otherwise its log-softmax is in bf16 too, which moved this perplexity by 1.3e-3.
        softmax_dtype="float32",
    )
    assert theirs.tok_encode(model.tokenizer.decode(scored)) == scored.tolist()
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=(model.tokenizer.decode(scored),), idx=0)
    (log_likelihood,) = theirs.loglikelihood_rolling([request])

    perplexity = math.exp(-log_likelihood / len(scored))
    print(f"ours {ours.perplexity:.6f}, lm-eval {perplexity:.6f}, relative {ours.perplexity / perplexity - 1:+.2e}")  # noqa: T201
    assert ours.num_scored_tokens == len(scored) == NUM_WINDOWS * CONTEXT_LENGTH
    assert ours.perplexity == pytest.approx(perplexity, rel=1e-3)
