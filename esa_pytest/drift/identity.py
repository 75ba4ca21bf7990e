"""Tier 0: is it the same experiment? Names every item that is not what it was, the likeliest cause first."""

import json
from typing import Any

import numpy as np

from esa_pytest.golden.blocks import as_blocks
from esa_pytest.golden.schema import Missing, differing_leaves
from esa_pytest.records import BlockScores, Change, Record, TokenScores

# A changed text changes the tokens as well: what is nearer to the cause is named first.
_CAUSES_FIRST = (
    "baseline",
    "model",
    "checkpoint",
    "tokenizer",
    "corpus",
    "windows",
    "tokens",
    "context",
    "probe",
    "metrics",
)


def identity_changes(golden: Record, measured: Record) -> tuple[Change, ...]:
    """The items of the identity in which two records differ."""
    old = {"baseline": golden.baseline, **golden.identity}
    new = {"baseline": measured.baseline, **measured.identity}
    changes = [
        Change(name=name, golden=_text(before), measured=_text(now)) for name, before, now in differing_leaves(old, new)
    ]
    changes.sort(key=lambda change: (_cause_rank(change.name), change.name))
    if not changes and not _same_targets(golden.scores, measured.scores):
        changes.append(Change(name="tokens.target", golden="the golden's arrays", measured="other targets"))
    return tuple(changes)


def probe_identity_changes(golden: Record, measured: Record) -> tuple[Change, ...]:
    """The items in which two records differ that the reference probe depends on.

    Another device may score more windows of the same text; the probe scores the same tokens of it.
    """
    return tuple(
        change
        for change in identity_changes(golden, measured)
        if change.name.split(".")[0] not in ("windows", "tokens", "metrics")
    )


def _same_targets(golden: TokenScores | BlockScores, measured: TokenScores | BlockScores) -> bool:
    if isinstance(golden, TokenScores) and isinstance(measured, TokenScores):
        return np.array_equal(golden.target, measured.target)
    # Blocks keep no targets; the hash over all tokens is part of the identity.
    old, new = as_blocks(golden), as_blocks(measured)
    return np.array_equal(old.num_tokens, new.num_tokens) and np.array_equal(old.window, new.window)


def _text(value: Any) -> str | None:
    return None if value is Missing.MISSING else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _cause_rank(name: str) -> int:
    group = name.split(".")[0]
    return _CAUSES_FIRST.index(group) if group in _CAUSES_FIRST else len(_CAUSES_FIRST)
