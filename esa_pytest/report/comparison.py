"""The last runs of all baselines beside each other, and beside what others reported of them."""

from collections.abc import Iterable, Mapping, Sequence

from esa_pytest.report.cards import BROKEN, SKIPPED, standing_of
from esa_pytest.report.columns import aligned
from esa_pytest.report.figures import Bars, Figure
from esa_pytest.report.layout import count, first_sentence
from esa_pytest.report.reported import REMARK
from esa_pytest.report.resource_table import peak_gib
from esa_pytest.report.runs import Run, Unreadable
from esa_pytest.report.tables import NOTHING, Table, flat, number

_HEADING = ("baseline", "outcome", "loss", "perplexity", "bits/byte", "accuracy", "tok/s", "peak GiB")
# A measured figure's name, what was reported under, and how both are written.
_REPORTED = (
    ("loss", "loss", "{:.4f}"),
    ("perplexity", "perplexity", "{:.4f}"),
    ("token accuracy", "token_accuracy", "{:.2%}"),
    ("tokens/s", "tokens_per_second", "{:,.0f}"),
    ("peak GiB", "peak_vram_gib", "{:.2f}"),
)


def comparison_lines(runs: Sequence[Run | Unreadable]) -> list[str]:
    """One row a run, and below it one of what was reported, where anything was; then why some came to no verdict."""
    rows: list[tuple[str, ...]] = [_HEADING]
    for run in runs:
        if isinstance(run, Unreadable):
            rows.append((flat(run.folder), "unreadable", *([NOTHING] * (len(_HEADING) - 2))))
            continue
        rows.append(_terminal_row(flat(run.name), flat(_outcome(run)), _measured(run), _bits_per_byte(run)))
        if run.reported:
            rows.append(_terminal_row("  reported", "", run.reported, None))
    lines = aligned(rows, right=frozenset(range(2, len(_HEADING))))
    reasons = [_reason_line(run) for run in runs if standing_of(run) in (BROKEN, SKIPPED)]
    if reasons:
        lines += ["", *reasons]
    if any(isinstance(run, Run) and run.reported for run in runs):
        lines += ["", f"reported: {REMARK}"]
    return [*lines, f"esa: {count(len(runs), 'baseline')}"]


def _outcome(run: Run) -> str:
    """The verdict's word; where there is none how the run stands, since the class of an error tells nobody anything."""
    standing = standing_of(run)
    return standing.word if standing in (BROKEN, SKIPPED) else run.outcome


def _reason_line(run: Run | Unreadable) -> str:
    if isinstance(run, Unreadable):
        return f"{flat(run.folder)} is {BROKEN.word}: its manifest cannot be read ({flat(run.cause)})."
    return f"{flat(run.name)} is {_outcome(run)}: {flat(first_sentence(run.reason or run.outcome))}"


def comparison_tables(runs: Sequence[Run]) -> tuple[Table, ...]:
    """A table a baseline type, the model that needs the fewest bits a byte first."""
    measured = [run for run in runs if run.metrics is not None]
    return tuple(
        Table(
            caption=type_name,
            heading=("model", "loss", "perplexity", "bits per byte", "token accuracy", "scored", "outcome", "date"),
            rows=tuple(_row(run) for run in sorted(_of_type(measured, type_name), key=_rank)),
        )
        for type_name in dict.fromkeys(run.type for run in measured)
    )


def comparison_figures(runs: Sequence[Run]) -> tuple[Figure, ...]:
    """Bits per byte by model, a picture a baseline type; a single model has nothing to be compared with."""
    return tuple(
        figure
        for type_name in dict.fromkeys(run.type for run in runs)
        if (figure := _bars(type_name, sorted(_of_type(runs, type_name), key=_rank))) is not None
    )


def reported_table(runs: Sequence[Run]) -> Table | None:
    """Measured beside reported; None where nothing was reported of any run."""
    told = [run for run in runs if run.reported]
    if not told:
        return None
    return Table(
        caption="Measured here and reported elsewhere",
        heading=("baseline", *(spoken for spoken, _, _ in _REPORTED)),
        rows=tuple(
            row
            for run in told
            for row in (
                *([_figures(f"{run.name}, measured", _measured(run))] if run.metrics is not None else []),
                _figures(f"{run.baseline}, reported", run.reported or {}),
            )
        ),
    )


def _figures(name: str, values: Mapping[str, float | None]) -> tuple[str, ...]:
    return (name, *(number(values.get(key), layout) for _, key, layout in _REPORTED))


def _terminal_row(
    name: str, outcome: str, values: Mapping[str, float | None], bits_per_byte: float | None
) -> tuple[str, ...]:
    return (
        name,
        outcome,
        number(values.get("loss"), "{:.4f}"),
        number(values.get("perplexity"), "{:.4f}"),
        number(bits_per_byte, "{:.4f}"),
        number(values.get("token_accuracy"), "{:.2%}"),
        number(values.get("tokens_per_second"), "{:,.0f}"),
        number(values.get("peak_vram_gib"), "{:.2f}"),
    )


def _measured(run: Run) -> dict[str, float | None]:
    """What was measured, by the names that reported figures have."""
    metrics, speed = run.metrics, run.resources.get("throughput_tokens_per_second")
    return {
        "loss": None if metrics is None else metrics.mean_nll,
        "perplexity": None if metrics is None else metrics.perplexity,
        "token_accuracy": None if metrics is None else metrics.token_accuracy,
        "tokens_per_second": speed if isinstance(speed, int | float) else None,
        "peak_vram_gib": peak_gib(run),
    }


def _bits_per_byte(run: Run) -> float | None:
    return None if run.text is None else run.text.bits_per_byte


def _of_type(runs: Iterable[Run], type_name: str) -> list[Run]:
    return [run for run in runs if run.type == type_name]


def _rank(run: Run) -> tuple[float, str]:
    bits = _bits_per_byte(run)
    return (float("inf") if bits is None else bits, run.name)


def _row(run: Run) -> tuple[str, ...]:
    values = _measured(run)
    tokens = "" if run.metrics is None else f"{run.metrics.num_scored_tokens:,} tokens"
    length = "" if run.text is None else f", {run.text.num_bytes:,} bytes"
    return (
        run.model if run.device is None else f"{run.model} ({run.device})",
        number(values["loss"], "{:.4f}"),
        number(values["perplexity"], "{:.3f}"),
        number(_bits_per_byte(run), "{:.4f}"),
        number(values["token_accuracy"], "{:.2%}"),
        tokens + length,
        run.outcome,
        NOTHING if run.utc is None else run.utc[:10],
    )


def _bars(type_name: str, runs: Sequence[Run]) -> Figure | None:
    known = [(run.model, bits) for run in runs if (bits := _bits_per_byte(run)) is not None]
    if len(known) < 2:
        return None
    names, values = zip(*known, strict=True)
    return Figure(
        title=type_name,
        description=f"Bits per byte of {len(known)} models, from {values[0]:.3f} ({names[0]}) to {values[-1]:.3f}.",
        panel=Bars(names=names, values=values, unit="bits per byte"),
        numbers=Table(
            caption=f"Bits per byte, {type_name}",
            heading=("model", "bits per byte"),
            rows=tuple((name, f"{bits:.4f}") for name, bits in known),
        ),
    )
