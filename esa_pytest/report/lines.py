"""A verdict as the lines that a person reads."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from esa_pytest.drift.judge import environment_changes
from esa_pytest.drift.noise_model import why_unmeasured
from esa_pytest.drift.reference import WEAK_ABOVE, allowed_rms
from esa_pytest.records import Calibration, Change, MetricRow, Metrics, Noise, Outcome, ProbeNoise, Record, Verdict
from esa_pytest.report.advice import REASON, Advice, advice_on
from esa_pytest.report.evidence import evidence_lines, reference_lines, stability_text
from esa_pytest.report.layout import INDENT, count, labelled
from esa_pytest.report.resources import resource_lines, resource_noise_lines, throughput_line

# People say loss; the code says mean_nll.
SPOKEN = {
    "mean_nll": "loss",
    "perplexity": "perplexity",
    "token_accuracy": "token accuracy",
    "ece": "ECE",
    "brier": "Brier score",
    "mean_entropy": "entropy",
    "top_k_mass": "top-k mass",
}


def environment_line(measured: Record, golden: Record | None, *, replaced: Record | None = None) -> str:
    """The line that says where this ran and what it was compared with, or which golden a recording replaced."""
    environment = measured.environment
    where = f"{measured.device} ({environment.get('cuda.device') or environment.get('cpu.instruction_set')})"
    versions = [f"{name} {environment.get(f'version.{name}')}" for name in ("torch", "transformers")]
    told = _compared_with(measured, golden) if replaced is None else f"replaces the {_golden_of(replaced)}"
    return " · ".join(["esa: " + where, *versions, told])


def _compared_with(measured: Record, golden: Record | None) -> str:
    if golden is None:
        return "no golden"
    differing = len(environment_changes(golden.environment, measured.environment))
    age = _golden_of(golden)
    return f"{age}, same environment" if differing == 0 else f"{age}, {count(differing, 'difference')} in environment"


def _golden_of(golden: Record) -> str:
    return f"golden of {str(golden.provenance.get('utc'))[:10]}"


def passed_lines(verdict: Verdict, measured: Record, golden: Record, strata: Mapping[str, Metrics]) -> list[str]:
    """What is shown of a baseline that passed."""
    assert measured.metrics is not None  # noqa: S101  (a pass is finite)
    return [
        labelled(verdict.outcome, f"{_decided(verdict)}{verdict.reason}   {quoted(measured.metrics)}"),
        *(_environment_block(verdict.environment) if verdict.environment else []),
        *evidence_lines(verdict, measured),
        labelled("throughput", throughput_line(measured, golden)),
        *resource_lines(verdict),
        labelled("strata", strata_line(strata)),
        f"{INDENT}would have caught: {' · '.join(verdict.would_have_caught)}",
    ]


def reference_only_lines(
    verdict: Verdict, measured: Record, strata: Mapping[str, Metrics], *, command: str
) -> list[str]:
    """What is shown of a baseline that only another device has a golden of."""
    assert measured.metrics is not None  # noqa: S101  (a pass is finite)
    return [
        labelled(verdict.outcome, f"{_decided(verdict)}{verdict.reason}   {quoted(measured.metrics)}"),
        *reference_lines(verdict.reference),
        labelled("throughput", throughput_line(measured, None)),
        *resource_lines(verdict),
        labelled("strata", strata_line(strata)),
        f"{INDENT}would have caught: {' · '.join(verdict.would_have_caught)}",
        f"{INDENT}to judge all tiers here, record a golden: {command} --snapshot-update{REASON}",
    ]


def failed_lines(
    verdict: Verdict,
    measured: Record,
    golden: Record | None,
    *,
    path: str,
    command: str,
    notes: tuple[str, ...] = (),
    refused: str | None = None,
) -> list[str]:
    """What is shown of a baseline that failed: the cause, the table, the environment, what to do."""
    lines = [
        f"esa: {measured.baseline} is {verdict.outcome}, {_decided(verdict).strip()}",
        f"{INDENT}{verdict.reason}.",
        "",
    ]
    if len(verdict.changes) > 1:
        lines += [f"{INDENT}changed inputs, the likeliest cause first:", *_change_lines(verdict.changes), ""]
    if verdict.rows:
        lines += [*table(verdict.rows), ""]
    lines += evidence_lines(verdict, measured)
    if verdict.resources:
        lines += [labelled("throughput", throughput_line(measured, golden)), *resource_lines(verdict)]
    if golden is not None:
        lines += _environment_block(verdict.environment)
        lines.append(labelled("golden", f"{path} of {golden.provenance.get('utc')}"))
    # A note may well name the cause.
    return [
        *lines,
        *notes_lines(notes),
        "",
        *_advice_lines(advice_on(verdict, baseline=measured.baseline, command=command, refused=refused)),
    ]


def recorded_lines(measured: Record, *, path: str, strata: Mapping[str, Metrics]) -> list[str]:
    """What is shown of a baseline whose golden was written."""
    assert measured.metrics is not None  # noqa: S101  (checked when packed)
    return [
        labelled("recorded", f"{path}   {quoted(measured.metrics)}"),
        labelled("bits", stability_text(measured.bit_stability)),
        *noise_lines(measured),
        labelled("throughput", throughput_line(measured, None)),
        *resource_noise_lines(measured.resource_noise),
        labelled("strata", strata_line(strata)),
    ]


def replaced_line(verdict: Verdict, measured: Record, golden: Record) -> str:
    """What a recording replaces: how it was judged by that golden, and what becomes of the loss."""
    assert measured.metrics is not None and golden.metrics is not None  # noqa: PT018, S101  (checked when packed)
    losses = f"loss {golden.metrics.mean_nll:.4f} -> {measured.metrics.mean_nll:.4f}"
    return labelled("replaces", f"{verdict.outcome} from the {_golden_of(golden)}: {losses}")


def noise_lines(measured: Record) -> list[str]:
    """What harmless changes do to the scores of this model, and to its float32 reference."""
    return [*_score_noise_lines(measured.noise), *_reference_noise_lines(measured.probe_noise)]


def _score_noise_lines(noise: Noise | None) -> list[str]:
    if noise is None:
        return []
    sizes = [float(np.sqrt(np.mean(np.square(variant.drift, dtype=np.float64)))) for variant in noise.moved]
    size = f"bf16 noise rms {min(sizes):.1e} to {max(sizes):.1e} nats" if sizes else "no harmless change moved a bit"
    patterns = count(noise.distinct_bit_patterns, "bit pattern")
    few = "" if why_unmeasured(noise) is None else "; too few to judge by"
    return [
        labelled("noise", f"{size} over {patterns}, {noise.nll.size} tokens ({_kinds(noise)}){few}"),
        *(labelled("", sentence) for sentence in noise.untried),
    ]


def _kinds(noise: Noise) -> str:
    """What was varied, the seeds of one kind counted."""
    kinds = Counter(variant.name.split(", seed ")[0] for variant in noise.variants)
    return ", ".join(name if number == 1 else f"{name} x {number}" for name, number in kinds.items())


def _reference_noise_lines(noise: ProbeNoise | None) -> list[str]:
    if noise is None:
        return [labelled("reference", "none: it does not suit this model, so its meaning is judged by metrics alone")]
    size = f"float32 noise rms {noise.rms:.1e}, max {noise.maximum:.1e} nats"
    lines = [
        labelled("reference", f"{size} over {noise.distinct_bit_patterns} bit patterns ({', '.join(noise.varied)})")
    ]
    if noise.rms > WEAK_ABOVE:
        sees = allowed_rms(noise) + noise.rms
        lines.append(labelled("", f"weak probe: it sees a change of {sees:.1g} nats rms and no ordinary single weight"))
    return lines


def _decided(verdict: Verdict) -> str:
    """Which tier decided; equal bits say it themselves."""
    if verdict.outcome is Outcome.IDENTICAL:
        return ""
    return f"decided by tier {verdict.tier} ({verdict.tier.name.lower()}): "


def quoted(metrics: Metrics) -> str:
    """The three numbers that people quote."""
    return f"loss {metrics.mean_nll:.4f}  ppl {metrics.perplexity:.2f}  acc {metrics.token_accuracy:.1%}"


def strata_line(strata: Mapping[str, Metrics]) -> str:
    """The loss of each stratum and how many tokens it rests on."""
    return " · ".join(f"{name} {m.mean_nll:.2f} ({m.num_scored_tokens})" for name, m in strata.items())


def calibration_lines(calibration: Calibration | None) -> list[str]:
    """How far the model's probabilities can be believed."""
    if calibration is None:
        return []
    entropy = " · ".join(f"{label} {value:.2f}" for label, value in calibration.entropy_by_position.items())
    return [
        labelled(
            "calibration",
            f"ECE {calibration.ece:.4f} · Brier {calibration.brier:.4f} · top-k mass {calibration.top_k_mass:.4f}",
        ),
        labelled("entropy", f"{calibration.mean_entropy:.3f} nats; by position {entropy}"),
    ]


def notes_lines(notes: tuple[str, ...]) -> list[str]:
    """What a reader should know of a run, a sentence a line."""
    return [f"{INDENT}note: {note}" for note in notes]


def table(rows: tuple[MetricRow, ...]) -> list[str]:
    """Golden, measured, drift and allowed, in columns."""
    cells = [("metric", "golden", "measured", "drift", "allowed")]
    for row in rows:
        allowed = "not gated" if row.allowed is None else f"±{row.allowed:.3g} ({row.source})"
        mark = "" if row.within else "  <- drifted"
        cells.append(
            (
                SPOKEN.get(row.name, row.name),
                f"{row.golden:.6g}",
                f"{row.measured:.6g}",
                f"{row.drift:+.3g}",
                allowed + mark,
            )
        )
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return [
        INDENT + "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]])
        for row in cells
    ]


def _environment_block(changes: tuple[Change, ...]) -> list[str]:
    if not changes:
        return [labelled("environment", "the same as the golden's")]
    return [labelled("environment", f"{count(len(changes), 'difference')}:"), *_change_lines(changes)]


def _change_lines(changes: tuple[Change, ...]) -> list[str]:
    width = max(len(change.name) for change in changes)
    return [
        f"{INDENT * 2}{change.name:<{width}}  {_value(change.golden)} -> {_value(change.measured)}"
        for change in changes
    ]


def _value(value: str | None) -> str:
    if value is None:
        return "(none)"
    text = value.strip('"')
    return text if len(text) <= 60 else f"{text[:57]}…"


def _advice_lines(advice: Sequence[Advice]) -> list[str]:
    return [
        line
        for one in advice
        for line in (f"{INDENT}{one.text}", *([] if one.command is None else [f"{INDENT * 2}{one.command}"]))
    ]


def failed_line(verdict: Verdict) -> str:
    """A failure in one line, for the end of the output; the whole of it stands among pytest's failures."""
    return labelled(verdict.outcome, f"{_decided(verdict)}{verdict.reason}")


def properties(outcome: str, verdict: Verdict | None, measured: Record) -> dict[str, object]:
    """What JUnit and pytest's report are told of a run, by name."""
    found: dict[str, object] = {"esa_outcome": str(outcome)}  # xdist sends plain strings only
    if verdict is not None:
        found["esa_tier"] = int(verdict.tier)
    if measured.metrics is not None:
        found |= {f"esa_{name}": value for name, value in measured.metrics.as_dict().items()}
    return found | {f"esa_{name}": value for name, value in measured.resources.items()}
