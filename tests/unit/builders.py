"""Small records, the goldens they make, and strategies of both."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.golden import schema
from esa_pytest.golden.packing import join_pair, pack, split_pair
from esa_pytest.records import (
    METRIC_NAMES,
    BitStability,
    Calibration,
    NonFinite,
    Record,
    ResourceNoise,
    ResourceRound,
    TokenScores,
)
from tests.unit.probe_builders import probe_content, probe_pairs
from tests.unit.trees import placed

NAME = "goldens/tiny__smoke/cpu-float32.json"
NPZ_NAME = "cpu-float32.npz"
PROVEN = BitStability(fresh_processes=2, distinct_bit_patterns=1)
STRATA = ("prose", "code")

IDENTITY: Mapping[str, Any] = {
    "model": {"architecture": "Tiny", "dtype": "float32"},
    "checkpoint": {"config": {"hidden": 8, "tied": True, "theta": 1e4, "eps": None}, "weights_sha256": "a" * 64},
    "tokenizer": {"sha256": "b" * 64},
    "corpus": {"embedded": {"sha256": "c" * 64}},
    "windows": {"bos": "none", "context_lengths": [4], "seeds": [1337], "stride": None, "sha256": "d" * 64},
    "tokens": {"sha256": "e" * 64},
    "metrics": list(METRIC_NAMES),
}
CALIBRATION = Calibration(
    ece=0.05, brier=0.5, mean_entropy=2.0, top_k_mass=0.9, entropy_by_position={"0-15": 2.5, "16-63": 1.5}
)
ENVIRONMENT = {
    "batch_shapes": "3x2",
    "cpu.instruction_set": "avx2",
    "cpu.threads": "2",
    "version.torch": "2.9.0",
    "version.transformers": "5.0.0",
}
RESOURCES: Mapping[str, float | int | str | None] = {
    "throughput_tokens_per_second": 1234.5,
    "efficiency": 0.5,
    "rounds": 1,
    "peak_resident_bytes": 2**30,
}
PROVENANCE: Mapping[str, str | bool | None] = {
    "utc": "2026-01-02T03:04:05+00:00",
    "git_sha": None,
    "git_dirty": False,
    "command": "pytest",
    "reason": "first",
}

THROUGHPUT = "  throughput     1,234 tok/s, 1.00 of the golden's efficiency; peak resident 1.00 GiB; batch 3x2"
UNJUDGED = (
    "  resources      throughput and memory not judged: the golden was recorded without their noise; record it anew "
    "with --snapshot-update --esa-calibrate"
)


def token_scores(
    nll: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 0.5, 1.5),
    *,
    argmax: Sequence[int] | None = None,
    target: Sequence[int] | None = None,
    stratum: Sequence[int] | None = None,
) -> TokenScores:
    """Scores in windows of two tokens; every other argmax is right, every other token of the other stratum."""
    tokens = np.arange(len(nll), dtype=np.int32)
    return TokenScores(
        nll=np.array(nll, dtype=np.float32),
        argmax=tokens // 2 * 2 if argmax is None else np.array(argmax, dtype=np.int32),
        target=tokens if target is None else np.array(target, dtype=np.int32),
        position=tokens % 2,
        window=tokens // 2,
        stratum=tokens % 2 if stratum is None else np.array(stratum, dtype=np.int32),
    )


def windowed_scores(lengths: Sequence[int], *, seed: int = 0) -> TokenScores:
    """Scores of windows that score so many tokens each, with any finite NLLs and some right argmaxes."""
    generator = np.random.default_rng(seed)
    size = sum(lengths)
    return TokenScores(
        nll=generator.gamma(2.0, 1.5, size).astype(np.float32),
        argmax=generator.integers(0, 3, size, dtype=np.int32),
        target=generator.integers(0, 3, size, dtype=np.int32),
        position=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        window=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        stratum=np.zeros(size, dtype=np.int32),
    )


def with_flipped_bit(scores: TokenScores, name: str, token: int, bit: int) -> TokenScores:
    """The scores with one bit of one array changed."""
    array = getattr(scores, name).copy()
    array.view(np.uint32)[token] ^= np.uint32(1 << bit)
    return replace(scores, **{name: array})


def scored(record: Record, scores: TokenScores) -> Record:
    """The record with other scores, told not to be finite where its metrics are not, as a measurement is."""
    metrics = compute_metrics(scores)
    bad = next((name for name, value in metrics.as_dict().items() if not math.isfinite(value)), None)
    if bad is None:
        return replace(record, scores=scores, metrics=metrics, non_finite=None)
    return replace(record, scores=scores, metrics=None, non_finite=NonFinite(what=bad))


def small_record(scores: TokenScores | None = None) -> Record:
    """A golden's record of few tokens, its bit-stability proven."""
    scores = token_scores() if scores is None else scores
    return Record(
        baseline="tiny-smoke",
        device="cpu",
        identity=IDENTITY,
        metrics=compute_metrics(scores),
        scores=scores,
        strata=STRATA,
        environment=ENVIRONMENT,
        resources=RESOURCES,
        provenance=PROVENANCE,
        bit_stability=PROVEN,
    )


def tokens_of(record: Record) -> TokenScores:
    """The per-token scores of a record that keeps every token."""
    assert isinstance(record.scores, TokenScores)
    return record.scores


def changed_identity(record: Record, path: tuple[str, ...], value: Any) -> Record:
    """The record with one item of its identity set."""
    return replace(record, identity=placed(record.identity, path, value))


def packed(record: Record) -> tuple[dict[str, Any], bytes]:
    """A golden's JSON as a document, and its arrays."""
    text, npz = split_pair(pack(record, npz_name=NPZ_NAME))
    return json.loads(text), npz


def joined(document: Mapping[str, Any], npz: bytes) -> bytes:
    """A golden with an edited document."""
    return join_pair(json.dumps(document).encode(), npz)


def resealed(document: Mapping[str, Any], npz: bytes) -> bytes:
    """A golden with other arrays and every hash made to fit, so that only the arrays themselves can be refused."""
    tied = {**document, "arrays": {"file": NPZ_NAME, "sha256": hashlib.sha256(npz).hexdigest()}}
    return joined({**tied, "judged_sha256": schema.judged_sha256(tied)}, npz)


def npz_members(npz: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an npz, the sealed JSON among them."""
    with np.load(io.BytesIO(npz), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def npz_of(members: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz of these arrays, pickled where they hold objects."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=True)
    return buffer.getvalue()


def content_of(record: Record) -> tuple[str, list[tuple[str, str, tuple[int, ...], bytes]], list[Any]]:
    """Everything a record holds, comparable: floats by their repr, 1 apart from 1.0 and True, arrays by their bytes."""
    plain = [
        record.baseline,
        record.device,
        record.identity,
        repr(record.metrics),
        list(record.strata),
        record.environment,
        record.resources,
        record.provenance,
        repr(record.bit_stability),
        None if record.calibration is None else asdict(record.calibration),
        repr(record.non_finite),
        repr(record.resource_noise),
    ]
    arrays = [
        (name, str(array.dtype), array.shape, array.tobytes()) for name, array in sorted(vars(record.scores).items())
    ]
    return json.dumps(plain, sort_keys=True), arrays, probe_content(record)


characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=8)
# No dots: dotted names tell where a value lies.
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="."), min_size=1, max_size=8)
finite_floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | finite_floats | texts
leaf_values = scalars | st.lists(scalars, max_size=3)
# A large NLL still has a finite exponential; a sum over few tokens is then never refused.
nlls = st.floats(min_value=-1, max_value=500, width=32)
int32s = st.integers(min_value=-(2**31), max_value=2**31 - 1)


def nested(values: st.SearchStrategy[Any], *, min_size: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings of mappings of values; `min_size` 1 makes no empty ones."""
    trees = st.recursive(
        values, lambda inner: st.dictionaries(keys, inner, min_size=min_size, max_size=3), max_leaves=6
    )
    return st.dictionaries(keys, trees, min_size=min_size, max_size=3)


@st.composite
def score_arrays(draw: st.DrawFn, *, max_tokens: int = 6) -> TokenScores:
    """Any scores that a finite run can have."""
    values = draw(st.lists(nlls, min_size=1, max_size=max_tokens))
    size = len(values)

    def column(elements: st.SearchStrategy[int]) -> npt.NDArray[np.int32]:
        return np.array(draw(st.lists(elements, min_size=size, max_size=size)), dtype=np.int32)

    tokens = int32s | st.integers(0, 2)
    return TokenScores(
        nll=np.array(values, dtype=np.float32),
        argmax=column(tokens),
        target=column(tokens),
        position=column(st.integers(0, 2**20)),
        window=column(st.integers(0, 2**20)),
        stratum=column(st.integers(0, len(STRATA) - 1)),
    )


calibrations = st.builds(
    Calibration,
    **dict.fromkeys(("brier", "ece", "mean_entropy", "top_k_mass"), finite_floats),
    entropy_by_position=st.dictionaries(keys, finite_floats, max_size=3),
)


resource_rounds = st.builds(
    ResourceRound,
    efficiency=st.none() | finite_floats,
    peak_bytes=st.none() | st.integers(0, 2**60),
    disturbance=st.none() | texts,
)
resource_noises = st.builds(ResourceNoise, rounds=st.lists(resource_rounds, max_size=3).map(tuple))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any finite record whose bit-stability was measured."""
    scores, (probe, noise) = draw(score_arrays()), draw(probe_pairs())
    return Record(
        baseline=draw(texts),
        device=draw(texts),
        identity=draw(nested(leaf_values)),
        metrics=compute_metrics(scores),
        scores=scores,
        strata=tuple(draw(st.lists(texts, max_size=3))),
        environment=draw(st.dictionaries(texts, texts, max_size=3)),
        resources=draw(st.dictionaries(texts, scalars, max_size=3)),
        provenance=draw(st.dictionaries(texts, st.none() | st.booleans() | texts, max_size=3)),
        bit_stability=BitStability(
            fresh_processes=draw(st.integers(0, 9)), distinct_bit_patterns=draw(st.integers(1, 9))
        ),
        calibration=draw(st.none() | calibrations),
        probe=probe,
        probe_noise=noise,
        resource_noise=draw(st.none() | resource_noises),
    )
