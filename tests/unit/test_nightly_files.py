"""The files that docs/nightly.md hands out know every status that a session ends with."""

import re
import tomllib
from pathlib import Path

import pytest

from esa_pytest.exit_status import Status

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["nightly.yml", "nightly.sh"])
def test_every_status_has_a_case_of_its_own(name: str) -> None:
    text = (DOCS / "nightly" / name).read_text(encoding="utf-8")
    cases = {int(number) for number in re.findall(r"^\s+(\d+)\) ", text, flags=re.MULTILINE)}
    assert cases == {int(status) for status in Status}


def test_a_retry_takes_up_what_was_judged_and_no_limit_for_tests_ends_a_night() -> None:
    script = (DOCS / "nightly/nightly.sh").read_text(encoding="utf-8")
    calls = re.findall(r"^\s*judge( [^|]*)? \|\|", script, flags=re.MULTILINE)
    assert calls == ["", " --esa-resume"]
    for name in ("nightly.sh", "nightly.yml"):
        text = (DOCS / "nightly" / name).read_text(encoding="utf-8")
        assert re.findall(r"pytest -m .*", text) == re.findall(r"pytest -m .* -o timeout=0 .*", text) != []


def test_the_nights_requirements_are_extras_of_ours() -> None:
    extras = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    text = (DOCS / "nightly/requirements-nightly.txt").read_text(encoding="utf-8")
    (named,) = re.findall(r"^esa-pytest\[([a-z,]+)\]$", text, flags=re.MULTILINE)
    assert {"nvml", "report"} <= set(named.split(",")) <= extras.keys()


def test_every_status_is_explained() -> None:
    text = (DOCS / "nightly.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", text, flags=re.MULTILINE)
    assert {(int(number), word.replace(" ", "_").upper()) for number, word in rows} == {
        (int(status), status.name) for status in Status
    }
