"""How the bf16 scores move when nothing that matters has changed: measured on the model itself with every golden."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.errors import EvaluationError, InsufficientMemoryError
from esa_pytest.evaluation.attention import attention_of, can_switch_attention, with_attention
from esa_pytest.evaluation.divergence import kl_lower_bound
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.fresh import FreshSample, bits_of, sample_of_fresh_process
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.noise_sample import NoiseSample, noise_windows, sample_of
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.variants import flipped_last_bits, sdp_backends, smaller_processors
from esa_pytest.records import Noise, Variant

_ATTENTIONS = ("eager", "sdpa")
ATTENTION = "attention "
# Times the median of all changes that moved something.
NO_NOISE_ABOVE = 10.0
NUM_FLIPS = 8
# Fewer patterns say too little of their spread; more seeds are tried until there are so many.
LEAST_PATTERNS = 12
_MOST_FLIPS = 24


@dataclass(frozen=True, kw_only=True)
class _Change:
    """One change that can be made within this process."""

    name: str
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    batch_tokens: int | None = None
    chunk_tokens: int | None = None
    switches: Mapping[str, bool] = field(default_factory=dict)

    def of(self, prepared: Prepared) -> Prepared:
        """What is scored, in the batches and chunks of the change."""
        batched = prepared if self.batch_tokens is None else prepared.rebatched(self.batch_tokens)
        return batched if self.chunk_tokens is None else batched.rechunked(self.chunk_tokens)


def other_processors(
    baseline: Baseline, model: LoadedModel, first: Round, *, with_probe: bool
) -> tuple[dict[str, FreshSample], tuple[str, ...]]:
    """The run on the smaller instruction sets of a CPU, each in a process of its own.

    Returns:
        The samples by name, and a sentence for each that could not be had.
    """
    found: dict[str, FreshSample] = {}
    untried: list[str] = []
    if model.device.type != "cpu":
        return found, ()
    for name, variables in smaller_processors().items():
        try:
            found[f"instruction set {name}"] = sample_of_fresh_process(
                baseline,
                device=model.device,
                batch_tokens=first.prepared.batch_tokens,
                windows=noise_windows(first.prepared),
                variables=variables,
                with_probe=with_probe,
            )
        except EvaluationError as error:
            untried.append(f"The instruction set {name} could not be tried: {error}")
    return found, tuple(untried)


def measure_noise(
    model: LoadedModel,
    baseline: Baseline,
    first: Round,
    *,
    elsewhere: Mapping[str, NoiseSample],
    untried: tuple[str, ...] = (),
) -> Noise:
    """Score the noise windows again under every change that must not matter.

    Args:
        model: the loaded model; it is as it was afterwards.
        baseline: what was evaluated.
        first: its round, finite.
        elsewhere: samples of other processes, by what was changed in them.
        untried: what could not be tried there.
    """
    windows = noise_windows(first.prepared)
    golden = sample_of(first, windows)
    prepared = first.prepared.only(windows)
    samples: dict[str, NoiseSample] = dict(elsewhere)
    real = list(_real_changes(model, prepared))
    for number, change in enumerate([*real, *_last_bits(model)]):
        if number >= len(real) + NUM_FLIPS and len(_patterns(golden, _harmless(golden, samples))) >= LEAST_PATTERNS:
            break
        found = _sampled(model, baseline, prepared, change)
        if isinstance(found, str):
            untried = (*untried, found)
        else:
            samples[change.name] = found
    kept = _harmless(golden, samples)
    apart = sorted(samples.keys() - kept)
    return Noise(
        windows=windows,
        nll=golden.scores.nll,
        position=golden.scores.position,
        window=windows[golden.scores.window],
        variants=tuple(variant_of(name, golden, sample) for name, sample in kept.items()),
        distinct_bit_patterns=len(_patterns(golden, kept)),
        untried=(*untried, *(f"{_sentence(name)} computes something else here, which is no noise." for name in apart)),
    )


def _sampled(model: LoadedModel, baseline: Baseline, prepared: Prepared, change: _Change) -> NoiseSample | str:
    """The sample under one change, or a sentence that says why there is none."""
    try:
        with change.context():
            done = evaluate(
                model,
                change.of(prepared),
                seed=baseline.type.seeds[0],
                description=f"{baseline.id}, {change.name}",
                probabilities=baseline.type.calibration,
                switches=change.switches,
            )
    except InsufficientMemoryError as error:
        return f"{_sentence(change.name)} could not be tried: {error}"
    if done.non_finite is not None:
        return f"Under {change.name} the scores are not finite."
    return sample_of(done)


def other_meanings(sizes: Mapping[str, float]) -> list[str]:
    """The attention implementations that compute something else, and are no noise of each other.

    Releases of transformers have had a sliding window in one of them and none in the other: nats apart, where rounding
    makes hundredths.

    Args:
        sizes: by the name of a change, the rms of the drift that it made, nats.
    """
    moved = [size for size in sizes.values() if size > 0]
    limit = NO_NOISE_ABOVE * float(np.median(moved)) if moved else np.inf
    return [name for name, size in sizes.items() if name.startswith(ATTENTION) and size > limit]


def _harmless(golden: NoiseSample, samples: Mapping[str, NoiseSample]) -> dict[str, NoiseSample]:
    """The samples without those of an attention implementation that computes something else."""
    apart = other_meanings({name: _rms(golden, sample) for name, sample in samples.items()})
    return {name: sample for name, sample in samples.items() if name not in apart}


def _patterns(golden: NoiseSample, samples: Mapping[str, NoiseSample]) -> set[str]:
    return {bits_of(golden.scores), *(bits_of(sample.scores) for sample in samples.values())}


def _rms(golden: NoiseSample, sample: NoiseSample) -> float:
    return float(np.sqrt(np.mean(np.square(sample.scores.nll.astype(np.float64) - golden.scores.nll))))


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def _last_bits(model: LoadedModel) -> list[_Change]:
    """Rounding errors of the smallest size, with more seeds than are planned."""
    return [
        _Change(name=f"last bits, seed {seed}", context=partial(flipped_last_bits, model.network, seed))
        for seed in range(_MOST_FLIPS)
    ]


def _real_changes(model: LoadedModel, prepared: Prepared) -> Iterator[_Change]:
    network, used = model.network, attention_of(model.network)
    for other in _ATTENTIONS:
        if other != used and can_switch_attention(network, other):
            yield _Change(name=f"{ATTENTION}{other}", context=partial(with_attention, network, other))
    if prepared.chunk_tokens is not None:
        for part in (2, 4):
            size = max(1, prepared.chunk_tokens // part)
            yield _Change(name=f"chunks of {size} tokens", chunk_tokens=size)
    if model.device.type != "cuda":
        # On a CPU neither batch shapes nor threads change a bit; that is asked of `standard`, and told where they do.
        return
    for name, switches in sdp_backends().items():
        yield _Change(name=f"sdpa backend {name}", switches=switches)
    longest = max(prepared.context_lengths)
    for batch_tokens in dict.fromkeys((longest, 2 * longest, 4 * longest)):
        if batch_tokens < prepared.batch_tokens:
            yield _Change(name=f"batches of {batch_tokens} tokens", batch_tokens=batch_tokens)


def variant_of(name: str, golden: NoiseSample, sample: NoiseSample) -> Variant:
    """How the scores of a sample moved under one harmless change, of that name."""
    before, after = golden.scores, sample.scores
    bound = kl_lower_bound(golden.top, sample.top)
    correct = [int(np.count_nonzero(scores.argmax == scores.target)) for scores in (before, after)]
    return Variant(
        name=name,
        # Half precision keeps three digits of a drift, and a golden small.
        drift=(after.nll.astype(np.float64) - before.nll).astype(np.float16),
        num_top1_flips=int(np.count_nonzero(before.argmax != after.argmax)),
        correct_drift=correct[1] - correct[0],
        kl_top=None if bound is None or not bound.size else float(bound.mean()),
        calibration={name: sample.calibration[name] - value for name, value in golden.calibration.items()},
        context={name: sample.context[name] - value for name, value in golden.context.items()},
    )
