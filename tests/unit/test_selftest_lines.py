"""What `esa selftest` says, and its picture."""

import builtins
import re
from typing import Any

import pytest

from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.records import Tier
from esa_pytest.selftest.ladder import Instrument
from esa_pytest.selftest.lines import (
    alarm_line,
    broken_line,
    kept_line,
    plan_line,
    start_lines,
    table_lines,
    widened_line,
)
from esa_pytest.selftest.plot import PlotsMissingError, pictures
from esa_pytest.selftest.power import Share, curve
from tests.unit.selftest_builders import trial

POINTS = curve(
    [
        *(trial(multiple=0.5, seed=seed, beyond=()) for seed in range(20)),
        *(trial(seed=seed) for seed in range(20)),
        *(
            trial(Instrument.MEAN, seed=seed, beyond=(Tier.EXACT, Tier.AGGREGATE) if seed else (Tier.EXACT,))
            for seed in range(20)
        ),
        *(trial(Instrument.BITS, seed=seed) for seed in range(20)),
    ]
)
NO_ALARM = Share(hits=0, of=40)
PROMISE = {Instrument.REFERENCE: 1e-5, Instrument.MEAN: 1e-5, Instrument.BITS: 1.0}


def test_the_promise_is_told_before_anything_is_tried() -> None:
    assert start_lines("m-smoke", "2026-11-24", "identical", PROMISE, {"rms": "the golden measured no noise"}) == [
        "esa: selftest of m-smoke, by its golden of 2026-11-24",
        "  guard          identical",
        "  promised       reference 1e-05 nats · mean 1e-05 nats · any changed bit",
        "  no promise     rms: the golden measured no noise",
    ]


def test_the_table_has_a_line_a_size() -> None:
    cells = [re.split(r"\s{2,}", line.strip()) for line in table_lines(POINTS)]
    assert cells[1:-1] == [
        ["fault size", "of promised", "tier 2", "tier 3", "tier 4", "tier 5", "alone", "found", "95 % interval"],
        ["reference 5e-06 nats rms in float32", "0.5", "-", "0", "-", "-", "-", "0 of 20", "0 to 16 %"],
        ["reference 1e-05 nats rms in float32", "1", "-", "20", "-", "-", "-", "20 of 20", "84 to 100 %", "kept"],
        ["mean 1e-05 nats mean", "1", "20", "0", "0", "19", "0", "19 of 20", "76 to 99 %", "MISSED"],
        ["bits 1 flipped bit", "1", "20", "0", "0", "0", "-", "20 of 20", "84 to 100 %", "kept"],
    ]


def test_the_plan_tells_what_is_left() -> None:
    assert plan_line(num_trials=140, num_harmless=1, num_kept=0, seconds=1500.0) == (
        "  to run         140 faults and 1 harmless change; about 25 minutes"
    )
    assert plan_line(num_trials=1, num_harmless=2, num_kept=3, seconds=9.0) == (
        "  to run         1 fault and 2 harmless changes, 3 of them kept from an earlier call; about 9 s"
    )


def test_false_alarms_have_their_interval() -> None:
    assert alarm_line(NO_ALARM, probes=20) == (
        "  false alarms   0 of 40 harmless changes (0 to 9 %); 20 of these moved the float32 reference alone"
    )


def test_the_closing_sentence() -> None:
    kept = [point for point in POINTS if point.kept]
    sentence = kept_line(kept, NO_ALARM, seeds=20)
    assert sentence == (
        "esa: The gate keeps its promise: all 40 faults of the promised size or more were found by the tier that "
        "promised it (each size more often than 84 %, by 95 % intervals), and no false alarm in 40 harmless changes."
    )
    assert kept_line(kept, NO_ALARM, seeds=3) == f"{sentence} 3 seeds a size prove little: take 20 or more."


def test_the_closing_sentence_counts_what_was_missed() -> None:
    """Of a hundred faults one may be missed."""
    points = curve([trial(seed=seed, beyond=None if seed else ()) for seed in range(100)])
    assert points[0].kept
    assert "keeps its promise: 99 of 100 faults of the promised size or more were found by the tier that" in kept_line(
        points, NO_ALARM, seeds=100
    )


def test_a_broken_promise_names_what_was_widened() -> None:
    wide = Rules(tolerances={"reference_rms": 0.01})
    assert broken_line(["a", "b"], wide) == (
        "The gate does not keep its promise: a; b; lower or remove [tool.esa.tolerances]."
    )
    assert "record the golden's noise anew" in broken_line(["a"], DEFAULT_RULES)
    assert widened_line(DEFAULT_RULES) is None
    assert widened_line(wide) == (
        "  widened        [tool.esa.tolerances] allows reference_rms = 0.01; the promise is that of the golden's noise "
        "alone"
    )


def test_the_picture_is_the_same_for_the_same_numbers() -> None:
    pytest.importorskip("matplotlib")
    first = pictures("selftest", POINTS, PROMISE, NO_ALARM)
    assert set(first) == {".svg", ".png"}
    assert first[".svg"].startswith(b"<?xml")
    assert first[".png"].startswith(b"\x89PNG")
    assert pictures("selftest", POINTS, PROMISE, NO_ALARM)[".svg"] == first[".svg"]


def test_bits_alone_have_no_curve() -> None:
    pytest.importorskip("matplotlib")
    assert pictures("selftest", [p for p in POINTS if p.instrument is Instrument.BITS], PROMISE, NO_ALARM) == {}


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PlotsMissingError, match=r"pip install 'esa-pytest\[plots\]'"):
        pictures("selftest", POINTS, PROMISE, NO_ALARM)
