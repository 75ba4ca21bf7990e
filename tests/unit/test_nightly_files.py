"""The files that docs/nightly.md hands out know every status that a session ends with."""

import re
from pathlib import Path

import pytest

from esa_pytest.exit_status import Status

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["nightly.yml", "nightly.sh"])
def test_every_status_has_a_case_of_its_own(name: str) -> None:
    text = (DOCS / "nightly" / name).read_text(encoding="utf-8")
    cases = {int(number) for number in re.findall(r"^\s+(\d+)\) ", text, flags=re.MULTILINE)}
    assert cases == {int(status) for status in Status}


def test_every_status_is_explained() -> None:
    text = (DOCS / "nightly.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", text, flags=re.MULTILINE)
    assert {(int(number), word.replace(" ", "_").upper()) for number, word in rows} == {
        (int(status), status.name) for status in Status
    }
