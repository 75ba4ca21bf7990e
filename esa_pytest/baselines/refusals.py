"""Why an entry of `[tool.esa]` is not valid, in the words of TOML and of whoever wrote it."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from esa_pytest.baselines.sources import (
    DatasetCorpus,
    Entry,
    FileCorpus,
    FolderModel,
    HubModel,
    RandomModel,
    SdistCorpus,
    WheelModel,
)
from esa_pytest.errors import SettingError

_KEY = "[key]"
_VALUE_ERROR = "Value error, "
# By what pydantic puts between an entry's name and its fields, which stands in no file.
_BY_SOURCE: dict[str, type[Entry]] = {
    get_args(entry.model_fields["source"].annotation)[0]: entry
    for entry in (DatasetCorpus, FileCorpus, FolderModel, HubModel, RandomModel, SdistCorpus, WheelModel)
}
_KINDS = {
    "tuple_type": "it takes a list",
    "dict_type": "it takes a table",
    "model_type": "it takes a table",
    "model_attributes_type": "it takes a table",
}
# Each key says by itself what source a model has.
_ORIGINS = {"path": "folder", "repo": "hub", "config": "random"}


def explain(error: ValidationError, entries: Mapping[str, type[Entry]]) -> str:
    """A pydantic error as one clause: which entry, which value, why.

    Args:
        error: the first of its causes is told.
        entries: what a table of a name holds, for those whose source does not tell.
    """
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if part != _KEY]
    source = parts.pop(2) if len(parts) > 2 and parts[0] in ("models", "corpora") else None
    seen = first["input"]
    value = f" (seen: {seen!r})" if isinstance(seen, str | int | float | bool) else ""
    clause = _cause(first, _valid_keys(parts, source, entries))
    return f"{'.'.join(parts)}: {clause}{value}" if parts else clause


def _cause(error: ErrorDetails, valid: list[str]) -> str:
    if error["type"] == "extra_forbidden":
        return f"there is no such key; valid keys are {', '.join(valid)}"
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        return f"there is no source {context['tag']!r}; valid sources are {context['expected_tags']}"
    return _KINDS.get(error["type"], error["msg"].removeprefix(_VALUE_ERROR))


def _valid_keys(parts: list[str], source: str | None, entries: Mapping[str, type[Entry]]) -> list[str]:
    """The keys of the table that the last part is in, which is the innermost whose kind is known."""
    found = _BY_SOURCE.get(source or "")
    # The second part is a name that the user chose.
    for part in (*parts[:1], *parts[2:-1]):
        found = entries.get(part, found)
    return sorted(found.model_fields) if found is not None else []


def source_of_model(name: str, entry: Mapping[str, Any]) -> str:
    """What a model's keys say of where it comes from; a folder where they say nothing.

    Raises:
        SettingError: they say several.
    """
    given = [key for key in _ORIGINS if key in entry]
    if len(given) > 1:
        raise SettingError(
            f"[tool.esa.models.{name}] gives {' and '.join(given)}; a model comes from a folder (path), from the hub "
            f"(repo) or has random weights of a shape (config), so leave all but one out."
        )
    return _ORIGINS[given[0]] if given else _ORIGINS["path"]
