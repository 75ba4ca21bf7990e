"""Which baselines a test is run for: all of the matrix, or those that its own marks name. Light."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from esa_pytest.resume.hooks import FIXTURE

if TYPE_CHECKING:
    from esa_pytest.baselines.catalog import Baseline

_AS = f'as @pytest.mark.parametrize("{FIXTURE}", ["smollm2-135m-smoke"], indirect=True)'


def marks_of(baseline: "Baseline", config: pytest.Config) -> list[pytest.MarkDecorator]:
    """What every test of a baseline is marked with: its type, and its model as the group that one worker runs."""
    grouped = config.pluginmanager.hasplugin("xdist")
    return [
        getattr(pytest.mark, baseline.type_name),
        *([pytest.mark.xdist_group(baseline.model_name)] if grouped else []),
    ]


def is_bound(metafunc: pytest.Metafunc, baselines: Sequence["Baseline"]) -> bool:
    """Whether a test's own marks say which baselines it is of; one that cannot be meant so is not collected."""
    marks = [mark for mark in metafunc.definition.iter_markers("parametrize") if FIXTURE in _names(mark)]
    for mark in marks:
        refusal = _why_refused(mark, [baseline.id for baseline in baselines])
        if refusal is not None:
            pytest.fail(f"esa: {metafunc.definition.nodeid} {refusal}", pytrace=False)
    return bool(marks)


def bind(item: pytest.Item, baselines: Sequence["Baseline"]) -> None:
    """Give a test whose own marks name a baseline the baseline of that name, and the marks of its other tests."""
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    name = params.get(FIXTURE)
    if isinstance(name, str):
        # What the fixture is asked with, and what everything else that looks for a test's baseline reads.
        params[FIXTURE] = baseline = next(each for each in baselines if each.id == name)
        for mark in marks_of(baseline, item.config):
            item.add_marker(mark)


def _why_refused(mark: pytest.Mark, known: Sequence[str]) -> str | None:
    indirect, values = _argument(mark, "indirect", 2, ()), _argument(mark, "argvalues", 1, ())
    if indirect is not True and FIXTURE not in (indirect or ()):
        return f"parametrises {FIXTURE} without indirect=True, which would take its place; write it {_AS}."
    if not isinstance(values, Sequence):
        return f"parametrises {FIXTURE} by {values!r}; it takes a list of baselines, {_AS}."
    names, place = _names(mark), _names(mark).index(FIXTURE)
    for value in values:
        row = getattr(value, "values", (value,) if len(names) == 1 else value)
        if not isinstance(row, Sequence) or len(row) != len(names):
            continue  # pytest tells of rows that have too few values, or too many
        given = row[place]
        if given not in known:
            return f"names the baseline {given!r}, which the matrix lacks; valid baselines are {', '.join(known)}."
    return None


def _names(mark: pytest.Mark) -> list[str]:
    names = _argument(mark, "argnames", 0, ())
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]


def _argument(mark: pytest.Mark, name: str, place: int, otherwise: Any) -> Any:
    return mark.args[place] if len(mark.args) > place else mark.kwargs.get(name, otherwise)
