import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.judge import judge
from esa_pytest.evaluation.metrics import stratum_metrics
from esa_pytest.records import METRIC_NAMES, Consistency, Metrics, NonFinite, Record, Repeat, Verdict
from esa_pytest.report.documents import Detail, Subject, as_json, manifest, results_summary, unjudged_manifest
from tests.unit.builders import CALIBRATION, IDENTITY, STRATA, changed_identity, keys, scalars, small_record, tokens_of

RECORD = small_record()
OVERFLOWING = Metrics(nll_sum=1e6, num_scored_tokens=1, num_correct_tokens=0)
NOT_A_NUMBER = Metrics(nll_sum=math.nan, num_scored_tokens=1, num_correct_tokens=0)
INFINITE = Metrics(nll_sum=math.inf, num_scored_tokens=1, num_correct_tokens=0)


def parsed(document: Mapping[str, Any]) -> Any:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    data = as_json(document)
    assert data.endswith(b"}\n")
    return json.loads(data, parse_constant=refuse)


SUBJECT = Subject(baseline="tiny-smoke", model="tiny", type_name="smoke", command="pytest -k tiny")


def detail(**parts: Any) -> Detail:
    return Detail(
        **{
            "seconds": {"load": 1.5},
            "notes": ("a note",),
            "consistency": None,
            "num_bytes": 24,
            "reliability": (),
            "golden": RECORD,
            "golden_file": "g/cpu.json",
            **parts,
        }
    )


def manifest_of(record: Record, verdict: Verdict | None, consistency: Consistency | None = None) -> Any:
    outcome = "recorded" if verdict is None else verdict.outcome
    return parsed(manifest(record, verdict, outcome=outcome, subject=SUBJECT, detail=detail(consistency=consistency)))


def test_manifest_holds_everything_that_is_known() -> None:
    found = manifest_of(RECORD, judge(RECORD, RECORD))
    assert found["baseline"] == "tiny-smoke"
    assert found["device"] == "cpu"
    assert found["outcome"] == "identical"
    assert found["identity"] == IDENTITY
    assert found["environment"] == RECORD.environment
    assert found["provenance"] == RECORD.provenance
    assert found["resources"] == RECORD.resources
    assert found["seconds"] == {"load": 1.5}
    assert found["notes"] == ["a note"]
    assert found["golden_file"] == "g/cpu.json"
    assert found["non_finite"] is None
    assert set(found["metrics"]) == set(METRIC_NAMES)


def test_manifest_holds_the_verdict_in_parts() -> None:
    verdict = manifest_of(RECORD, judge(RECORD, RECORD))["verdict"]
    assert verdict["outcome"] == "identical"
    assert verdict["tier"] == 2
    assert verdict["bits"]["num_tokens"] == 6
    assert [row["name"] for row in verdict["rows"]] == ["mean_nll", "perplexity", "token_accuracy"]
    changed = changed_identity(RECORD, ("model", "dtype"), "bfloat16")
    assert manifest_of(changed, judge(RECORD, changed))["verdict"]["changes"] == [
        {"name": "model.dtype", "golden": '"float32"', "measured": '"bfloat16"'}
    ]


def test_manifest_of_a_recorded_run_has_no_verdict() -> None:
    found = manifest_of(RECORD, None)
    assert (found["outcome"], found["state"], found["verdict"]) == ("recorded", "recorded", None)


def test_manifest_says_whether_the_check_passed() -> None:
    assert manifest_of(RECORD, judge(RECORD, RECORD))["state"] == "passed"
    changed = changed_identity(RECORD, ("model", "dtype"), "bfloat16")
    assert manifest_of(changed, judge(RECORD, changed))["state"] == "failed"


def test_bits_per_byte_are_the_nats_of_all_tokens_over_the_bytes_of_their_text() -> None:
    text = manifest_of(RECORD, judge(RECORD, RECORD))["text"]
    assert text["num_bytes"] == 24
    # 12 nats.
    assert text["bits_per_byte"] == pytest.approx(12 * math.log2(math.e) / 24, rel=1e-12)
    assert manifest_of(replace(RECORD, metrics=None), None)["text"]["bits_per_byte"] is None
    nothing = manifest(RECORD, None, outcome="recorded", subject=SUBJECT, detail=detail(num_bytes=0))
    assert nothing["text"] == {"num_bytes": 0, "bits_per_byte": None}


def test_manifest_holds_the_goldens_resources_for_comparison() -> None:
    found = manifest_of(RECORD, judge(RECORD, RECORD))["golden"]
    assert found == {"utc": RECORD.provenance["utc"], "resources": RECORD.resources}


@pytest.mark.parametrize(("skipped", "state"), [(True, "skipped"), (False, "error")])
def test_manifest_of_what_was_not_judged_says_why(state: str, *, skipped: bool) -> None:
    found = parsed(
        unjudged_manifest(
            SUBJECT, skipped=skipped, outcome="HubUnreachableError", reason="no hub", provenance=RECORD.provenance
        )
    )
    assert found == {
        "baseline": "tiny-smoke",
        "model": "tiny",
        "type": "smoke",
        "test_command": "pytest -k tiny",
        "reported": None,
        "device": None,
        "state": state,
        "outcome": "HubUnreachableError",
        "reason": "no hub",
        "verdict": None,
        "metrics": None,
        "provenance": RECORD.provenance,
    }


@pytest.mark.parametrize("metrics", [None, OVERFLOWING, NOT_A_NUMBER, INFINITE])
def test_run_that_is_not_finite_makes_valid_documents(metrics: Metrics | None) -> None:
    place = NonFinite(what="nll", window=1, token=2, layer="model.norm")
    record = replace(RECORD, metrics=metrics, non_finite=place, resources={"efficiency": math.nan})
    found = manifest_of(record, judge(RECORD, record))
    assert found["non_finite"] == {"what": "nll", "window": 1, "token": 2, "layer": "model.norm"}
    assert found["resources"] == {"efficiency": None}
    summary = parsed(
        results_summary(record, outcome="non-finite", strata={"prose": INFINITE}, consistency=None, reported=None)
    )
    assert summary["strata"]["prose"]["perplexity"] is None
    if metrics is None:
        assert found["metrics"] is summary["metrics"] is None
    else:
        assert found["metrics"]["perplexity"] is summary["metrics"]["perplexity"] is None


def test_summary_holds_the_metrics_of_the_run_and_of_its_strata() -> None:
    strata = stratum_metrics(tokens_of(RECORD), STRATA)
    document = results_summary(RECORD, outcome="identical", strata=strata, consistency=None, reported=None)
    assert RECORD.metrics is not None
    assert parsed(document) == {
        "baseline": "tiny-smoke",
        "device": "cpu",
        "outcome": "identical",
        "metrics": RECORD.metrics.as_dict(),
        "calibration": None,
        "context": None,
        "consistency": None,
        "strata": {name: metrics.as_dict() for name, metrics in strata.items()},
        "resources": RECORD.resources,
        "resources_judged": [],
        "reported": None,
    }


def test_summary_holds_what_was_reported() -> None:
    reported = {"loss": 0.1826, "peak_vram_gib": 2.86}
    found = results_summary(RECORD, outcome="identical", strata={}, consistency=None, reported=reported)
    assert parsed(found)["reported"] == reported


def test_both_documents_hold_the_calibration() -> None:
    record = replace(RECORD, calibration=CALIBRATION)
    summary = parsed(results_summary(record, outcome="recorded", strata={}, consistency=None, reported=None))
    assert summary["calibration"] == manifest_of(record, None)["calibration"]
    assert summary["calibration"] == {
        "ece": 0.05,
        "brier": 0.5,
        "mean_entropy": 2.0,
        "top_k_mass": 0.9,
        "entropy_by_position": {"0-15": 2.5, "16-63": 1.5},
    }


def test_both_documents_hold_the_consistency() -> None:
    first = Metrics(nll_sum=4.0, num_scored_tokens=2, num_correct_tokens=1)
    other = Metrics(nll_sum=5.0, num_scored_tokens=2, num_correct_tokens=2)
    consistency = Consistency(
        first=first,
        repeats=(Repeat(kind="round", detail="2", metrics=other, bit_equal=False),),
        seeds={1337: first},
        impossible=("there is too little to score for another batch shape",),
    )
    summary = results_summary(RECORD, outcome="recorded", strata={}, consistency=consistency, reported=None)
    assert parsed(summary)["consistency"] == manifest_of(RECORD, None, consistency)["consistency"]
    assert parsed(summary)["consistency"] == {
        "repeats": [{"kind": "round", "detail": "2", "bit_equal": False, "metrics": other.as_dict()}],
        "seeds": {"1337": first.as_dict()},
        "impossible": ["there is too little to score for another batch shape"],
    }


any_float = st.floats(allow_nan=True, allow_infinity=True)


@given(st.dictionaries(keys, scalars | any_float | st.lists(any_float | scalars) | st.dictionaries(keys, any_float)))
def test_document_is_valid_json_whatever_it_holds(document: dict[str, Any]) -> None:
    def expected(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: expected(item) for key, item in value.items()}
        if isinstance(value, list):
            return [expected(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    assert parsed(document) == expected(document)


def test_equal_documents_have_equal_bytes() -> None:
    assert as_json({"b": 1, "a": {"d": 2, "c": 3}}) == as_json({"a": {"c": 3, "d": 2}, "b": 1})
