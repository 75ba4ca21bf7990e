from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from esa_pytest.errors import SettingError
from esa_pytest.options import OPTIONS
from esa_pytest.settings import Settings, resolve

TIMEOUTS = ["load_timeout", "evaluate_timeout"]


class Config:
    """What is read of pytest's configuration."""

    def __init__(self, root: Path, flags: Mapping[str, Any], inis: Mapping[str, str]) -> None:
        self.rootpath = root
        self._flags = flags
        self._inis = inis

    def getoption(self, name: str) -> Any:
        return self._flags.get(name)

    def getini(self, name: str) -> Any:
        return self._inis.get(name)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)


class Project:
    """A rootdir with a `[tool.esa]`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def resolve(
        self, table: str = "", *, flags: Mapping[str, Any] | None = None, inis: Mapping[str, str] | None = None
    ) -> Settings:
        (self.root / "pyproject.toml").write_text(f"[tool.esa]\n{table}\n", encoding="utf-8")
        return resolve(cast("pytest.Config", Config(self.root, flags or {}, inis or {})))

    def refusal(
        self, table: str = "", *, flags: Mapping[str, Any] | None = None, inis: Mapping[str, str] | None = None
    ) -> str:
        with pytest.raises(SettingError) as caught:
            self.resolve(table, flags=flags, inis=inis)
        return str(caught.value)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("table", "origin"),
    [
        ('golden_dir = "~nobody-at-all/x"', "[tool.esa] golden_dir"),
        ('output_dir = "~nobody-at-all/x"', "[tool.esa] output_dir"),
        ('corpora.mine.path = "~nobody-at-all/x"', "path in [tool.esa.corpora]"),
    ],
)
def test_a_home_that_nobody_knows_is_told(project: Project, table: str, origin: str) -> None:
    assert project.refusal(table) == (
        f"{origin} is '~nobody-at-all/x', and no home folder is known for ~nobody-at-all; write the path from / on, or "
        f"from the rootdir on."
    )


def test_nothing_is_strict_or_limited_unless_it_is_asked_for(project: Project) -> None:
    settings = project.resolve()
    assert (settings.strict, settings.load_timeout, settings.evaluate_timeout) == (False, None, None)


def test_baseline_type_says_how_many_rounds_unless_it_is_asked_for(project: Project) -> None:
    assert project.resolve().rounds is None
    assert project.resolve("rounds = 3").rounds == 3


@pytest.mark.parametrize(
    ("table", "strict"),
    [("strict = true", True), ("strict = false", False), ('strict = "yes"', True), ('strict = "off"', False)],
)
def test_strict_is_a_truth(project: Project, table: str, *, strict: bool) -> None:
    assert project.resolve(table).strict is strict


@pytest.mark.parametrize("given", ["2", "maybe", ""])
def test_strict_that_is_no_truth_is_told(project: Project, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("ESA_STRICT", given)
    assert project.refusal() == f"the variable ESA_STRICT is {given!r}; valid values are true and false."


@pytest.mark.parametrize("name", TIMEOUTS)
@pytest.mark.parametrize(
    ("literal", "seconds"), [("1", 1.0), ("0.5", 0.5), ('"30"', 30.0), ('" 1e3 "', 1000.0), ("86400", 86400.0)]
)
def test_timeout_is_a_number_of_seconds(project: Project, name: str, literal: str, seconds: float) -> None:
    assert getattr(project.resolve(f"{name} = {literal}"), name) == seconds


@pytest.mark.parametrize("name", TIMEOUTS)
@pytest.mark.parametrize(
    ("literal", "told"),
    [
        ("0", "0"),
        ("-1", "-1"),
        ("0.0", "0.0"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("true", "True"),
        ('""', "''"),
        ('"2 min"', "'2 min'"),
        ('"1e999"', "'1e999'"),
        ("[1]", "[1]"),
        pytest.param("9" * 400, "9" * 400, id="too large for a float"),
    ],
)
def test_timeout_that_is_no_number_of_seconds_is_told(project: Project, name: str, literal: str, told: str) -> None:
    assert project.refusal(f"{name} = {literal}") == (
        f"[tool.esa] {name} is {told}; it takes a number of seconds above 0."
    )


@pytest.mark.parametrize("name", TIMEOUTS)
def test_timeout_is_taken_from_the_nearest_place(project: Project, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    flag, ini = f"--esa-{name.replace('_', '-')}", f"esa_{name}"
    assert getattr(project.resolve(f"{name} = 4"), name) == 4.0
    assert getattr(project.resolve(f"{name} = 4", inis={ini: "3"}), name) == 3.0
    monkeypatch.setenv(f"ESA_{name.upper()}", "2")
    assert getattr(project.resolve(f"{name} = 4", inis={ini: "3"}), name) == 2.0
    assert getattr(project.resolve(f"{name} = 4", flags={flag: "1"}, inis={ini: "3"}), name) == 1.0


@pytest.mark.parametrize(
    ("flags", "inis", "origin"),
    [
        ({"--esa-load-timeout": "soon"}, {}, "--esa-load-timeout"),
        ({}, {"esa_load_timeout": "soon"}, "the ini key esa_load_timeout"),
    ],
)
def test_place_of_a_wrong_timeout_is_told(
    project: Project, flags: dict[str, str], inis: dict[str, str], origin: str
) -> None:
    assert project.refusal(flags=flags, inis=inis) == f"{origin} is 'soon'; it takes a number of seconds above 0."


@pytest.mark.parametrize(
    ("table", "share"),
    [("", 0.01), ("accept_limit = 0", 0.0), ("accept_limit = 2", 2.0), ('accept_limit = "5e-3"', 0.005)],
)
def test_what_is_accepted_unforced_is_a_share_of_the_loss(project: Project, table: str, share: float) -> None:
    assert project.resolve(table).accept_limit == share


@pytest.mark.parametrize(
    ("literal", "told"),
    [("-0.1", "-0.1"), ("nan", "nan"), ("inf", "inf"), ("true", "True"), ('"1%"', "'1%'"), ("[]", "[]")],
)
def test_limit_that_is_no_share_is_told(project: Project, literal: str, told: str) -> None:
    assert project.refusal(f"accept_limit = {literal}") == (
        f"[tool.esa] accept_limit is {told}; it takes a share from 0 on, as 0.01 for 1 %."
    )


def test_force_is_for_one_run_only(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_FORCE", "1")
    assert project.resolve(inis={"esa_force": "true"}).force is False
    assert project.resolve(flags={"--esa-force": True}).force is True
    assert project.refusal("force = true").startswith("[tool.esa] has the unknown key 'force'; valid keys are accept_")


def test_reason_that_is_no_text_is_told(project: Project) -> None:
    assert project.refusal(flags={"--esa-reason": "\udcff"}) == "--esa-reason is '\\udcff'; it takes text in UTF-8."


def test_unknown_key_lists_the_valid_ones(project: Project) -> None:
    assert project.refusal("timeout = 1") == (
        "[tool.esa] has the unknown key 'timeout'; valid keys are accept_limit, allow_unjudged, corpora, device, "
        "evaluate_timeout, false_alarm_rate, golden_dir, load_timeout, matrix, models, output_dir, packages, reason, "
        "resources, rounds, strict, tolerances, types."
    )


def test_every_option_has_its_four_places() -> None:
    names = {option.name: (option.flag, option.ini, option.variable) for option in OPTIONS}
    assert names["load_timeout"] == ("--esa-load-timeout", "esa_load_timeout", "ESA_LOAD_TIMEOUT")
    assert names["strict"] == ("--esa-strict", "esa_strict", "ESA_STRICT")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:7", "cuda:119"])
def test_device_is_one_that_torch_can_name(project: Project, device: str) -> None:
    assert project.resolve(f'device = "{device}"').device == device


# torch keeps an index in one byte, and would take cuda:256 for cuda:0.
@pytest.mark.parametrize(
    "device", ["cpu\n", "cuda:\u0661", "cuda:" + "9" * 20, "cuda:256", "cuda:120", "cuda:01", "cuda:"]
)
def test_device_that_torch_cannot_name_is_told(project: Project, device: str) -> None:
    assert project.refusal(flags={"--esa-device": device}) == (
        f"--esa-device is {device!r}; valid devices are auto, cpu, cuda, cuda:N."
    )


@pytest.mark.parametrize("rounds", ["\u0663", "9" * 5000, "0", "00"])
def test_rounds_that_are_no_number_of_rounds_are_told(project: Project, rounds: str) -> None:
    assert project.refusal(flags={"--esa-rounds": rounds}) == (
        f"--esa-rounds is {rounds!r}; it takes a whole number from 1 on."
    )
