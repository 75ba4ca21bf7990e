"""What a manifest says is read part by part; what is damaged says so and stops nobody."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esa_pytest.report.documents import State
from esa_pytest.report.runs import Run, Unreadable, read_run
from tests.unit.run_builders import document, drifted, replaced, run, unjudged


def cause(content: bytes) -> str:
    found = read_run(content, folder="tiny__smoke")
    assert isinstance(found, Unreadable)
    assert found.folder == "tiny__smoke"
    return found.cause


def test_a_run_knows_its_name_its_state_and_its_date() -> None:
    found = run(document())
    assert (found.name, found.state, found.utc) == ("tiny-smoke (cpu)", State.PASSED, "2026-01-02T03:04:05+00:00")
    assert run(unjudged()).name == "tiny-smoke"


def test_a_tier_is_named_and_one_of_a_later_release_has_its_number() -> None:
    verdict = run(drifted()).verdict
    assert verdict is not None
    assert verdict.tier_name == "tier 3 (reference)"
    later = run(drifted(verdict={"tier": 9})).verdict
    assert later is not None
    assert later.tier_name == "tier 9"


def test_what_a_later_release_adds_is_passed_over() -> None:
    assert run(document(retrieval={"depths": [1, 2]})) == run(document())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "Invalid JSON: EOF while parsing a value"),
        (json.dumps(document()).encode()[:200], "Invalid JSON: EOF"),
        (b"[]", "Input should be an object"),
        (b"{}", "baseline: Field required"),
        (json.dumps(document(state="green")).encode(), "state: Input should be 'passed', 'failed'"),
        (json.dumps(document(metrics={"mean_nll": "low"})).encode(), "metrics.mean_nll: "),
        (json.dumps(document()).replace("12345.6", "1e999").encode(), "resources.throughput_tokens_per_second"),
        (b'{"baseline": ' + b"[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_a_damaged_manifest_names_its_cause(content: bytes, expected: str) -> None:
    assert cause(content).startswith(expected)


@given(st.binary(max_size=60))
def test_no_bytes_raise(content: bytes) -> None:
    assert isinstance(read_run(content, folder="x"), Run | Unreadable)


def paths_of(tree: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [prefix, *(path for key, value in items for path in paths_of(value, (*prefix, key)))]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(paths_of(drifted())),
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({}) | st.just(10**400),
)
def test_no_value_in_the_wrong_place_raises(path: tuple[Any, ...], value: Any) -> None:
    assert isinstance(read_run(json.dumps(replaced(drifted(), path, value)).encode(), folder="x"), Run | Unreadable)
