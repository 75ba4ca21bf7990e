import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from esa_pytest.evaluation.archives import pip_options


def options_of(monkeypatch: pytest.MonkeyPatch, *lines: str) -> dict[str, str]:
    def listed(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:5] == [sys.executable, "-m", "pip", "config", "list"]
        return subprocess.CompletedProcess(command, 0, stdout="\n".join(lines), stderr="")

    monkeypatch.setattr(subprocess, "run", listed)
    return pip_options()


def test_options_are_those_of_all_commands_and_of_download(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options_of(
        monkeypatch,
        "global.index-url='https://one.example/simple'",
        "download.cert='/etc/ca.pem'",
        "install.index-url='https://other.example/simple'",
        "wheel.find-links='/wheels'",
    ) == {"index-url": "https://one.example/simple", "cert": "/etc/ca.pem"}


def test_variable_outranks_download_and_download_outranks_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options_of(
        monkeypatch,
        ":env:.index-url='variable'",
        "download.cert='download'",
        "download.index-url='download'",
        "global.cert='global'",
        "global.index-url='global'",
    ) == {"index-url": "variable", "cert": "download"}


def test_lines_that_are_no_options_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options_of(monkeypatch, "", "WARNING: something", "global.proxy=unquoted", "global.a='b=c'") == {"a": "b=c"}


def test_option_of_several_lines_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options_of(monkeypatch, r"global.find-links='/one\n/two'")["find-links"].split() == ["/one", "/two"]


def test_variable_of_pip_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert pip_options()["find-links"] == str(tmp_path)
