"""Where the time of a check went, as the line that `pytest -vv` shows."""

from collections.abc import Mapping

from esa_pytest.report.layout import labelled

# Below this a part says nothing.
_LEAST = 0.01


def seconds_lines(seconds: Mapping[str, float]) -> list[str]:
    """The parts of a check that took a hundredth of a second or more, in the order in which they were met."""
    parts = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in seconds.items() if value >= _LEAST]
    return [labelled("seconds", " · ".join(parts))] if parts else []
