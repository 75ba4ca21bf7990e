"""Another batch shape may round otherwise: it is told, as a note and as a difference of environment."""

import json
from typing import Any

import pytest
import torch

from esa_pytest.evaluation.scoring import score_batch
from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

# Bits that a processor computes alike in both shapes, or metrics within their tolerance where it does not.
PASSED = {"identical", "within-noise"}


@pytest.fixture
def two_at_once(project: Project, bits_taken_for_stable: None) -> Project:
    """A project whose golden was recorded with two windows a batch."""
    project.add("context_lengths = [32]", "context_lengths = [32]\nbatch_tokens = { cpu = 64, cuda = 64 }")
    project.record()
    return project


def memory_for(monkeypatch: pytest.MonkeyPatch, windows: int) -> None:
    """Let the device run out of memory with more windows a batch."""

    def scarce(network: Any, input_ids: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if len(input_ids) > windows:
            raise torch.OutOfMemoryError
        return score_batch(network, input_ids, *arguments, **options)

    monkeypatch.setattr("esa_pytest.evaluation.prefill.score_batch", scarce)


def test_a_run_short_of_memory_halves_its_batch_and_says_so(
    two_at_once: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(monkeypatch, windows=1)
    result = two_at_once.run()
    assert result.ret == pytest.ExitCode.OK
    note = (
        "The device ran out of memory, so the batch was halved once: 1x32 instead of 2x32; all tokens were scored "
        "again in the smaller one."
    )
    result.stdout.fnmatch_lines(
        [
            "esa: cpu * 1 difference in environment",
            "  environment    1 difference:",
            "    batch_shapes  2x32 -> 1x32",
            "  throughput     *; batch 1x32",
            f"  note: {note}",
            "esa: judged 1 of 1",
        ]
    )
    manifest = two_at_once.manifest()
    assert manifest["outcome"] in PASSED
    assert manifest["notes"] == [note]
    assert manifest["environment"]["batch_shapes"] == "1x32"
    assert manifest["metrics"]["num_scored_tokens"] == 256


def test_a_golden_that_was_recorded_short_of_memory_keeps_the_batch_that_fitted(
    project: Project, bits_taken_for_stable: None
) -> None:
    project.add("context_lengths = [32]", "context_lengths = [32]\nbatch_tokens = { cpu = 64, cuda = 64 }")
    with pytest.MonkeyPatch.context() as patch:
        memory_for(patch, windows=1)
        result = project.run("--snapshot-update")
    result.stdout.fnmatch_lines(["  note: *, so the batch was halved once: 1x32 instead of 2x32; *"])
    golden = json.loads(project.golden.read_text(encoding="utf-8"))
    assert golden["environment"]["batch_shapes"] == "1x32"
    project.run().stdout.fnmatch_lines(["    batch_shapes  1x32 -> 2x32"])
    assert project.manifest()["outcome"] in PASSED


def test_a_device_too_small_for_one_window_cannot_judge(two_at_once: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_for(monkeypatch, windows=0)
    result = two_at_once.run("-rs")
    assert result.ret == Status.NOT_JUDGED
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            (
                "SKIPPED [[]1] *: The device cpu ran out of memory with a single window a batch (1x32); free some, use "
                "a larger device, or lower context_lengths of the baseline type."
            )
        ]
    )


def test_another_failure_of_torch_is_no_lack_of_memory(two_at_once: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        msg = "mat1 and mat2 shapes cannot be multiplied"
        raise RuntimeError(msg)

    monkeypatch.setattr("esa_pytest.evaluation.prefill.score_batch", fail)
    result = two_at_once.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * RuntimeError: mat1 and mat2 shapes cannot be multiplied"])
    result.stdout.no_fnmatch_line("*out of memory*")


def test_another_batch_size_of_the_user_is_listed_as_a_difference(two_at_once: Project) -> None:
    two_at_once.add("batch_tokens = { cpu = 64", "batch_tokens = { cpu = 96")
    result = two_at_once.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "esa: cpu * 1 difference in environment",
            "  environment    1 difference:",
            "    batch_shapes  2x32 -> 3x32 2x32",
            "  throughput     *; batch 3x32 2x32",
        ]
    )
    result.stdout.no_fnmatch_line("  note: *")
    assert two_at_once.manifest()["outcome"] in PASSED
