"""One round of a baseline: every batch scored, timed, and watched for NaN, in batches that fit the memory."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from esa_pytest.errors import InsufficientMemoryError
from esa_pytest.evaluation.conditions import watch_conditions
from esa_pytest.evaluation.determinism import deterministic, torch_flags
from esa_pytest.evaluation.efficiency import Portion, Yardstick
from esa_pytest.evaluation.finiteness import watch_layers
from esa_pytest.evaluation.head import head_is_separable, head_path
from esa_pytest.evaluation.likelihoods import BatchScores
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.memory import peak_memory
from esa_pytest.evaluation.prefill import locate_in_chunks, score_in_chunks
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.timing import Stopwatch
from esa_pytest.evaluation.widening import widened_products
from esa_pytest.records import Batch, NonFinite, TokenProbabilities, TokenScores, TopProbabilities

# A progress bar appears for what takes longer than this, on a terminal only.
_PROGRESS_DELAY_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one evaluation of all batches gave.

    Attributes:
        scores: per-token values in the order of the batches.
        top: the likeliest tokens at a fixed sample.
        probabilities: what the distributions were like; None where that was not asked for.
        beside: per-token values of the short windows and questions of a long context; None where there are none.
        non_finite: where the first NaN or infinity was met, if any.
        seconds: time of the whole round on the device.
        timed_seconds: time behind the first micro-batch, which warms up, without that of the matrix products beside.
        timed_batches: what was scored within `timed_seconds`.
        portions: those products.
        peak_bytes: peak memory by name.
        conditions: what else the machine did meanwhile, by name.
        head: how the head was applied, as `head_path` calls it.
        flags: torch's switches as they stood during the round.
        prepared: what was scored, in the batches that fitted.
        widened: whether products of bf16 matrices ran in float32.
        halvings: how often the batch was halved for lack of memory.
    """

    scores: TokenScores
    top: TopProbabilities
    probabilities: TokenProbabilities | None
    non_finite: NonFinite | None
    seconds: float
    timed_seconds: float
    timed_batches: tuple[Batch, ...]
    portions: tuple[Portion, ...]
    peak_bytes: dict[str, int]
    conditions: Mapping[str, float | int | str | None]
    head: str
    flags: dict[str, str]
    prepared: Prepared
    beside: TokenScores | None = None
    widened: bool = False
    halvings: int = 0

    @property
    def timed_tokens(self) -> int:
        """Scored tokens within `timed_seconds`."""
        return sum(batch.num_scored for batch in self.timed_batches)

    @property
    def batch_shapes(self) -> str:
        """The shapes that went through the model."""
        return self.prepared.batch_shapes


def evaluate(
    model: LoadedModel,
    prepared: Prepared,
    *,
    seed: int,
    description: str,
    probabilities: bool = False,
    switches: Mapping[str, bool] = MappingProxyType({}),
) -> Round:
    """Score every batch once.

    Where the memory does not suffice, all of it is scored again in batches of half the size: a round has one shape,
    since another shape may round otherwise.

    Args:
        model: the loaded model.
        prepared: what to score.
        seed: for the random states of python, numpy and torch during the round.
        description: what the progress bar says.
        probabilities: whether the distributions are examined too.
        switches: as `deterministic` takes them.

    Raises:
        InsufficientMemoryError: a single window a batch is too much.
    """
    halvings = 0
    while True:
        done = _attempt(model, prepared, seed, description, switches, probabilities=probabilities)
        if done is not None:
            return replace(done, halvings=halvings)
        smaller = prepared.halved()
        if smaller is None:
            size = "context_lengths" if prepared.chunk_tokens is None else "chunk_tokens"
            raise InsufficientMemoryError(
                f"The device {model.device} ran out of memory with a single window a batch ({prepared.batch_shapes}); "
                f"free some, use a larger device, or lower {size} of the baseline type."
            )
        prepared = smaller
        halvings += 1


def _attempt(
    model: LoadedModel,
    prepared: Prepared,
    seed: int,
    description: str,
    switches: Mapping[str, bool],
    *,
    probabilities: bool,
) -> Round | None:
    """A round in the given batches, None where the memory did not suffice."""
    try:
        wanted = prepared.widened_products and model.device.type == "cpu"
        with deterministic(seed=seed, switches=switches), widened_products(wanted=wanted) as widened:
            done = _scored(model, prepared, description=description, probabilities=probabilities)
            return replace(done, widened=widened)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    # Here and not in the except clause, whose traceback holds on to the tensors of the failed attempt.
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is a lack of memory: by its class, or by the messages that accelerate knows."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, Exception) and bool(should_reduce_batch_size(error))


def _scored(model: LoadedModel, prepared: Prepared, *, description: str, probabilities: bool) -> Round:
    batches, beside, device = prepared.batches, prepared.context_batches, model.device
    watch = Stopwatch(device)
    yardstick = Yardstick(model.network, watch)
    # It runs the model once, which brings what a first run alone needs into memory.
    split_head = head_is_separable(model.network, device=device)
    with peak_memory(device) as peak_bytes, watch_conditions(device) as conditions:
        results: list[BatchScores] = []
        begin = warm = end = watch.mark()
        with watch_layers(model.network) as layers, yardstick.laid():
            for index, batch in enumerate(_with_progress((*batches, *beside), description)):
                main = index < len(batches)
                results.append(
                    _score(model, batch, prepared, split_head=split_head, probabilities=probabilities and main)
                )
                if index == 0 and len(batches) > 1:
                    warm = watch.mark()
                if index == len(batches) - 1:
                    end = watch.mark()
        finished = watch.mark()
        finite = [result.finite.cpu().numpy() & np.isfinite(result.nll.cpu().numpy()) for result in results]
        layers_bad = any(bool(bad) for bad in layers.values())
        bad = layers_bad or not all(f.all() for f in finite)
        portions = tuple(yardstick.portions(warm, end))
        non_finite = _blame(model, (*batches, *beside), finite, prepared.chunk_tokens) if bad else None
    scores, others = results[: len(batches)], results[len(batches) :]
    return Round(
        scores=_gather(batches, scores),
        top=_gather_top(batches, scores, every=prepared.sample_every),
        probabilities=_gather_probabilities(scores) if probabilities else None,
        beside=_gather(beside, others) if others else None,
        non_finite=non_finite,
        seconds=watch.seconds(begin, finished),
        timed_seconds=watch.seconds(warm, end) - sum(portion.seconds for portion in portions),
        timed_batches=batches[1:] or batches,
        portions=portions,
        peak_bytes=peak_bytes,
        conditions=conditions,
        head=head_path(model.network, split=split_head),
        flags=torch_flags(),
        prepared=prepared,
    )


def _score(
    model: LoadedModel, batch: Batch, prepared: Prepared, *, split_head: bool, probabilities: bool
) -> BatchScores:
    return score_in_chunks(
        model.network,
        _on(model.device, batch.input_ids),
        _on(model.device, batch.targets.astype(np.int64)),
        chunk_tokens=prepared.chunk_tokens,
        split_head=split_head,
        sample_every=prepared.sample_every,
        probabilities=probabilities,
    )


def _on(device: torch.device, ids: npt.NDArray[np.int64]) -> torch.Tensor:
    """Token ids on a device; a GPU gets them while it works on the batch before."""
    on_host = torch.from_numpy(ids)
    return on_host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_host.to(device)


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


def _gather_top(batches: Sequence[Batch], results: Sequence[BatchScores], *, every: int) -> TopProbabilities:
    columns = np.concatenate([np.tile(np.arange(batch.targets.shape[1]), len(batch.targets)) for batch in batches])
    return TopProbabilities(
        token=np.flatnonzero(columns % every == 0).astype(np.int32),
        ids=torch.cat([result.top_ids for result in results]).cpu().numpy(),
        log_probability=torch.cat([result.top_log_probability for result in results]).cpu().numpy(),
    )


def _gather_probabilities(results: Sequence[BatchScores]) -> TokenProbabilities:
    columns = torch.cat([result.probabilities for result in results if result.probabilities is not None]).cpu().numpy()
    confidence, entropy, brier, top_k_mass = columns.T
    return TokenProbabilities(confidence=confidence, entropy=entropy, brier=brier, top_k_mass=top_k_mass)


def _blame(
    model: LoadedModel,
    batches: Sequence[Batch],
    finite: Sequence[npt.NDArray[np.bool_]],
    chunk_tokens: int | None,
) -> NonFinite:
    """Where the first value that is no number came from: the batch is run again, module by module."""
    first = next((index for index, values in enumerate(finite) if not values.all()), None)
    num_windows = 0
    for index, batch in enumerate(batches):
        if first in (None, index):
            input_ids = torch.from_numpy(batch.input_ids).to(model.device)
            place = locate_in_chunks(model.network, input_ids, chunk_tokens=chunk_tokens)
            if place is not None:
                window = None if place.window is None else place.window + num_windows
                return NonFinite(what=place.what, window=window, token=place.token, layer=place.layer)
        num_windows += len(batch.input_ids)
    return _first_bad_score(batches, finite)


def _first_bad_score(batches: Sequence[Batch], finite: Sequence[npt.NDArray[np.bool_]]) -> NonFinite:
    """A NaN that did not come again when the batch was run a second time, or that the scoring itself made."""
    num_windows = 0
    for batch, values in zip(batches, finite, strict=True):
        if not values.all():
            row, column = divmod(int(np.argmin(values)), batch.targets.shape[1])
            token = batch.input_ids.shape[1] - batch.targets.shape[1] + column
            return NonFinite(what="nll", window=num_windows + row, token=token)
        num_windows += len(batch.input_ids)
    return NonFinite(what="a layer's output, in one of two runs of the same batch")
