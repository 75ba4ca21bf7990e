"""Goldens that no ledger tells of: its commit was forgotten."""

from pathlib import Path

import pytest

from esa_pytest.errors import LedgerError
from esa_pytest.golden.ledger import LEDGER_NAME, line_of
from esa_pytest.golden.ledger_files import lacks_ledger
from tests.unit.ledger_builders import entry

FOLDERS = ("tiny__smoke", "tiny__standard")


def test_goldens_without_a_ledger_are_found(tmp_path: Path) -> None:
    assert not lacks_ledger(tmp_path, FOLDERS)
    golden = tmp_path / FOLDERS[1] / "cpu-float32.json"
    golden.parent.mkdir()
    golden.with_name(".pending-ledger-cpu-float32.json").touch()
    assert not lacks_ledger(tmp_path, FOLDERS)
    golden.write_text("{}", encoding="utf-8")
    assert lacks_ledger(tmp_path, FOLDERS)
    assert not lacks_ledger(tmp_path, FOLDERS[:1])
    ledger = tmp_path / LEDGER_NAME
    ledger.touch()
    assert lacks_ledger(tmp_path, FOLDERS)
    ledger.write_bytes(line_of(entry()))
    assert not lacks_ledger(tmp_path, FOLDERS)


def test_ledger_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / FOLDERS[0]).mkdir()
    (tmp_path / FOLDERS[0] / "cpu-float32.json").touch()
    (tmp_path / LEDGER_NAME).write_text("{", encoding="utf-8")
    with pytest.raises(LedgerError):
        lacks_ledger(tmp_path, FOLDERS)
