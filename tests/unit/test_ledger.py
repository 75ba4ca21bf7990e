import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.errors import AcceptanceError, LedgerError
from esa_pytest.golden.files import read_golden, write_packed
from esa_pytest.golden.ledger import (
    LEDGER_NAME,
    AcceptedNumbers,
    LedgerEntry,
    changed_items,
    known_noise,
    line_of,
    parse,
)
from esa_pytest.golden.ledger_files import (
    judged_sha256_of,
    read_ledger,
    seal_at,
    unaccepted_goldens,
    write_accepted,
)
from esa_pytest.golden.location import GoldenLocation, unwanted_goldens
from esa_pytest.golden.packing import pack
from esa_pytest.records import Change, Record
from tests.unit.builders import content_of, packed, small_record, token_scores
from tests.unit.killing import KilledError, Killer
from tests.unit.ledger_builders import entries, entry, numbers
from tests.unit.probe_builders import NOISE, probed

CONFLICT = (
    "; restore the file from version control, or take that line out (a conflict of two branches is solved by keeping "
    "the lines of both)."
)
OLD, NEW, NEWEST = (
    replace(small_record(token_scores([loss])), provenance={"reason": f"loss {loss}"}) for loss in (7.0, 8.0, 9.0)
)


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))


def place(root: Path, folder: str = "tiny__smoke") -> GoldenLocation:
    return GoldenLocation(root=root / "goldens", folder=folder, device="cpu", dtype="float32")


def entry_for(record: Record, **more: Any) -> LedgerEntry:
    data = pack(record, npz_name="cpu-float32.npz")
    assert record.metrics is not None
    return entry(record.metrics.mean_nll, reason=str(record.provenance["reason"]), **more).model_copy(
        update={"new": numbers(record.metrics.mean_nll).model_copy(update={"judged_sha256": judged_sha256_of(data)})}
    )


def accept(location: GoldenLocation, record: Record) -> None:
    """In the place of whatever golden is there."""
    write_accepted(location, pack(record, npz_name=location.npz.name), entry_for(record, old=sealed(seal_at(location))))


def sealed(seal: str | None) -> AcceptedNumbers | None:
    """The numbers of a golden that bears a seal."""
    return None if seal is None else numbers(7.0).model_copy(update={"judged_sha256": seal})


def killed_accept(location: GoldenLocation, record: Record, *, survived: int) -> bool:
    """Whether the kill came before all was done."""
    with pytest.MonkeyPatch.context() as patch:
        Killer(patch, survived=survived)
        try:
            accept(location, record)
        except KilledError:
            return True
    return False


def told(location: GoldenLocation) -> list[str | None]:
    return [one.reason for one in read_ledger(location.root)]


def golden(location: GoldenLocation) -> object:
    record = read_golden(location)
    return None if record is None else content_of(record)


class TestLines:
    @given(entries)
    def test_an_entry_comes_back_from_its_line(self, one: LedgerEntry) -> None:
        line = line_of(one)
        assert line.count(b"\n") == 1
        assert line.isascii()
        assert parse(line, name="it") == [one]

    @given(st.lists(entries, max_size=4))
    def test_a_ledger_comes_back_line_by_line(self, many: list[LedgerEntry]) -> None:
        assert parse(b"".join(line_of(one) for one in many), name="it") == many

    def test_blank_lines_and_other_ends_of_lines_are_no_entries(self) -> None:
        line = line_of(entry()).rstrip()
        assert parse(b"\n" + line + b"\r\n\r\n" + line, name="it") == [entry(), entry()]

    @pytest.mark.parametrize(
        ("line", "cause"),
        [
            (b"<<<<<<< HEAD", "Invalid JSON"),
            (b'{"version": 1', "Invalid JSON"),
            (b"\xff", "Invalid JSON"),
            (b"[]", "Input should be an object"),
            (b"{}", "utc: Field required"),
        ],
    )
    def test_a_malformed_line_is_named(self, line: bytes, cause: str) -> None:
        with pytest.raises(LedgerError) as caught:
            parse(line_of(entry()) + line + b"\n", name="goldens/ledger.jsonl")
        assert str(caught.value).startswith(f"The ledger goldens/ledger.jsonl is not valid in line 2: {cause}")
        assert str(caught.value).endswith(CONFLICT)

    @pytest.mark.parametrize(
        ("field", "value", "cause"),
        [
            ("version", 2, "version: Input should be 1"),
            ("forced", "no", "forced: Input should be a valid boolean"),
            ("color", "red", "color: Extra inputs are not permitted"),
        ],
    )
    def test_a_wrong_field_is_named(self, field: str, value: object, cause: str) -> None:
        content = json.loads(line_of(entry())) | {field: value}
        with pytest.raises(LedgerError) as caught:
            parse(json.dumps(content).encode(), name="it")
        assert str(caught.value) == f"The ledger it is not valid in line 1: {cause}{CONFLICT}"

    def test_a_number_that_is_not_finite_is_refused(self) -> None:
        line = line_of(entry()).replace(b'"mean_nll":2.0', b'"mean_nll":NaN')
        with pytest.raises(LedgerError, match=r"line 1: new\.mean_nll: "):
            parse(line, name="it")


class TestParts:
    def test_noise_is_what_the_record_measured(self) -> None:
        noise = known_noise(probed(small_record(), noise=NOISE))
        assert (noise.fresh_processes, noise.distinct_bit_patterns, noise.noise_of) == (2, 1, None)
        assert (noise.reference_rms, noise.reference_maximum) == (NOISE.rms, NOISE.maximum)

    def test_noise_of_a_plain_run_is_none(self) -> None:
        noise = known_noise(replace(small_record(), bit_stability=None))
        assert (noise.fresh_processes, noise.reference_rms, noise.reference_maximum) == (0, None, None)

    def test_noise_that_was_carried_over_says_from_where(self) -> None:
        assert known_noise(replace(small_record(), provenance={"noise_of": "2026"})).noise_of == "2026"

    def test_changes_keep_their_sides(self) -> None:
        (item,) = changed_items([Change(name="version.torch", golden="2.13", measured=None)])
        assert (item.name, item.old, item.new) == ("version.torch", "2.13", None)

    def test_the_seal_of_a_golden_is_read_from_its_bytes(self) -> None:
        document, _ = packed(OLD)
        assert judged_sha256_of(pack(OLD, npz_name="cpu-float32.npz")) == document["judged_sha256"]

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"judged_sha256": 1}'])
    def test_damaged_bytes_have_no_seal(self, text: bytes) -> None:
        assert judged_sha256_of(len(text).to_bytes(8, "little") + text) is None


def test_no_ledger_has_no_entries(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "gone") == []


def test_accepted_goldens_are_told_in_order(tmp_path: Path) -> None:
    location = place(tmp_path)
    for record in (OLD, NEW, NEWEST):
        accept(location, record)
    assert told(location) == ["loss 7.0", "loss 8.0", "loss 9.0"]
    assert golden(location) == content_of(NEWEST)
    assert sorted(path.name for path in location.root.rglob("*")) == [
        "cpu-float32.json",
        "cpu-float32.npz",
        LEDGER_NAME,
        "tiny__smoke",
    ]
    assert unwanted_goldens(location.root, {"tiny__smoke"}) == ()


def test_a_golden_that_the_ledger_did_not_accept_is_found(tmp_path: Path) -> None:
    location, folders = place(tmp_path), {"tiny-smoke": "tiny__smoke"}
    assert unaccepted_goldens(location.root, folders) == []
    accept(location, OLD)
    assert unaccepted_goldens(location.root, folders) == []
    write_packed(location.json, pack(NEW, npz_name=location.npz.name))
    assert unaccepted_goldens(location.root, folders) == [location.json]
    assert unaccepted_goldens(location.root, {}) == []
    location.json.unlink()
    assert unaccepted_goldens(location.root, folders) == []


def test_a_last_line_without_its_end_is_completed(tmp_path: Path) -> None:
    location = place(tmp_path)
    location.root.mkdir()
    (location.root / LEDGER_NAME).write_bytes(line_of(entry(reason="by hand")).rstrip())
    accept(location, OLD)
    assert told(location) == ["by hand", "loss 7.0"]


def test_a_malformed_ledger_leaves_the_golden_as_it_was(tmp_path: Path) -> None:
    location = place(tmp_path)
    accept(location, OLD)
    ledger = location.root / LEDGER_NAME
    ledger.write_bytes(ledger.read_bytes() + b"{")
    before = (location.json.read_bytes(), location.npz.read_bytes(), ledger.read_bytes())
    with pytest.raises(LedgerError, match="line 2"):
        accept(location, NEW)
    assert (location.json.read_bytes(), location.npz.read_bytes(), ledger.read_bytes()) == before


# The pending line, both files of the golden and the ledger are opened, synced and renamed, and the golden's JSON twice;
# some releases of Python open files to read them by a step of their own.
STEPS = 40


@pytest.mark.parametrize("old", [None, OLD])
@pytest.mark.parametrize("survived", range(STEPS))
def test_kill_at_any_step_leaves_golden_and_ledger_of_one_mind(
    tmp_path: Path, survived: int, old: Record | None
) -> None:
    location = place(tmp_path)
    if old is not None:
        accept(location, old)
    killed = killed_accept(location, NEW, survived=survived)
    assert killed or told(location)[-1] == "loss 8.0"
    before = [] if old is None else ["loss 7.0"]
    states = {str(None if old is None else content_of(old)): before, str(content_of(NEW)): [*before, "loss 8.0"]}
    assert told(location) == states[str(golden(location))]
    seen = told(location)
    accept(location, NEWEST)
    assert told(location) == [*seen, "loss 9.0"]
    assert golden(location) == content_of(NEWEST)
    assert not list(location.root.rglob(".*"))


def test_those_are_all_steps(tmp_path: Path) -> None:
    assert not killed_accept(place(tmp_path), NEW, survived=STEPS - 1)


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"x\ny\n"])
def test_a_pending_line_of_no_golden_is_dropped(tmp_path: Path, content: bytes) -> None:
    location = place(tmp_path)
    accept(location, OLD)
    location.json.with_name(".pending-ledger-cpu-float32.json").write_bytes(content)
    assert told(location) == ["loss 7.0"]
    accept(location, NEW)
    assert told(location) == ["loss 7.0", "loss 8.0"]


def test_a_pending_line_beside_a_damaged_golden_does_not_forbid_to_record(tmp_path: Path) -> None:
    location = place(tmp_path)
    accept(location, OLD)
    location.json.with_name(".pending-ledger-cpu-float32.json").write_bytes(b"0\n" + line_of(entry()))
    location.npz.unlink()
    accept(location, NEWEST)
    assert told(location) == ["loss 7.0", "loss 9.0"]


@pytest.mark.parametrize("judged_by", [None, OLD], ids=["none", "another"])
def test_a_golden_that_nobody_judged_by_is_not_replaced(tmp_path: Path, judged_by: Record | None) -> None:
    location = place(tmp_path)
    if judged_by is not None:
        accept(location, judged_by)
    seal = seal_at(location)
    accept(location, NEW)
    with pytest.raises(AcceptanceError) as caught:
        write_accepted(
            location, pack(NEWEST, npz_name=location.npz.name), entry_for(NEWEST, old=sealed(seal), outcome="x")
        )
    assert str(caught.value) == (
        f"The golden {location.json} was changed while this run was about to replace it; run it once more."
    )
    assert golden(location) == content_of(NEW)
    assert told(location)[-1] == "loss 8.0"


def test_writers_at_once_lose_no_line(tmp_path: Path) -> None:
    def record_ten(name: str) -> Iterator[str]:
        location = place(tmp_path, f"{name}__smoke")
        for number in range(10):
            accept(location, replace(OLD, provenance={"reason": f"{name} {number}"}))
            yield f"{name} {number}"

    with ThreadPoolExecutor(3) as pool:
        written = [list(part) for part in pool.map(lambda name: list(record_ten(name)), "abc")]
    found = told(place(tmp_path))
    assert sorted(filter(None, found)) == sorted(reason for part in written for reason in part)
    for part in written:
        assert [reason for reason in found if reason in part] == part
