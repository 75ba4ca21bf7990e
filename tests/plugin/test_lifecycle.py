"""The contract of a golden: missing fails, again fails, recorded passes, drifted fails, accepted passes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from esa_pytest.evaluation.variants import smaller_processors
from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

MODES: dict[str, tuple[str, ...]] = {"alone": (), "n2": ("-n2", "--dist", "loadgroup")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_the_life_of_a_golden(project: Project, mode: tuple[str, ...]) -> None:
    project.take_bits_for_stable()
    goldens = project.golden.parents[1]
    missing = project.run_apart(*mode)
    assert missing.ret == Status.BROKEN
    missing.stdout.fnmatch_lines(["*There is no golden baselines_golden/tiny__smoke/cpu-bfloat16.json; record one *"])
    # Nothing is written, so that the next run fails as well.
    assert not goldens.exists()

    recorded = project.run_apart(*mode, "--snapshot-update")
    assert recorded.ret == pytest.ExitCode.OK
    recorded.stdout.fnmatch_lines(["*bit-equal in this and 3 fresh processes", "esa: judged 0 of 1, recorded 1"])
    first = contents(goldens)
    assert sorted(first) == ["ledger.jsonl", "tiny__smoke/cpu-bfloat16.json", "tiny__smoke/cpu-bfloat16.npz"]

    passed = project.run_apart(*mode)
    assert passed.ret == pytest.ExitCode.OK
    passed.stdout.fnmatch_lines(["  identical      256 of 256 token NLLs bit-equal*", "esa: judged 1 of 1"])
    assert contents(goldens) == first

    project.write_text("Another text, as long. " * 60)
    drifted = project.run_apart(*mode)
    assert drifted.ret == pytest.ExitCode.TESTS_FAILED
    drifted.stdout.fnmatch_lines(["*is inputs-changed, decided by tier 0 (identity)*", "esa: judged 1 of 1"])
    assert contents(goldens) == first

    accepted = project.run_apart(*mode, "--snapshot-update", "--esa-reason", "another text")
    assert accepted.ret == pytest.ExitCode.OK
    assert '"reason": "another text"' in project.golden.read_text(encoding="utf-8")
    assert project.run_apart(*mode).ret == pytest.ExitCode.OK


def test_a_recording_asks_fresh_processes_and_other_processors(project: Project) -> None:
    recorded = project.run("--snapshot-update")
    assert recorded.ret == pytest.ExitCode.OK
    recorded.stdout.fnmatch_lines(["*bit-equal in this and 3 fresh processes", "esa: judged 0 of 1, recorded 1"])
    golden = json.loads(project.golden.read_text(encoding="utf-8"))
    tried = {variant["name"] for variant in golden["noise"]["variants"]}
    assert tried >= {f"instruction set {name}" for name in smaller_processors()}
    for _ in range(2):
        project.run().stdout.fnmatch_lines(["  identical      256 of 256 token NLLs bit-equal*", "esa: judged 1 of 1"])


def test_missing_and_drifted_goldens_fail_again(project: Project, bits_taken_for_stable: None) -> None:
    for _ in range(2):
        assert project.run().ret == Status.BROKEN
    project.record()
    project.write_text("Another text, as long. " * 60)
    for _ in range(2):
        assert project.run().ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.usefixtures("bits_taken_for_stable")
class TestUpdates:
    def test_an_update_of_an_identical_run_writes_nothing(self, recorded: Project) -> None:
        before = recorded.golden.stat().st_mtime_ns
        recorded.record()
        assert recorded.golden.stat().st_mtime_ns == before

    def test_new_only_writes_a_missing_golden_and_never_an_existing_one(self, project: Project) -> None:
        assert project.run("--snapshot-update-new-only").ret == pytest.ExitCode.OK
        before = project.golden.read_bytes()
        project.write_text("Another text, as long. " * 60)
        assert project.run("--snapshot-update-new-only").ret == pytest.ExitCode.TESTS_FAILED
        assert project.golden.read_bytes() == before

    def test_a_damaged_golden_is_replaced_by_an_update(self, recorded: Project) -> None:
        recorded.golden.write_text("{", encoding="utf-8")
        assert recorded.run().ret == Status.BROKEN
        recorded.record()
        assert recorded.run().ret == pytest.ExitCode.OK

    def test_an_update_leaves_other_devices_and_unselected_baselines_untouched(self, recorded: Project) -> None:
        other_device = recorded.golden.with_name("cuda-sm90-bfloat16.json")
        other_device.write_bytes(recorded.golden.read_bytes())
        other_device.with_suffix(".npz").write_bytes(recorded.golden.with_suffix(".npz").read_bytes())
        for name in ("tiny__standard", "gone__smoke"):
            shutil.copytree(recorded.golden.parent, recorded.golden.parents[1] / name)
        standard = "\n".join(
            [
                "[tool.esa.types.standard]",
                'corpora = ["mine"]',
                "context_lengths = [32]",
                "scored_tokens = { cpu = 64, cuda = 64 }",
            ]
        )
        recorded.configure(more=standard)
        recorded.add('smoke = ["tiny"]', 'smoke = ["tiny"]\nstandard = ["tiny"]')
        recorded.write_text("Another text, as long. " * 60)
        before = contents(recorded.golden.parents[1])

        result = recorded.run("-m", "smoke", "--snapshot-update")

        assert result.ret == pytest.ExitCode.OK
        after = contents(recorded.golden.parents[1])
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        assert changed == {"ledger.jsonl", "tiny__smoke/cpu-bfloat16.json", "tiny__smoke/cpu-bfloat16.npz"}
        result.stdout.fnmatch_lines(["esa: no entry of the matrix wants *gone__smoke; remove it by hand *"])
        result.stdout.no_fnmatch_line("*unused*")

    def test_equal_bits_in_another_environment_pass_and_can_be_accepted(
        self, recorded: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MKL_CBWR_NOTE", "another environment")
        passed = recorded.run()
        assert passed.ret == pytest.ExitCode.OK
        passed.stdout.fnmatch_lines(
            ["  identical *", "  environment    1 difference:", "    env.MKL_CBWR_NOTE  (none) -> another environment"]
        )
        recorded.record()
        recorded.run().stdout.fnmatch_lines(["esa: cpu *same environment"])


def test_a_perturbed_model_is_never_recorded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esa_pytest.golden.bit_stability.FRESH_PROCESSES", 1)
    project.write_test(
        "def test_baseline(esa_baseline, esa_model):\n"
        "    esa_model.model.layers[0].mlp.down_proj.weight.data[0] = 1.0\n"
        "    esa_baseline.check()\n"
    )
    result = project.run("--snapshot-update")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*1 fresh processes agree on its bits and this process computes others*"])
    assert not project.golden.exists()


def test_a_golden_of_another_device_alone_is_no_golden(project: Project, tiny_llama: Path) -> None:
    copied = replace(project, checkpoint=tiny_llama)
    other = copied.golden.with_name("cuda-sm90-bfloat16.json")
    other.parent.mkdir(parents=True)
    other.write_text("{}", encoding="utf-8")
    result = copied.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*There is no golden *cpu-bfloat16.json (there is one for cuda-sm90, which says *"])
