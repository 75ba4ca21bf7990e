from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from esa_pytest.drift.identity import identity_changes
from esa_pytest.golden.schema import canonical
from esa_pytest.records import METRIC_NAMES, Change
from tests.unit.builders import IDENTITY, changed_identity, leaf_values, nested, small_record, tokens_of
from tests.unit.trees import leaf_paths, removed

GOLDEN = small_record()
CONFIG = ("checkpoint", "config")


def changes_of(identity: dict[str, Any]) -> tuple[Change, ...]:
    return identity_changes(GOLDEN, replace(GOLDEN, identity=identity))


identities = nested(leaf_values, min_size=1)


@given(identities)
def test_equal_identities_have_no_change(identity: dict[str, Any]) -> None:
    record = replace(GOLDEN, identity=identity)
    assert identity_changes(record, replace(record, identity=dict(reversed(identity.items())))) == ()


@given(identities, identities)
def test_different_identities_always_have_a_change(old: dict[str, Any], new: dict[str, Any]) -> None:
    assume(canonical(old) != canonical(new))
    assert identity_changes(replace(GOLDEN, identity=old), replace(GOLDEN, identity=new))


@given(identities, identities)
def test_changes_are_the_same_from_both_sides(old: dict[str, Any], new: dict[str, Any]) -> None:
    first, second = replace(GOLDEN, identity=old), replace(GOLDEN, identity=new)
    mirrored = [
        Change(name=change.name, golden=change.measured, measured=change.golden)
        for change in identity_changes(second, first)
    ]
    assert list(identity_changes(first, second)) == mirrored


@pytest.mark.parametrize("path", list(leaf_paths(IDENTITY)), ids=".".join)
@pytest.mark.parametrize("value", ["other", 0, -1.5, [], [None]], ids=repr)
def test_changed_item_is_the_only_one_named(path: tuple[str, ...], value: Any) -> None:
    (change,) = identity_changes(GOLDEN, changed_identity(GOLDEN, path, value))
    assert change.name == ".".join(path)


@pytest.mark.parametrize("path", list(leaf_paths(IDENTITY)), ids=".".join)
def test_item_that_is_gone_is_named(path: tuple[str, ...]) -> None:
    (change,) = changes_of(removed(IDENTITY, path))
    assert change.name == ".".join(path)
    assert change.measured is None
    assert change.golden is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, 1.0), (1, True), (0, False), (None, "null"), (1, "1"), (0.0, -0.0), ([1], [1.0]), ("é", "e\u0301")],
)
def test_values_that_only_look_alike_differ(old: Any, new: Any) -> None:
    path = (*CONFIG, "hidden")
    changes = identity_changes(changed_identity(GOLDEN, path, old), changed_identity(GOLDEN, path, new))
    assert [change.name for change in changes] == ["checkpoint.config.hidden"]


def test_added_empty_object_is_a_change() -> None:
    assert identity_changes(GOLDEN, changed_identity(GOLDEN, (*CONFIG, "rope_scaling"), {})) != ()


def test_values_are_told_as_they_were_and_are() -> None:
    assert identity_changes(GOLDEN, changed_identity(GOLDEN, (*CONFIG, "hidden"), 16)) == (
        Change(name="checkpoint.config.hidden", golden="8", measured="16"),
    )
    assert identity_changes(GOLDEN, changed_identity(GOLDEN, ("model", "dtype"), "größer")) == (
        Change(name="model.dtype", golden='"float32"', measured='"größer"'),
    )


def test_other_baseline_is_a_change() -> None:
    assert identity_changes(GOLDEN, replace(GOLDEN, baseline="tiny-standard")) == (
        Change(name="baseline", golden='"tiny-smoke"', measured='"tiny-standard"'),
    )


@given(st.permutations(list(IDENTITY)))
def test_changes_are_named_from_the_likeliest_cause_on(groups: list[str]) -> None:
    identity = dict.fromkeys(groups, "other") | {"zebra": 1, "alpha": 1}
    names = [change.name for change in identity_changes(GOLDEN, replace(GOLDEN, baseline="b", identity=identity))]
    order = ["baseline", "model", "checkpoint", "tokenizer", "corpus", "windows", "tokens", "metrics", "alpha", "zebra"]
    assert list(dict.fromkeys(name.split(".")[0] for name in names)) == order


@pytest.mark.parametrize("metrics", [METRIC_NAMES[1:], (*METRIC_NAMES, "kl_divergence"), METRIC_NAMES[::-1], ()])
def test_metric_that_vanished_or_came_is_a_change(metrics: tuple[str, ...]) -> None:
    (change,) = identity_changes(GOLDEN, changed_identity(GOLDEN, ("metrics",), list(metrics)))
    assert change.name == "metrics"


def test_other_targets_under_an_equal_identity_are_a_change() -> None:
    target = tokens_of(GOLDEN).target.copy()
    target[3] += 1
    other = replace(GOLDEN, scores=replace(tokens_of(GOLDEN), target=target))
    assert [change.name for change in identity_changes(GOLDEN, other)] == ["tokens.target"]


def test_other_number_of_tokens_under_an_equal_identity_is_a_change() -> None:
    shorter = replace(tokens_of(GOLDEN), target=np.zeros(0, dtype=np.int32))
    assert [change.name for change in identity_changes(GOLDEN, replace(GOLDEN, scores=shorter))] == ["tokens.target"]
