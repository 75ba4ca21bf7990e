"""Which of the sets that bring the numbers back is the cause."""

from collections.abc import Sequence

from esa_pytest.bisection.search import Finding, Moved
from esa_pytest.bisection.trial import Trial


def narrowed(finding: Finding, trials: Sequence[Trial]) -> tuple[Moved, ...]:
    """The causes without those that only did it by a companion which does it alone.

    Args:
        finding: its causes were all tried.
        trials: what was tried, with the companions of each.
    """
    by_names = {trial.names: trial for trial in trials}
    kept = tuple(
        cause
        for cause in finding.causes
        if not any(other != cause and _versions(by_names[other]) < _all(by_names[cause]) for other in finding.causes)
    )
    # Two that take each other along cannot be told apart.
    return kept or finding.causes


def _versions(trial: Trial) -> set[tuple[str, str]]:
    return {(package.package, package.version) for package in trial.moved}


def _all(trial: Trial) -> set[tuple[str, str]]:
    return _versions(trial) | {(package.package, package.version) for package in trial.companions}
