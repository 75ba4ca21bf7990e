"""Tier 0: is it the same experiment? Names every item that is not what it was, the likeliest cause first."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from esa_pytest.records import Change, Record

# A changed text changes the tokens as well: what is nearer to the cause is named first.
_CAUSES_FIRST = ("baseline", "model", "checkpoint", "tokenizer", "corpus", "windows", "tokens", "metrics")


def identity_changes(golden: Record, measured: Record) -> tuple[Change, ...]:
    """The items of the identity in which two records differ."""
    old, new = _items(golden), _items(measured)
    names = sorted(old.keys() | new.keys(), key=lambda name: (_cause_rank(name), name))
    changes = [
        Change(name=name, golden=old.get(name), measured=new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]
    if not changes and not np.array_equal(golden.scores.target, measured.scores.target):
        changes.append(Change(name="tokens.target", golden="the golden's arrays", measured="other targets"))
    return tuple(changes)


def _items(record: Record) -> dict[str, str]:
    return {"baseline": record.baseline} | {
        name: json.dumps(value, sort_keys=True, ensure_ascii=False) for name, value in _leaves(record.identity, "")
    }


def _leaves(value: Any, prefix: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [leaf for key in value for leaf in _leaves(value[key], f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, value)]


def _cause_rank(name: str) -> int:
    group = name.split(".")[0]
    return _CAUSES_FIRST.index(group) if group in _CAUSES_FIRST else len(_CAUSES_FIRST)
