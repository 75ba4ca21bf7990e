"""What a selftest found as a document for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from esa_pytest.perturbation import Guarded
from esa_pytest.selftest.ladder import Instrument
from esa_pytest.selftest.power import Point, Share, broken
from esa_pytest.selftest.trial import Harmless, Trial


def document(
    guarded: Guarded,
    promise: Mapping[Instrument, float],
    points: Sequence[Point],
    alarms: Share,
    *,
    trials: Sequence[Trial],
    changes: Sequence[Harmless],
) -> dict[str, Any]:
    """Everything that was promised, tried and found."""
    return {
        "baseline": guarded.baseline.id,
        "environment": dict(guarded.clean.environment),
        "provenance": dict(guarded.clean.provenance),
        "tolerances": dict(guarded.rules.tolerances),
        "false_alarm_rate": guarded.rules.false_alarm_rate,
        "promise": {str(instrument): size for instrument, size in promise.items()},
        "kept": not broken(points, alarms),
        "curve": [_point(point) for point in points],
        "false_alarms": _share(alarms),
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "harmless": [change.model_dump(mode="json") for change in changes],
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "instrument": str(point.instrument),
        "multiple": point.multiple,
        "median_size": point.size,
        "promised": point.promised,
        "kept": point.kept,
        "found": _share(point.found),
        "by_tier": {str(int(tier)): _share(share) for tier, share in point.by_tier.items()},
        "by_own_statistic": None if point.alone is None else _share(point.alone),
    }


def _share(share: Share) -> dict[str, Any]:
    return asdict(share) | {"wilson_95": list(share.interval)}
