"""How the record of a run, from here or from elsewhere, is accepted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esa_pytest.commands import artifacts
from esa_pytest.exit_status import Status
from esa_pytest.golden.files import read_pair, write_packed
from esa_pytest.golden.packing import join_pair, split_pair, unpack
from esa_pytest.golden.schema import judged_sha256
from esa_pytest.resume.marks import PREFIX
from tests.plugin.conftest import Project
from tests.plugin.perturbed import FAILED, LARGE, OK, REFUSED, SMALL, goldens_of, ledger_of, perturb, record_of, run
from tests.plugin.test_lifecycle import contents
from tests.unit.builders import npz_members, npz_of, resealed


def kept_by(project: Project) -> list[str]:
    """What a run leaves beside the marks by which another one resumes it."""
    return sorted(path.name for path in project.output.iterdir() if not path.name.startswith(PREFIX))


class TestMeasuredRecords:
    def test_every_finite_run_leaves_its_record(self, project: Project, bits_taken_for_stable: None) -> None:
        assert project.run().ret == Status.BROKEN  # there is no golden
        plain = unpack(read_pair(record_of(project)) or b"", name="it")
        assert plain.bit_stability is not None
        assert plain.bit_stability.fresh_processes == 0
        project.record()
        complete = unpack(read_pair(record_of(project)) or b"", name="it")
        assert complete.bits_proven
        assert complete.probe_noise is not None
        assert complete.metrics == plain.metrics
        assert kept_by(project) == [
            "manifest.json",
            "record-cpu-bfloat16.json",
            "record-cpu-bfloat16.npz",
            "results_summary.json",
        ]

    def test_a_run_that_is_not_finite_leaves_none(self, recorded: Project) -> None:
        assert record_of(recorded).exists()
        perturb(recorded, "norm.weight.data[0] = float('nan')")
        assert recorded.run().ret == FAILED
        assert kept_by(recorded) == ["manifest.json", "results_summary.json"]


class TestAccept:
    def test_the_record_of_another_machine_becomes_the_golden(
        self, recorded: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        perturb(recorded, SMALL)
        assert recorded.run().ret == FAILED
        artifact = tmp_path / "artifact"
        shutil.copytree(recorded.output.parent, artifact)
        shutil.rmtree(recorded.output.parent)

        status, lines, complaint = run(capsys, "accept", "--esa-reason", "from CI", artifact)

        assert (status, complaint, len(lines)) == (OK, "", 1)
        date = ledger_of(recorded)[0].utc
        assert lines[0].startswith("accepted   tiny-smoke (cpu, bfloat16): loss ")
        assert lines[0].endswith(f", which was unexplained-bits; its noise is that of the golden of {date}")
        provenance = json.loads(recorded.golden.read_text(encoding="utf-8"))["provenance"]
        assert (provenance["reason"], provenance["noise_of"]) == ("from CI", date)
        last = ledger_of(recorded)[-1]
        assert (last.reason, last.outcome, last.noise.noise_of) == ("from CI", "unexplained-bits", date)
        assert recorded.run().ret == OK

        again = run(capsys, "accept", record_of(recorded))
        assert again == (
            OK,
            [
                (
                    "unchanged  tiny-smoke (cpu, bfloat16): equal bits in an equal environment, so there is nothing to "
                    "accept"
                )
            ],
            "",
        )
        assert len(ledger_of(recorded)) == 2

    def test_a_complete_record_needs_no_golden(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.rmtree(goldens_of(recorded))
        status, lines, _ = run(capsys, "accept", record_of(recorded))
        assert status == OK
        assert lines[0].endswith(", where no golden could be read before")
        assert [one.outcome for one in ledger_of(recorded)] == ["first"]
        assert recorded.run().ret == OK

    def test_a_plain_record_without_a_golden_is_refused(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project.run()
        status, lines, complaint = run(capsys, "accept", record_of(project))
        assert status == REFUSED
        assert lines == [
            (
                f"refused    {record_of(project)}: The record of tiny-smoke was not accepted: it is of a plain run, "
                f"which measures no noise, and there is no golden to take that from; run it there with "
                f"--esa-calibrate, or record it there with --snapshot-update, and take the record of that run."
            )
        ]
        assert complaint == "esa: 1 of 1 record refused for the reason above; those goldens are unchanged."
        assert not goldens_of(project).exists()

    def test_a_large_shift_needs_force(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        before = contents(goldens_of(recorded))
        perturb(recorded, LARGE)
        recorded.run()
        status, lines, _ = run(capsys, "accept", record_of(recorded))
        assert status == REFUSED
        assert "The golden of tiny-smoke was not replaced: its loss would go from " in lines[0]
        assert contents(goldens_of(recorded)) == before
        assert run(capsys, "accept", record_of(recorded), "--esa-force")[0] == OK
        assert ledger_of(recorded)[-1].forced

    def test_one_that_is_refused_does_not_stop_the_others(
        self, recorded: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        perturb(recorded, SMALL)
        recorded.run()
        damaged = tmp_path / "record-cpu-bfloat16.json"
        damaged.write_text("{", encoding="utf-8")
        damaged.with_suffix(".npz").write_bytes(b"")
        status, lines, complaint = run(capsys, "accept", damaged, record_of(recorded))
        assert status == REFUSED
        assert lines[0].startswith(f"refused    {damaged}: The golden {damaged} is no JSON, it may be cut short (")
        assert lines[0].endswith("; fetch the record anew from the run that wrote it.")
        assert lines[1].startswith("accepted   tiny-smoke (cpu, bfloat16): ")
        assert complaint == "esa: 1 of 2 records refused for the reason above; those goldens are unchanged."


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """A record that somebody changed, who knew how to make every hash fit."""
    text, npz = split_pair(read_pair(path) or b"")
    document, members = json.loads(text), npz_members(npz)
    change(document, members)
    sealed = json.loads(members["judged_json"].tobytes())
    sealed |= {part: document[part] for part in sealed if part != "arrays"}
    members["judged_json"] = np.frombuffer(json.dumps(sealed).encode(), dtype=np.uint8)
    text, npz = split_pair(resealed(document, npz_of(members)))
    # The file's name travels sealed as well.
    content = json.loads(text) | {"arrays": {**json.loads(text)["arrays"], "file": sealed["arrays"]["file"]}}
    content["judged_sha256"] = judged_sha256(content)
    write_packed(path, join_pair(json.dumps(content).encode(), npz))


def set_dtype(document: dict[str, Any], dtype: object) -> None:
    document["identity"]["model"]["dtype"] = dtype


TAMPERED: list[tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = [
    (
        lambda document, _: document.update(baseline="../../tiny-smoke"),
        (
            "The record is of the baseline '../../tiny-smoke', which the matrix of this project lacks; valid baselines "
            "are tiny-smoke."
        ),
    ),
    (
        lambda document, _: document.update(device="../cpu"),
        "The record is of the device '../cpu'; valid devices are cpu and cuda-smNN.",
    ),
    (
        lambda document, _: set_dtype(document, "../float32"),
        "The record is of the dtype '../float32'; valid are bfloat16, float16 and float32, or several joined by +.",
    ),
    (
        lambda document, _: set_dtype(document, "float32+../x"),
        "The record is of the dtype 'float32+../x'; valid are bfloat16, float16 and float32, or several joined by +.",
    ),
    (
        lambda document, _: document.update(identity={"model": []}),
        "The record is of the dtype None; valid are bfloat16, float16 and float32, or several joined by +.",
    ),
    (
        lambda _, members: members.update(nll=np.full_like(members["nll"], np.nan)),
        (
            "The golden {path} is damaged: its array nll is nan at token 0; fetch the record anew from the run that "
            "wrote it."
        ),
    ),
    (
        lambda document, _: document["identity"].update(more="\ud800"),
        "'utf-8' codec can't encode character *; fetch the record anew from the run that wrote it.",
    ),
]


class TestUntrusted:
    def test_a_record_that_holds_what_it_must_not_is_refused(
        self, recorded: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = record_of(recorded)
        files = {part: part.read_bytes() for part in (path, path.with_suffix(".npz"))}
        before = contents(goldens_of(recorded))
        for change, sentence in TAMPERED:
            rewritten(path, change)
            status, lines, _ = run(capsys, "accept", path, "--esa-force")
            begin, _, end = f"refused    {path}: {sentence.format(path=path)}".partition("*")
            assert status == REFUSED
            assert lines[0].startswith(begin)
            assert lines[0].endswith(end)
            assert contents(goldens_of(recorded)) == before
            for part, content in files.items():
                part.write_bytes(content)

    def test_a_record_of_several_dtypes_is_accepted(
        self, recorded: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rewritten(record_of(recorded), lambda document, _: set_dtype(document, "bfloat16+float32"))
        status, lines, _ = run(capsys, "accept", record_of(recorded))
        assert (status, lines[0].split(":")[0]) == (OK, "accepted   tiny-smoke (cpu, bfloat16+float32)")
        assert recorded.golden.with_name("cpu-bfloat16+float32.json").exists()

    def test_an_edited_record_is_refused(self, recorded: Project, capsys: pytest.CaptureFixture[str]) -> None:
        path = record_of(recorded)
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"num_scored_tokens": 256', '"num_scored_tokens": 255'), encoding="utf-8")
        status, lines, _ = run(capsys, "accept", path)
        assert status == REFUSED
        assert "was edited by hand in its field metrics.num_scored_tokens: it says 255, recorded was 256" in lines[0]
        path.with_suffix(".npz").unlink()
        assert "lacks its arrays record-cpu-bfloat16.npz; fetch the record anew" in run(capsys, "accept", path)[1][0]

    def test_a_record_that_would_fill_the_memory_is_not_unpacked(
        self, recorded: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(artifacts, "_MOST_BYTES", 60_000)
        rewritten(record_of(recorded), lambda _, members: members.update(probe_more=np.zeros(100_000, dtype=np.uint8)))
        monkeypatch.delattr(artifacts, "unpack")
        status, lines, _ = run(capsys, "accept", record_of(recorded))
        assert status == REFUSED
        assert "bytes, at most 60000 are read; fetch the record anew" in lines[0]

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("gone.json", "There is no record {path}; give a record-<device>-<dtype>.json that a run left in its "),
            ("manifest.json", "There is no record {path}; give a record-<device>-<dtype>.json that a run left in its "),
            ("record-cpu-bfloat16.npz", "There is no record {path}; give a record-<device>-<dtype>.json that a run "),
            ("empty", "The folder {path} holds no record-*.json; give the output folder of a run, or its record."),
        ],
    )
    def test_what_is_no_record_is_told(
        self, project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, sentence: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "record-cpu-bfloat16.npz").touch()
        (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
        status, lines, complaint = run(capsys, "accept", tmp_path / name)
        assert (status, lines) == (REFUSED, [])
        assert complaint.startswith("esa: " + sentence.format(path=tmp_path / name))
