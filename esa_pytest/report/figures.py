"""What the figures of a report show: numbers with their names, each with the same numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from esa_pytest.report.runs import Run
from esa_pytest.report.tables import Table, number

# Of a model's modules, how many that moved are named in the table.
_MOST_MODULES = 12


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Values with names, the first one uppermost."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    unit: str


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The rms drift by ranges of positions, nats, and what is usual under harmless changes where that was measured."""

    labels: tuple[str, ...]
    rms: tuple[float, ...]
    usual: float | None


@dataclass(frozen=True, kw_only=True)
class Modules:
    """Each module's drift over what its noise allows, in the order of execution."""

    sizes: tuple[float, ...]
    first_moved: int | None
    first_name: str


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Accuracy over confidence, a bin a point."""

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    num_tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The loss of each accepted golden, and which steps belong to a walk."""

    dates: tuple[str, ...]
    losses: tuple[float, ...]
    walked: tuple[int, ...]


Panel = Bars | Positions | Modules | Reliability | Losses


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture.

    Attributes:
        title: of which run it is.
        description: what it shows, for those who do not see it.
        panel: its numbers.
        numbers: the same as a table.
    """

    title: str
    description: str
    panel: Panel
    numbers: Table


def position_figure(run: Run) -> Figure | None:
    """Drift by position; None where no token moved, or tokens are not known one by one."""
    paired = None if run.verdict is None else run.verdict.paired
    parts = () if paired is None else paired.positions
    if paired is None or not any(part.num_changed for part in parts):
        return None
    usual = next((one.noise for one in paired.statistics if one.name == "rms"), None)
    worst = max(parts, key=lambda part: part.rms or 0.0)
    return Figure(
        title=run.name,
        description=(
            f"Root mean square drift of a token's NLL by its position in the window: largest at {worst.label}, "
            f"{number(worst.rms, '{:.2e}')} nats."
        ),
        panel=Positions(
            labels=tuple(part.label for part in parts), rms=tuple(part.rms or 0.0 for part in parts), usual=usual
        ),
        numbers=Table(
            caption="Drift by position, nats",
            heading=("positions", "tokens", "changed", "mean", "rms"),
            rows=tuple(
                (
                    part.label,
                    f"{part.num_tokens:,}",
                    f"{part.num_changed:,}",
                    number(part.mean, "{:+.2e}"),
                    number(part.rms, "{:.2e}"),
                )
                for part in parts
            ),
        ),
    )


def module_figure(run: Run) -> Figure | None:
    """Drift by layer; None where the reference probe did not run, or not a single number of it moved."""
    reference = None if run.verdict is None else run.verdict.reference
    if reference is None or not any(size != 0 for _, size in reference.modules):
        return None
    names = [name for name, _ in reference.modules]
    # What is NaN has moved, beyond any scale.
    sizes = [float("inf") if size is None else size for _, size in reference.modules]
    moved = [index for index, size in enumerate(sizes) if size > 1]
    first = moved[0] if moved else None
    what = "no module left its noise" if first is None else f"the first of {len(moved)} that moved is {names[first]}"
    return Figure(
        title=run.name,
        description=f"Drift of {len(names)} modules of the float32 reference over what their noise allows: {what}.",
        panel=Modules(sizes=tuple(sizes), first_moved=first, first_name="" if first is None else names[first]),
        numbers=Table(
            caption="Modules that moved, the first ones" if moved else "The modules nearest to what is allowed",
            heading=("module", "drift over allowed"),
            rows=tuple((names[index], f"{sizes[index]:.3g}") for index in _told(sizes, moved)),
        ),
    )


def _told(sizes: Sequence[float], moved: Sequence[int]) -> list[int]:
    nearest = sorted(range(len(sizes)), key=lambda index: -sizes[index])[:3]
    return list(moved[:_MOST_MODULES]) if moved else nearest


def reliability_figure(run: Run) -> Figure | None:
    """A reliability diagram; None where the baseline has no calibration."""
    bins = [
        (one.confidence, one.accuracy, one.num_tokens)
        for one in run.reliability
        if one.confidence is not None and one.accuracy is not None
    ]
    if not bins:
        return None
    confidence, accuracy, tokens = zip(*bins, strict=True)
    ece, brier = (None, None) if run.calibration is None else (run.calibration.ece, run.calibration.brier)
    return Figure(
        title=run.name,
        description=(
            f"Share of right tokens over the confidence of the model, {len(bins)} bins: "
            f"ECE {number(ece, '{:.4f}')}, Brier score {number(brier, '{:.4f}')}."
        ),
        panel=Reliability(confidence=confidence, accuracy=accuracy, num_tokens=tokens),
        numbers=Table(
            caption="Calibration by bins of confidence",
            heading=("confidence", "accuracy", "tokens"),
            rows=tuple((f"{c:.3f}", f"{a:.3f}", f"{n:,}") for c, a, n in bins),
        ),
    )
