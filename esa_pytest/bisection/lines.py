"""A bisection as the lines that a person reads: what differs, what was tried, which package did it."""

from collections.abc import Sequence

from esa_pytest.bisection.conclusion import narrowed
from esa_pytest.bisection.differences import Differences, Move, Untriable
from esa_pytest.bisection.search import Finding, Standing
from esa_pytest.bisection.trial import MovedPackage, Trial
from esa_pytest.records import Change
from esa_pytest.report.columns import aligned
from esa_pytest.report.layout import count, labelled
from esa_pytest.report.lines import notes_lines

_INDENT = "  "
_HEADING = ("environment", "outcome", "changed", "mean", "max", "reference", "seconds")
_MEANT = {
    Standing.BITS: "nothing changed",
    Standing.MEANING: "only rounding changed, meaning did not",
    Standing.AWAY: "the meaning changed",
}


def start_lines(name: str, golden_date: str, here: Trial, *, reused: bool) -> list[str]:
    """How the baseline stands in the environment that is here."""
    tier = "" if here.standing is Standing.BITS or here.tier is None else f"decided by tier {here.tier}: "
    return [
        f"esa: {name} here, beside its golden of {golden_date}",
        labelled(here.outcome, f"{tier}{here.reason}"),
        labelled("conclusion", f"{_MEANT[here.standing]} ({here.seconds:.0f} s{_kept(reused=reused)})"),
        *notes_lines(here.notes),
    ]


def differences_lines(differences: Differences) -> list[str]:
    """Which packages will be tried, in which order, and what cannot be."""
    lines = []
    if differences.moves:
        lines.append(
            labelled("packages", f"{count(len(differences.moves), 'differs', 'differ')}, the likeliest first:")
        )
        width = max(len(move.package) for move in differences.moves)
        lines += [
            f"{_INDENT * 2}{move.package:<{width}}  {_arrow(move.golden, move.here)}" for move in differences.moves
        ]
    return lines + [labelled("not tried", untriable_text(untriable)) for untriable in differences.untriable]


def untriable_text(untriable: Untriable) -> str:
    """A version that cannot be moved back, and why."""
    return f"{untriable.name} {_arrow(untriable.golden, untriable.here)}: {untriable.why}"


def trial_line(trial: Trial, *, reused: bool) -> str:
    """What came of one environment, as soon as it is known."""
    cause = f": {trial.reason}" if trial.standing in (Standing.UNOBTAINABLE, Standing.BROKEN) else ""
    return labelled(
        "tried", f"{moved_text(trial)}: {trial.outcome}{cause} ({trial.seconds:.0f} s{_kept(reused=reused)})"
    )


def _kept(*, reused: bool) -> str:
    return ", kept from an earlier call" if reused else ""


def table_lines(trials: Sequence[Trial]) -> list[str]:
    """Every environment that was tried, in the order of trying."""
    rows = [_HEADING, *(_row(trial) for trial in trials)]
    return ["", *(f"{_INDENT}{line}" for line in aligned(rows, right=frozenset({2, 3, 4, 5, 6}))), ""]


def _row(trial: Trial) -> tuple[str, ...]:
    changed = "-" if trial.num_changed is None else f"{trial.num_changed} of {trial.num_compared} {trial.unit}s"
    numbers = (
        _number(trial.mean, "+.2e"),
        _number(trial.maximum, ".2e"),
        _number(trial.reference_rms, ".1e"),
    )
    along = f" and {count(len(trial.companions), 'companion')}" if trial.companions else ""
    environment = f"{back_text(trial)}{along}" if trial.moved else moved_text(trial)
    return environment, trial.outcome, changed, *numbers, f"{trial.seconds:.0f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def moved_text(trial: Trial) -> str:
    """An environment by what was moved back in it."""
    if not trial.moved:
        return "as it is here"
    companions = ", ".join(f"{package.package} at {package.version}" for package in trial.companions)
    return back_text(trial) + (f", with {companions}" if companions else "")


def back_text(trial: Trial) -> str:
    """What was moved back on purpose, as `torch back at 2.12.0 and numpy at 2.3.0`."""
    first, *others = trial.moved
    return _listed([f"{first.package} back at {first.version}", *(f"{p.package} at {p.version}" for p in others)])


def identical_line(here: Trial) -> str:
    """The closing sentence where there is nothing to find."""
    return f"esa: {_bits(here)} here; no package moved the numbers."


def no_package_line(differences: Differences) -> str:
    """The closing sentence where no package differs that could be moved back."""
    untriable = "".join(f" Not tried: {untriable_text(each)}." for each in differences.untriable)
    return (
        f"esa: No package that can be moved back differs from the golden's.{untriable}{_suspects(differences.others)}"
    )


def other_inputs_line(inputs: Sequence[str]) -> str:
    """The closing sentence where the files are others, which no package explains."""
    return (
        f"esa: It is not the same experiment as the golden's: {_listed(inputs)} {'is' if len(inputs) == 1 else 'are'} "
        f"read from files, and no package changes those; restore them first."
    )


def found_line(finding: Finding, trials: Sequence[Trial]) -> str:
    """The closing sentence where the cause was found."""
    causes = [trial for trial in trials if trial.names in narrowed(finding, trials)]
    first = causes[0]
    if len(causes) > 1:
        each = _listed([f"with {back_text(trial)} {_restored(trial)}" for trial in causes])
        return (
            f"esa: Any one of {_listed([_cause(trial) for trial in causes])} explains what moved the numbers: {each}."
        )
    if len(first.moved) > 1:
        return (
            f"esa: {_cause(first)} moved the numbers together: to move back fewer of them is not enough, and with "
            f"{back_text(first)} {_restored(first)}."
        )
    return f"esa: {_cause(first)} is what moved the numbers: with {back_text(first)} {_restored(first)}."


def unexplained_line(moves: Sequence[Move], trials: Sequence[Trial], differences: Differences) -> str:
    """The closing sentence where the numbers did not come back."""
    last = next((trial for trial in reversed(trials) if trial.standing > Standing.BROKEN and trial.moved), None)
    tried = "none of them could be moved back" if last is None else f"with {back_text(last)} it is {last.outcome} still"
    lost = [trial for trial in trials if len(trial.moved) == 1 and trial.standing <= Standing.BROKEN]
    lost_text = "".join(f" {each.moved[0].package} says nothing: {each.outcome}, {each.reason}." for each in lost)
    untriable = "".join(f" Not tried: {untriable_text(each)}." for each in differences.untriable)
    names = _listed([move.package for move in moves])
    return f"esa: No package of {names} explains it: {tried}.{lost_text}{untriable}{_suspects(differences.others)}"


def unfinished_line(seconds: float, now: str, left: Sequence[str] | None, folder: str) -> str:
    """What is said when the time is up; `left` is None where it is not known yet which packages differ."""
    if left is None:
        rest = "every package is still to be tried"
    elif left:
        rest = f"{_listed(left)} {'is' if len(left) == 1 else 'are'} still to be tried alone"
    else:
        rest = "every package has been tried alone, and not every set of them that matters"
    return (
        f"The time limit of {seconds:g} s is up while {now}; {rest}. What was measured is kept in {folder}: call "
        f"esa bisect again to go on from there, with a longer limit if one step, or all that broke together, takes "
        f"longer than this one."
    )


def _suspects(others: Sequence[Change]) -> str:
    if not others:
        return " Nothing else on record differs: look for a perturbation in memory, or for a package not on record."
    named = _listed([f"{change.name} ({_arrow(change.golden, change.measured)})" for change in others])
    return f" What else differs, and is no package: {named}."


def _cause(trial: Trial) -> str:
    """What was moved on purpose and what went along, in the direction in which the numbers moved."""
    with_companions = f", with {_listed(list(map(_moved, trial.companions)))}," if trial.companions else ""
    return _listed(list(map(_moved, trial.moved))) + with_companions


def _moved(package: MovedPackage) -> str:
    return f"{package.package} {_arrow(package.version, package.here)}"


def _restored(trial: Trial) -> str:
    if trial.standing is Standing.BITS:
        return _bits(trial)
    changed = (
        "" if not trial.num_changed else f", in other bits of {trial.num_changed} of {trial.num_compared} {trial.unit}s"
    )
    return f"the model means what it meant{changed}"


def _bits(trial: Trial) -> str:
    return f"all {trial.num_compared} {trial.unit} NLLs have the golden's bits"


def _arrow(golden: str | None, here: str | None) -> str:
    return f"{golden or '(none)'} -> {here or '(none)'}"


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
