"""Every setting resolved once, before anything loads; what is not allowed is told with what is."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.baselines.catalog import Baseline, Catalog, expand_matrix, load_catalog
from esa_pytest.drift.rules import TOLERANCE_NAMES, TOLERANCES, ResourceMode, Rules
from esa_pytest.errors import SettingError
from esa_pytest.homes import expanded
from esa_pytest.options import OPTIONS, Given, given

DEFAULT_MATRIX = {"smoke": ["smollm2-135m"]}
_ENTRIES = ("corpora", "matrix", "models", "packages", "tolerances", "types")
# torch counts 120 GPUs at most, and keeps an index in one byte: 256 would be taken for 0.
_DEVICE = re.compile(r"auto|cpu|cuda(:([1-9]?[0-9]|1[01][0-9]))?")
_ROUNDS = re.compile(r"[0-9]{1,9}")
# A year; timers know no more than some number of seconds.
_LEAST_RATE, _LARGEST_RATE = 1e-9, 0.1
_MOST_SECONDS = 366 * 86_400.0
_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this session was told.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        golden_dir: absolute.
        output_dir: absolute.
        rounds: how often each evaluation is repeated; None for what the baseline type says.
        reason: why a golden is recorded.
        rehash: whether weights are hashed even if a hash of them is kept.
        calibrate: whether the noise of each selected baseline is measured.
        resume: whether what the last run judged stands, where nothing has changed since.
        rules: how strictly drift is judged.
        accept_limit: the largest relative shift of the loss that is accepted unforced.
        force: whether a larger one is accepted too.
        strict: whether a baseline that cannot be judged here fails instead of being skipped.
        load_timeout: most seconds for fetching and loading a model; None for no limit.
        evaluate_timeout: most seconds for all evaluations of a baseline; None for no limit.
        allow_unjudged: whether a session that judged nothing may exit 0.
        root: pytest's rootdir.
        catalog: everything that the matrix may name.
        baselines: the matrix, expanded.
    """

    device: str
    golden_dir: Path
    output_dir: Path
    rounds: int | None
    reason: str | None
    rehash: bool
    calibrate: bool
    resume: bool
    rules: Rules
    accept_limit: float
    force: bool
    strict: bool
    load_timeout: float | None
    evaluate_timeout: float | None
    allow_unjudged: bool
    root: Path
    catalog: Catalog
    baselines: tuple[Baseline, ...]


def tool_table(root: Path) -> dict[str, Any] | None:
    """`[tool.esa]` of the rootdir's pyproject.toml, or None where there is none.

    Raises:
        SettingError: the file is no TOML, or the entry is no table.
    """
    path = root / "pyproject.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no TOML: {error}.") from None
    table = document.get("tool", {}).get("esa")
    if table is not None and not isinstance(table, dict):
        raise SettingError(f"tool.esa in {path} is {table!r}; it is a table, [tool.esa].")
    return table


def resolve(config: pytest.Config) -> Settings:
    """Read and check every setting.

    Raises:
        SettingError: a value is not allowed; the message says where it was given and what is valid.
    """
    root = config.rootpath
    table = tool_table(root) or {}
    valid = sorted([*_ENTRIES, *(option.name for option in OPTIONS if option.lasting)])
    for key in table:
        if key not in valid:
            raise SettingError(f"[tool.esa] has the unknown key {key!r}; valid keys are {', '.join(valid)}.")
    values = {option.name: given(option, config, table) for option in OPTIONS}
    catalog = load_catalog(_tables(table), folder=root)
    matrix = table.get("matrix", DEFAULT_MATRIX)
    if not isinstance(matrix, dict) or not any(matrix.values()):
        raise SettingError(
            f"[tool.esa.matrix] is {matrix!r} and names no baseline; it maps types to models, "
            f'as smoke = ["smollm2-135m"].'
        )
    return Settings(
        device=_device(values["device"]),
        golden_dir=_folder(values["golden_dir"], root),
        output_dir=_folder(values["output_dir"], root),
        rounds=_rounds(values["rounds"]),
        reason=_text(values["reason"]),
        rehash=_truth(values["rehash"]),
        calibrate=_truth(values["calibrate"]),
        resume=_truth(values["resume"]),
        rules=Rules(
            false_alarm_rate=_rate(values["false_alarm_rate"]),
            tolerances=_tolerances(table.get("tolerances", {})),
            resources=_resource_mode(values["resources"]),
        ),
        accept_limit=_share(values["accept_limit"]),
        force=_truth(values["force"]),
        strict=_truth(values["strict"]),
        load_timeout=seconds(values["load_timeout"]),
        evaluate_timeout=seconds(values["evaluate_timeout"]),
        allow_unjudged=_truth(values["allow_unjudged"]),
        root=root,
        catalog=catalog,
        baselines=expand_matrix(matrix, catalog),
    )


def _tables(table: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("corpora", "models", "types"):
        if not isinstance(table.get(name, {}), dict):
            raise SettingError(f"[tool.esa] {name} is {table[name]!r}; it is a table, [tool.esa.{name}].")
    return {name: table.get(name, {}) for name in ("corpora", "models", "types")} | {
        "packages": table.get("packages", [])
    }


def _device(choice: Given) -> str:
    if not isinstance(choice.value, str) or not _DEVICE.fullmatch(choice.value):
        raise SettingError(f"{choice.origin} is {choice.value!r}; valid devices are auto, cpu, cuda, cuda:N.")
    return choice.value


def _folder(choice: Given, root: Path) -> Path:
    if not isinstance(choice.value, str) or not choice.value.strip():
        raise SettingError(f"{choice.origin} is {choice.value!r}; it takes the name of a folder.")
    return root / expanded(choice.value, origin=choice.origin)


def _text(choice: Given) -> str | None:
    if choice.value is None:
        return None
    text = str(choice.value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SettingError(f"{choice.origin} is {choice.value!r}; it takes text in UTF-8.") from None
    return text


def _share(choice: Given) -> float:
    try:
        share = math.nan if isinstance(choice.value, bool) else float(choice.value)
    except (TypeError, ValueError, OverflowError):
        share = math.nan
    if not 0 <= share < math.inf:
        raise SettingError(f"{choice.origin} is {choice.value!r}; it takes a share from 0 on, as 0.01 for 1 %.")
    return share


def _rounds(choice: Given) -> int | None:
    if choice.value is None:
        return None
    text = str(choice.value)
    if isinstance(choice.value, bool) or not _ROUNDS.fullmatch(text) or int(text) < 1:
        raise SettingError(f"{choice.origin} is {choice.value!r}; it takes a whole number from 1 on.")
    return int(text)


def seconds(choice: Given) -> float | None:
    """A number of seconds above 0; None where none was given.

    Raises:
        SettingError: it is something else.
    """
    if choice.value is None:
        return None
    try:
        number = math.nan if isinstance(choice.value, bool) else float(choice.value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= _MOST_SECONDS:
        raise SettingError(f"{choice.origin} is {choice.value!r}; it takes a number of seconds above 0.")
    return number


def _rate(choice: Given) -> float:
    try:
        rate = math.nan if isinstance(choice.value, bool) else float(choice.value)
    except (TypeError, ValueError, OverflowError):
        rate = math.nan
    if not _LEAST_RATE <= rate <= _LARGEST_RATE:
        raise SettingError(
            f"{choice.origin} is {choice.value!r}; it takes a probability from {_LEAST_RATE:g} to {_LARGEST_RATE:g}."
        )
    return rate


def _resource_mode(choice: Given) -> ResourceMode:
    try:
        return ResourceMode(str(choice.value).lower())
    except ValueError:
        valid = ", ".join(ResourceMode)
        raise SettingError(f"{choice.origin} is {choice.value!r}; valid values are {valid}.") from None


def _tolerances(table: Any) -> dict[str, float]:
    if not isinstance(table, dict):
        raise SettingError(f"[tool.esa] tolerances is {table!r}; it is a table, {TOLERANCES}.")
    for name, value in table.items():
        if name not in TOLERANCE_NAMES:
            valid = ", ".join(TOLERANCE_NAMES)
            raise SettingError(f"{TOLERANCES} has the unknown key {name!r}; valid keys are {valid}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise SettingError(f"{TOLERANCES} {name} is {value!r}; it takes a number above 0.")
    return {name: float(value) for name, value in table.items()}


def _truth(choice: Given) -> bool:
    if isinstance(choice.value, bool):
        return choice.value
    try:
        return _TRUTH[str(choice.value).lower()]
    except KeyError:
        raise SettingError(f"{choice.origin} is {choice.value!r}; valid values are true and false.") from None
