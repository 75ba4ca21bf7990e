"""One round of a baseline: every batch scored, timed, and watched for NaN."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from esa_pytest.evaluation.determinism import deterministic
from esa_pytest.evaluation.efficiency import synchronise
from esa_pytest.evaluation.finiteness import locate_non_finite, watch_layers
from esa_pytest.evaluation.loading import LoadedModel, refuse_unknown_tokens
from esa_pytest.evaluation.memory import peak_memory
from esa_pytest.evaluation.preparation import Prepared
from esa_pytest.evaluation.scoring import BatchScores, head_is_separable, score_batch
from esa_pytest.records import Batch, NonFinite, TokenScores

# A progress bar appears for what takes longer than this, on a terminal only.
_PROGRESS_DELAY_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one evaluation of all batches gave.

    Attributes:
        scores: per-token values in the order of the batches.
        non_finite: where the first NaN or infinity was met, if any.
        seconds: wall time of the whole round, synchronised.
        timed_seconds: wall time behind the first micro-batch, which warms up.
        timed_tokens: scored tokens within `timed_seconds`.
        peak_bytes: peak memory by name.
        head_split: whether the head was applied to a few rows at a time.
    """

    scores: TokenScores
    non_finite: NonFinite | None
    seconds: float
    timed_seconds: float
    timed_tokens: int
    peak_bytes: dict[str, int]
    head_split: bool


def evaluate(model: LoadedModel, prepared: Prepared, *, seed: int, description: str) -> Round:
    """Score every batch once.

    Args:
        model: the loaded model.
        prepared: what to score.
        seed: for the random states of python, numpy and torch during the round.
        description: what the progress bar says.
    """
    batches = prepared.batches
    device = model.device
    refuse_unknown_tokens(model.network, batches)
    with deterministic(seed=seed), peak_memory(device) as peak_bytes:
        split_head = head_is_separable(model.network, device=device)
        synchronise(device)
        begin = warm = time.perf_counter()
        results: list[BatchScores] = []
        with watch_layers(model.network) as layers:
            for index, batch in enumerate(_with_progress(batches, description)):
                results.append(
                    score_batch(
                        model.network,
                        torch.from_numpy(batch.input_ids).to(device),
                        torch.from_numpy(batch.targets).to(device, torch.int64),
                        split_head=split_head,
                    )
                )
                if index == 0 and len(batches) > 1:
                    synchronise(device)
                    warm = time.perf_counter()
        synchronise(device)
        end = time.perf_counter()
        finite = [result.finite.cpu().numpy() & np.isfinite(result.nll.cpu().numpy()) for result in results]
        layers_bad = any(bool(bad) for bad in layers.values())
        non_finite = _blame(model, batches, finite) if layers_bad or not all(f.all() for f in finite) else None
    return Round(
        scores=_gather(batches, results),
        non_finite=non_finite,
        seconds=end - begin,
        timed_seconds=end - warm,
        timed_tokens=sum(batch.num_scored for batch in (batches[1:] or batches)),
        peak_bytes=peak_bytes,
        head_split=split_head,
    )


def _with_progress(batches: Sequence[Batch], description: str) -> Iterator[Batch]:
    yield from tqdm(batches, desc=description, unit="batch", disable=None, delay=_PROGRESS_DELAY_SECONDS, leave=False)


def _gather(batches: Sequence[Batch], results: Sequence[BatchScores]) -> TokenScores:
    """The scores of all batches as flat arrays on the host."""
    positions, windows = [], []
    num_windows = 0
    for batch in batches:
        rows, scored = batch.targets.shape
        context_length = batch.input_ids.shape[1]
        positions.append(np.tile(np.arange(context_length - scored, context_length), rows))
        windows.append(np.repeat(np.arange(num_windows, num_windows + rows), scored))
        num_windows += rows
    return TokenScores(
        nll=torch.cat([result.nll for result in results]).cpu().numpy(),
        argmax=torch.cat([result.argmax for result in results]).cpu().numpy(),
        target=np.concatenate([batch.targets.reshape(-1) for batch in batches]),
        position=np.concatenate(positions).astype(np.int32),
        window=np.concatenate(windows).astype(np.int32),
        stratum=np.concatenate([batch.strata.reshape(-1) for batch in batches]),
    )


def _blame(
    model: LoadedModel,
    batches: Sequence[Batch],
    finite: "Sequence[np.ndarray[tuple[int], np.dtype[np.bool_]]]",
) -> NonFinite:
    """Where the first value that is no number came from: the batch is run again, module by module."""
    first = next((index for index, values in enumerate(finite) if not values.all()), None)
    num_windows = 0
    for index, batch in enumerate(batches):
        if first in (None, index):
            place = locate_non_finite(model.network, torch.from_numpy(batch.input_ids).to(model.device))
            if place is not None:
                window = None if place.window is None else place.window + num_windows
                return NonFinite(what=place.what, window=window, token=place.token, layer=place.layer)
        num_windows += len(batch.input_ids)
    return _first_bad_score(batches, finite)


def _first_bad_score(
    batches: Sequence[Batch], finite: "Sequence[np.ndarray[tuple[int], np.dtype[np.bool_]]]"
) -> NonFinite:
    """A NaN that did not come again when the batch was run a second time, or that the scoring itself made."""
    num_windows = 0
    for batch, values in zip(batches, finite, strict=True):
        if not values.all():
            row, column = divmod(int(np.argmin(values)), batch.targets.shape[1])
            token = batch.input_ids.shape[1] - batch.targets.shape[1] + column
            return NonFinite(what="nll", window=num_windows + row, token=token)
        num_windows += len(batch.input_ids)
    return NonFinite(what="a layer's output, in one of two runs of the same batch")
