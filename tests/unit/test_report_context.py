"""What is told of a long context: in lines, in the documents of a run, in Markdown."""

import json
from dataclasses import replace

from esa_pytest.drift.judge import judge
from esa_pytest.report.context import context_lines
from esa_pytest.report.context_tables import context_tables
from esa_pytest.report.documents import as_json, manifest, results_summary
from esa_pytest.report.lines import table
from esa_pytest.report.markdown import Comparison, markdown_lines
from esa_pytest.report.overview import overview
from tests.unit.builders import small_record
from tests.unit.context_builders import CONTEXT, long_golden, moved, with_context
from tests.unit.run_builders import document, run
from tests.unit.test_documents import SUBJECT, detail

GAIN = (
    "  gain           +0.250 ± 0.125 nats a token: 2.500 with 2 tokens of context and more, 2.250 with 3 and more, "
    "over 2 tokens"
)
RECORD = with_context(small_record())


def test_the_lines_show_positions_gain_and_retrieval() -> None:
    assert context_lines(CONTEXT) == [
        "  context        4 tokens; loss by position 0-15 2.500 · 16-63 2.250",
        GAIN,
        "  retrieval      0-50% +8.000 ± 0.500 · 50-100% -1.000 nats an answer over its control; 2 facts a depth",
    ]
    assert context_lines(None) == []


def test_the_documents_hold_plain_lists_under_one_key() -> None:
    document = manifest(RECORD, None, outcome="recorded", subject=SUBJECT, detail=detail())
    summary = results_summary(RECORD, outcome="recorded", strata={}, consistency=None, reported=None)
    context = json.loads(as_json(document))["context"]
    assert context == json.loads(as_json(summary))["context"]
    assert context == {
        "context_length": 4,
        "gain": {
            "nats": 0.25,
            "error": 0.125,
            "short_nll": 2.5,
            "long_nll": 2.25,
            "num_tokens": 2,
            "short_context": 2,
            "long_context": 3,
        },
        "num_tokens": 4,
        "positions": [
            {"label": "0-15", "mean_nll": 2.5, "num_tokens": 4},
            {"label": "16-63", "mean_nll": 2.25, "num_tokens": 2},
        ],
        "retrieval": [
            {
                "label": "0-50%",
                "gain": 8.0,
                "error": 0.5,
                "planted_nll": 1.0,
                "control_nll": 9.0,
                "num_facts": 2,
            },
            {
                "label": "50-100%",
                "gain": -1.0,
                "error": None,
                "planted_nll": 4.0,
                "control_nll": 3.0,
                "num_facts": 1,
            },
        ],
    }
    plain = manifest(small_record(), None, outcome="recorded", subject=SUBJECT, detail=detail())
    assert plain["context"] is None


def test_the_table_of_a_failure_names_the_metric() -> None:
    golden = long_golden()
    rows = judge(golden, replace(golden, context=moved(CONTEXT, "context gain", 1.0), noise=None)).rows
    (line,) = [line for line in table(rows) if line.startswith("  context gain")]
    assert line.split() == ["context", "gain", "0.25", "1.25", "+1", *line.split()[5:6], "(measured)", "<-", "drifted"]


def test_markdown_shows_both_sides() -> None:
    new = with_context(small_record(), moved(CONTEXT, "retrieval at 0-50%", -6.0))
    compared = Comparison(name="tiny (cpu)", old=RECORD, new=new, verdict=judge(RECORD, new), troubles=())
    lines = markdown_lines([compared], old="golden", new="run")
    assert "| long context, nats | golden | run |" in lines
    assert "| retrieval at 0-50% | 8 | 2 |" in lines
    assert "| context gain | 0.25 | 0.25 |" in lines
    gone = Comparison(name="tiny (cpu)", old=RECORD, new=small_record(), verdict=None, troubles=())
    assert "| context gain | 0.25 | - |" in markdown_lines([gone], old="golden", new="run")


def test_the_report_has_a_table_of_each_long_context() -> None:
    found = json.loads(as_json(manifest(RECORD, None, outcome="recorded", subject=SUBJECT, detail=detail())))
    runs = [run(document()), run(document(context=found["context"]))]
    (table,) = context_tables(runs)
    assert table.caption == "tiny-smoke (cpu), 4 tokens"
    assert table.rows == (
        ("loss at 0-15", "2.5000", "-", "4 tokens"),
        ("loss at 16-63", "2.2500", "-", "2 tokens"),
        ("gain from context", "+0.2500", "±0.1250", "2 tokens"),
        ("retrieval at 0-50%", "+8.000", "±0.500", "2 facts"),
        ("retrieval at 50-100%", "-1.000", "-", "1 fact"),
    )
    made = overview(runs, made="now", missing=(), histories=(), ledger_trouble=None)
    assert [section.tables for section in made.sections if section.slug == "contexts"] == [(table,)]
    plain = overview(runs[:1], made="now", missing=(), histories=(), ledger_trouble=None)
    assert "contexts" not in [section.slug for section in plain.sections]
