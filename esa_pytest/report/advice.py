"""What to do about a failed check: sentences, each with the command it speaks of."""

from dataclasses import dataclass

from esa_pytest.records import Outcome, Verdict
from esa_pytest.report.resources import resource_remedy

REASON = ' --esa-reason "..."'


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A sentence, and the command that does what it says; None where no command does."""

    text: str
    command: str | None = None


def advice_on(verdict: Verdict, *, baseline: str, command: str, refused: str | None = None) -> tuple[Advice, ...]:
    """What a reader of a failure does next; nothing where the check passed.

    Args:
        verdict: of the check.
        baseline: its id.
        command: the command that runs this test alone.
        refused: why the run was not accepted although that was asked for.
    """
    if verdict.outcome.passed:
        return ()
    # Where packages differ, one of them may have done it.
    packages = any(change.name.startswith("version.") for change in verdict.environment)
    suspicion = Advice(text="To find out which package did it:", command=f"esa bisect {baseline}")
    remedies = _remedies(verdict, command) if refused is None else (Advice(text=refused),)
    return (suspicion, *remedies) if packages else remedies


def _remedies(verdict: Verdict, command: str) -> tuple[Advice, ...]:
    if verdict.outcome is Outcome.NON_FINITE:
        return (Advice(text="A run that is not finite is never a golden: mend the model or its inputs."),)
    accepting = Advice(
        text="Check that it is no regression first. To accept it:", command=f"{command} --snapshot-update{REASON}"
    )
    widening = resource_remedy(verdict)
    return (accepting,) if widening is None else (accepting, Advice(text=widening))
