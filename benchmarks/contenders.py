"""Other tools that score the same windows, where they are installed."""

from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.prepared import Prepared

BATCH_SIZES = (1, 2)

# A call that scores all windows, or why there is none.
Contender = Callable[[], Any] | str


def lm_eval(model: LoadedModel, prepared: Prepared) -> dict[str, Contender]:
    """lm-evaluation-harness' HF backend by batch size: its rolling log-likelihood over the same windows."""
    try:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        return {"lm-eval": "not installed (pip install 'lm-eval[hf]==0.4.13')"}
    batches = prepared.batches
    tokens = np.concatenate([batch.targets.flatten() for batch in batches])
    text = model.tokenizer.decode(tokens)
    found: dict[str, Contender] = {}
    for size in BATCH_SIZES:
        # One copy of the weights for all of them.
        theirs = HFLM(
            pretrained=model.network,
            tokenizer=model.tokenizer,
            batch_size=size,
            max_length=batches[0].input_ids.shape[1],
            prefix_token_id=int(batches[0].input_ids[0, 0]),
        )
        requests = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)]
        found[f"lm-eval, batch {size}"] = partial(_quietly, theirs, requests)
    return found


def _quietly(theirs: Any, requests: list[Any]) -> None:
    # Its inner progress bar takes no option.
    with redirect_stderr(StringIO()):
        theirs.loglikelihood_rolling(requests, disable_tqdm=True)


def llama_cpp(prepared: Prepared, gguf: Path) -> dict[str, Contender]:
    """llama.cpp on the quantised file that the embedded checkpoint was made of: the NLL of each target."""
    try:
        from llama_cpp import Llama
    except ImportError:
        return {"llama.cpp": "not installed (pip install llama-cpp-python)"}
    if not gguf.is_file():
        return {"llama.cpp": "there is no GGUF file of this model in the cache"}
    batches = prepared.batches
    model = Llama(str(gguf), n_ctx=batches[0].input_ids.shape[1], n_batch=512, logits_all=True, verbose=False)

    def score() -> float:
        total = 0.0
        for batch in batches:
            for window, targets in zip(batch.input_ids, batch.targets, strict=True):
                model.reset()
                model.eval(window.tolist())
                total += _nll_sum(np.asarray(model.scores[-len(targets) :]), targets)
        return total

    return {"llama.cpp, Q4_1": score}


def _nll_sum(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int32]) -> float:
    largest = logits.max(axis=1)
    log_sum_exp = np.log(np.exp(logits - largest[:, None]).sum(axis=1, dtype=np.float64)) + largest
    return float((log_sum_exp - logits[np.arange(len(targets)), targets]).sum())
