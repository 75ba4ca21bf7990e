"""Goldens with noise, and the runs to judge by it, from a seeded generator whose tails are heavy as those of bf16."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from esa_pytest.drift.paired import scale_of
from esa_pytest.evaluation.divergence import kl_lower_bound
from esa_pytest.records import Noise, Probe, Record, TokenScores, TopProbabilities, Variant
from tests.unit.builders import (
    CALIBRATION,
    ENVIRONMENT,
    finite_floats,
    int32s,
    keys,
    scored,
    small_record,
    texts,
    tokens_of,
    windowed_scores,
)
from tests.unit.probe_builders import NOISE as PROBE_NOISE
from tests.unit.probe_builders import POINTS, finite_float32s

Values = npt.NDArray[np.float64]

NUM_WINDOWS, CONTEXT, NUM_VARIANTS = 2, 1024, 12
SIZE = 0.003
MEAN_FLIPS = 20
CALIBRATION_SIZE = 1e-4
_PROBE_TOKENS = 512
_NUM_SAMPLED, _NUM_LOGITS, _NUM_LIKELIEST = 64, 40, 10


def noisy_drift(scale: Values, generator: np.random.Generator, *, runs: int | None = None) -> Values:
    """Student's t with 4 degrees times each token's scale, shape (tokens,) or (runs, tokens).

    Every run has a size of its own, as one kernel rounds a little worse than another.
    """
    shape = scale.shape if runs is None else (runs, scale.size)
    sizes = SIZE * np.exp(0.05 * generator.standard_normal(shape[:-1]))
    return np.asarray(sizes[..., None] * generator.standard_t(4, shape) * scale)


def logits_of(seed: int = 5) -> Values:
    """The logits at the sampled tokens, shape (sample, vocabulary)."""
    return 2.0 * np.random.default_rng(seed).standard_normal((_NUM_SAMPLED, _NUM_LOGITS))


def top_of(logits: Values, *, token: Sequence[int] | None = None) -> TopProbabilities:
    """The likeliest tokens of logits."""
    logp = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    ids = np.argsort(-logp, axis=1)[:, :_NUM_LIKELIEST]
    return TopProbabilities(
        token=np.array(range(len(logits)) if token is None else token, dtype=np.int32),
        ids=ids.astype(np.int32),
        log_probability=np.take_along_axis(logp, ids, axis=1).astype(np.float32),
    )


def noisy_top(generator: np.random.Generator, *, size: float = SIZE) -> TopProbabilities:
    """The likeliest tokens as a run with noise finds them."""
    return top_of(logits_of() + size * generator.standard_normal((_NUM_SAMPLED, _NUM_LOGITS)))


def variant_of(name: str, drift: Values, generator: np.random.Generator) -> Variant:
    """A harmless change of such a drift."""
    bound = kl_lower_bound(top_of(logits_of()), noisy_top(generator))
    assert bound is not None
    return Variant(
        name=name,
        drift=drift.astype(np.float16),
        num_top1_flips=int(generator.poisson(MEAN_FLIPS)),
        correct_drift=int(generator.integers(-4, 5)),
        kl_top=float(bound.mean()),
        calibration={
            metric: CALIBRATION_SIZE * float(generator.standard_normal())
            for metric in ("brier", "ece", "mean_entropy", "top_k_mass")
        },
    )


def noise_of(scores: TokenScores, *, num_variants: int = NUM_VARIANTS, seed: int = 1) -> Noise:
    """The noise of a run, all of its windows."""
    generator = np.random.default_rng(seed)
    drifts = noisy_drift(scale_of(scores.nll), generator, runs=num_variants)
    return Noise(
        windows=np.unique(scores.window).astype(np.int32),
        nll=scores.nll,
        position=scores.position,
        window=scores.window,
        variants=tuple(
            variant_of(f"last bits, seed {number}", drift, generator) for number, drift in enumerate(drifts)
        ),
        distinct_bit_patterns=num_variants + 1,
    )


def noisy_golden(
    *,
    num_windows: int = NUM_WINDOWS,
    context: int = CONTEXT,
    num_variants: int = NUM_VARIANTS,
    seed: int = 0,
    calibrated: bool = False,
) -> Record:
    """A golden with everything that tier 4 reads."""
    scores = windowed_scores([context] * num_windows, seed=seed)
    return replace(
        small_record(scores),
        probe=_probe_of(scores, np.random.default_rng(seed + 1000)),
        probe_noise=PROBE_NOISE,
        top=top_of(logits_of()),
        noise=noise_of(scores, num_variants=num_variants, seed=seed + 1),
        calibration=CALIBRATION if calibrated else None,
    )


def _probe_of(scores: TokenScores, generator: np.random.Generator) -> Probe:
    rounded = scores.nll[: min(_PROBE_TOKENS, int(np.count_nonzero(scores.window == 0)))]
    return Probe(
        version=1,
        nll=rounded.astype(np.float64) - noisy_drift(scale_of(rounded), generator),
        points=POINTS,
        fingerprints=np.zeros((len(POINTS), 3), dtype=np.float32),
        rounded_nll=rounded,
    )


def run_of(
    golden: Record,
    drift: Values,
    *,
    flips: int = MEAN_FLIPS,
    top: TopProbabilities | None = None,
    elsewhere: bool = True,
) -> Record:
    """A run whose NLLs are the golden's and a drift; as many wrong argmaxes are others, and none becomes right."""
    scores = tokens_of(golden)
    nll = (scores.nll.astype(np.float64) + drift).astype(np.float32)
    argmax = scores.argmax.copy()
    argmax[np.flatnonzero(argmax != scores.target)[:flips]] = 99
    probe = golden.probe
    if probe is not None and probe.rounded_nll is not None:
        probe = replace(probe, rounded_nll=nll[: probe.nll.size])
    measured = scored(golden, replace(scores, nll=nll, argmax=argmax))
    return replace(
        measured,
        probe=probe,
        probe_noise=None,
        noise=None,
        top=golden.top if top is None else top,
        environment=ENVIRONMENT | ({"version.torch": "2.10.0"} if elsewhere else {}),
    )


def clean_run(golden: Record, seed: int, *, elsewhere: bool = True) -> Record:
    """A run that differs from the golden by noise alone."""
    generator = np.random.default_rng(10_000 + seed)
    drift = noisy_drift(scale_of(tokens_of(golden).nll), generator)
    flips = int(generator.poisson(MEAN_FLIPS))
    return run_of(golden, drift, flips=flips, top=noisy_top(generator), elsewhere=elsewhere)


# Few enough to be read, of a run of six tokens.
SMALL_NOISE = Noise(
    windows=np.array([0, 2], dtype=np.int32),
    nll=np.array([1.0, 2.0, 0.5, 1.5], dtype=np.float32),
    position=np.array([0, 1, 0, 1], dtype=np.int32),
    window=np.array([0, 0, 2, 2], dtype=np.int32),
    variants=tuple(
        Variant(
            name=name,
            drift=np.array([size, 0, -size, 0], dtype=np.float16),
            num_top1_flips=1,
            correct_drift=-1,
            kl_top=kl,
            calibration={"ece": size},
        )
        for name, size, kl in (("attention eager", 0.5, 1e-6), ("last bits, seed 0", 0.25, None))
    ),
    distinct_bit_patterns=3,
    untried=("The instruction set avx2 could not be tried: no.",),
)
SMALL_TOP = TopProbabilities(
    token=np.array([1, 4], dtype=np.int32),
    ids=np.array([[7, 3, 9], [2, 1, 0]], dtype=np.int32),
    log_probability=np.array([[-0.5, -1, -2], [-0.1, -3, -4]], dtype=np.float32),
)


def comparable(value: Any) -> Any:
    """Noise, or the likeliest tokens, so that two can be compared: arrays by their kinds and bytes."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Noise | TopProbabilities | Variant):
        return [(name, comparable(inner)) for name, inner in sorted(vars(value).items())]
    if isinstance(value, dict):
        return sorted((name, repr(inner)) for name, inner in value.items())
    return [comparable(inner) for inner in value] if isinstance(value, tuple) else repr(value)


float16s = st.floats(allow_nan=False, allow_infinity=False, width=16)


@st.composite
def noises(draw: st.DrawFn) -> Noise:
    """Any finite noise."""
    size = draw(st.integers(1, 4))

    def array(values: st.SearchStrategy[Any], kind: Any, length: int = size) -> Any:
        return np.array(draw(st.lists(values, min_size=length, max_size=length)), dtype=kind)

    return Noise(
        windows=array(int32s, np.int32, draw(st.integers(1, 3))),
        nll=array(finite_float32s, np.float32),
        position=array(int32s, np.int32),
        window=array(int32s, np.int32),
        variants=tuple(
            Variant(
                name=draw(texts),
                drift=array(float16s, np.float16),
                num_top1_flips=draw(st.integers(0, 9)),
                correct_drift=draw(st.integers(-9, 9)),
                kl_top=draw(st.none() | finite_floats),
                calibration=draw(st.dictionaries(keys, finite_floats, max_size=2)),
            )
            for _ in range(draw(st.integers(0, 3)))
        ),
        distinct_bit_patterns=draw(st.integers(1, 9)),
        untried=tuple(draw(st.lists(texts, max_size=2))),
    )


@st.composite
def tops(draw: st.DrawFn) -> TopProbabilities:
    """Any likeliest tokens of some of six."""
    token, likeliest = sorted(draw(st.sets(st.integers(0, 5)))), draw(st.integers(1, 3))
    size = len(token) * likeliest
    return TopProbabilities(
        token=np.array(token, dtype=np.int32),
        ids=np.array(draw(st.lists(int32s, min_size=size, max_size=size)), dtype=np.int32).reshape(-1, likeliest),
        log_probability=np.array(
            draw(st.lists(finite_float32s, min_size=size, max_size=size)), dtype=np.float32
        ).reshape(-1, likeliest),
    )
