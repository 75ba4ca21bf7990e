"""The options of `pytest --help`, their ini keys, variables and `[tool.esa]` keys. Light: no pydantic, no torch."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

DEFAULT = "the default"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting: `--esa-x`, `ESA_X`, ini `esa_x`, and `x` in `[tool.esa]`, in this order of precedence.

    Attributes:
        name: as in `[tool.esa]`.
        default: where it is given nowhere.
        help: for `pytest --help`.
        metavar: what its value is called there.
        lasting: whether it may be given elsewhere than on the command line, where it would hold for every run.
    """

    name: str
    default: str | int | float | bool | None
    help: str
    metavar: str | None = None
    lasting: bool = True

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return f"--esa-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """The ini key."""
        return f"esa_{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"ESA_{self.name.upper()}"


@dataclass(frozen=True, kw_only=True)
class Given:
    """The value of an option and where it was given."""

    value: Any
    origin: str


OPTIONS = (
    Option(name="device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N"),
    Option(
        name="golden_dir",
        default="baselines_golden",
        metavar="DIR",
        help="where the goldens lie, from the rootdir on",
    ),
    Option(name="output_dir", default="outputs/baselines", metavar="DIR", help="where manifests and summaries go"),
    Option(
        name="rounds",
        default=None,
        metavar="N",
        help="repeat each evaluation N times; every round must give the same bits (default: as the baseline type says)",
    ),
    Option(name="reason", default=None, metavar="TEXT", help="why a golden is recorded; kept in it"),
    Option(
        name="accept_limit",
        default=0.01,
        metavar="SHARE",
        help="largest shift of the loss, as a share of the golden's, that is accepted without --esa-force",
    ),
    Option(name="force", default=False, lasting=False, help="accept a larger shift of the loss too; for one run only"),
    Option(
        name="strict",
        default=False,
        help="fail, instead of skipping, a baseline whose model, memory or corpus cannot be had here",
    ),
    Option(
        name="rehash",
        default=False,
        help="hash the weights even if they have not changed since they were hashed last",
        lasting=False,
    ),
    Option(
        name="calibrate",
        default=False,
        help="measure the noise of each selected baseline, as recording does, and keep it in the run's record",
        lasting=False,
    ),
    Option(
        name="resume",
        default=False,
        help="judge only what the last run did not finish, and show the rest as it was judged, unless it has changed",
        lasting=False,
    ),
    Option(
        name="ray",
        default=None,
        metavar="ADDRESS",
        help="judge each baseline as a task of the Ray cluster at HOST:PORT, or auto (esa-pytest[ray])",
        lasting=False,
    ),
    Option(
        name="false_alarm_rate",
        default=1e-4,
        metavar="RATE",
        help="how often a check may fail where nothing is wrong, all its statistics together",
    ),
    Option(
        name="resources",
        default="fail",
        metavar="MODE",
        help="what a drift of throughput or memory does: off (recorded, not judged), warn, or fail",
    ),
    Option(
        name="load_timeout",
        default=None,
        metavar="SECONDS",
        help="most seconds for fetching and loading a model (default: no limit)",
    ),
    Option(
        name="evaluate_timeout",
        default=None,
        metavar="SECONDS",
        help="most seconds for all evaluations of a baseline (default: no limit)",
    ),
    Option(
        name="allow_unjudged",
        default=False,
        help="exit 0 even if baselines were selected and none was judged",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini key."""
    group = parser.getgroup("esa", "language-model baselines (esa-pytest)")
    for option in OPTIONS:
        if isinstance(option.default, bool):
            group.addoption(option.flag, action="store_true", default=None, help=option.help)
        else:
            default = "" if option.default is None else f" (default: {option.default})"
            group.addoption(option.flag, metavar=option.metavar, default=None, help=option.help + default)
        if option.lasting:
            parser.addini(option.ini, help=f"like {option.flag}: {option.help}", default=None)


def given(option: Option, config: pytest.Config, table: Mapping[str, Any]) -> Given:
    """The value that holds: command line, then environment, then ini, then `[tool.esa]`, then the default."""
    flag = config.getoption(option.flag)
    if not option.lasting:
        return Given(value=option.default, origin=DEFAULT) if flag is None else Given(value=flag, origin=option.flag)
    candidates = (
        (flag, option.flag),
        (os.environ.get(option.variable), f"the variable {option.variable}"),
        # An ini key that is not set is None, and "" before pytest 8.2.
        (config.getini(option.ini) or None, f"the ini key {option.ini}"),
        (table.get(option.name), f"[tool.esa] {option.name}"),
    )
    for value, origin in candidates:
        if value is not None:
            return Given(value=value, origin=origin)
    return Given(value=option.default, origin=DEFAULT)


def is_configured(config: pytest.Config) -> bool:
    """Whether this project uses the plugin: some option was given, or its pyproject.toml has a `[tool.esa]`."""
    if any(given(option, config, {}).origin != DEFAULT for option in OPTIONS):
        return True
    try:
        text = (config.rootpath / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
        tool = tomllib.loads(text).get("tool")
    except OSError:
        return False
    except tomllib.TOMLDecodeError:
        # Where it seems to be ours, reading the settings tells what is wrong with it.
        return "[tool.esa" in text
    return isinstance(tool, dict) and "esa" in tool
