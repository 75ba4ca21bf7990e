"""Perplexity against lm-evaluation-harness on the same checkpoint and the same windows (`tox -e agreement`)."""

import math
from pathlib import Path

import pytest
import torch

from esa_pytest.baselines.catalog import load_catalog
from esa_pytest.baselines.corpus import Corpus, Document, read_corpus
from esa_pytest.baselines.windows import full_windows
from esa_pytest.evaluation.checkpoints import locate
from esa_pytest.evaluation.evaluate import evaluate
from esa_pytest.evaluation.loading import load_model
from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.evaluation.preparation import Prepared, Segment, make_batches
from esa_pytest.evaluation.tokenization import tokenize

CONTEXT_LENGTH = 1024
NUM_WINDOWS = 3


@pytest.mark.agreement
def test_perplexity_agrees_with_the_rolling_log_likelihood_of_lm_eval() -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    catalog = load_catalog({}, folder=Path())
    folder = locate(catalog.models["smollm2-135m"]).folder
    model = load_model(folder, device=torch.device("cpu"))
    embedded = read_corpus("embedded", catalog.corpora["embedded"])
    text = "\n\n".join(document.text for document in embedded.documents)
    whole = Corpus(name="joined", sha256="", documents=(Document(stratum="text", text=text),), repeat_to_tokens=None)
    stream = tokenize(whole, model.tokenizer, bos="none")
    windows = full_windows(length=len(stream.ids), context_length=CONTEXT_LENGTH, stride=CONTEXT_LENGTH, bos=False)[
        :NUM_WINDOWS
    ]
    segment = Segment(
        corpus="joined",
        context_length=CONTEXT_LENGTH,
        seed=0,
        windows=tuple(windows),
        batches=tuple(make_batches(stream, windows, size=1)),
    )
    prepared = Prepared(segments=(segment,), strata=stream.strata, corpora_sha256={}, notes=())
    ours = compute_metrics(evaluate(model, prepared, seed=0, description="ours").scores)

    # Our first token is context only. There it is the prefix, and the text begins behind it: the windows are the same.
    scored = stream.ids[1 : windows[-1].score_end]
    theirs = HFLM(
        pretrained=str(folder),
        dtype="bfloat16",
        device="cpu",
        batch_size=1,
        max_length=CONTEXT_LENGTH,
        prefix_token_id=int(stream.ids[0]),
        # Otherwise its log-softmax is in bf16 too, which moved this perplexity by 1.3e-3.
        softmax_dtype="float32",
    )
    assert theirs.tok_encode(model.tokenizer.decode(scored)) == scored.tolist()
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=(model.tokenizer.decode(scored),), idx=0)
    (log_likelihood,) = theirs.loglikelihood_rolling([request])

    perplexity = math.exp(-log_likelihood / len(scored))
    print(f"ours {ours.perplexity:.6f}, lm-eval {perplexity:.6f}, relative {ours.perplexity / perplexity - 1:+.2e}")  # noqa: T201
    assert ours.num_scored_tokens == len(scored)
    assert ours.perplexity == pytest.approx(perplexity, rel=1e-3)
