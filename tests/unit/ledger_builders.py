"""Entries of a ledger, and strategies of them."""

from typing import Any

from hypothesis import strategies as st

from esa_pytest.golden.ledger import AcceptedDrift, AcceptedNumbers, ChangedItem, KnownNoise, LedgerEntry
from tests.unit.builders import finite_floats, texts

NOISE = KnownNoise(
    fresh_processes=3,
    distinct_bit_patterns=1,
    reference_rms=1e-6,
    reference_maximum=4e-6,
    score_patterns=13,
    score_rms=0.05,
    tau=4e-4,
    noise_of=None,
)


def numbers(loss: float, seal: str = "a") -> AcceptedNumbers:
    return AcceptedNumbers(
        mean_nll=loss, perplexity=10.0, token_accuracy=0.5, num_scored_tokens=256, judged_sha256=seal * 64
    )


def entry(loss: float = 2.0, before: float | None = None, **more: Any) -> LedgerEntry:
    """The acceptance of a loss where another one was before, or the first."""
    drift = None
    if before is not None:
        drift = AcceptedDrift(
            mean_nll=loss - before, perplexity=0.0, token_accuracy=0.0, loss_allowed=0.002, allowed_by="provisional"
        )
    content: dict[str, Any] = {
        "utc": "2026-01-02T03:04:05+00:00",
        "baseline": "tiny-smoke",
        "device": "cpu",
        "dtype": "float32",
        "outcome": "first" if before is None else "within-noise",
        "reason": None,
        "forced": False,
        "command": "pytest --snapshot-update",
        "git_sha": "f" * 40,
        "git_dirty": False,
        "old": None if before is None else numbers(before),
        "new": numbers(loss),
        "drift": drift,
        "noise": NOISE,
        "inputs": (),
        "environment": (),
    }
    return LedgerEntry(**(content | more))


seals = st.sampled_from("0123456789abcdef").map(lambda character: character * 64)
counts = st.integers(1, 10**9)
changed = st.lists(st.builds(ChangedItem, name=texts, old=st.none() | texts, new=st.none() | texts), max_size=3).map(
    tuple
)
accepted_numbers = st.builds(
    AcceptedNumbers,
    **dict.fromkeys(("mean_nll", "perplexity", "token_accuracy"), finite_floats),
    num_scored_tokens=counts,
    judged_sha256=seals,
)
entries = st.builds(
    LedgerEntry,
    **dict.fromkeys(("utc", "baseline", "device", "dtype", "outcome", "command"), texts),
    reason=st.none() | texts,
    forced=st.booleans(),
    git_sha=st.none() | texts,
    git_dirty=st.none() | st.booleans(),
    old=st.none() | accepted_numbers,
    new=accepted_numbers,
    drift=st.none()
    | st.builds(
        AcceptedDrift,
        **dict.fromkeys(("mean_nll", "perplexity", "token_accuracy"), finite_floats),
        loss_allowed=st.none() | finite_floats,
        allowed_by=st.none() | texts,
    ),
    noise=st.builds(
        KnownNoise,
        fresh_processes=st.integers(0, 9),
        distinct_bit_patterns=st.integers(1, 9),
        score_patterns=st.integers(0, 30),
        **dict.fromkeys(("reference_rms", "reference_maximum", "score_rms", "tau"), st.none() | finite_floats),
        noise_of=st.none() | texts,
    ),
    inputs=changed,
    environment=changed,
)
