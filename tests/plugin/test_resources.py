"""Throughput and memory through pytest: judged in both directions, never silent, accepted like every drift."""

import json
from dataclasses import replace
from typing import Any

import pytest

import esa_pytest.golden.assembly as assembly
import esa_pytest.golden.resource_noise as resource_noise
import esa_pytest.measuring.probing as probing
from esa_pytest.cli import main
from esa_pytest.golden.files import read_pair, write_packed
from esa_pytest.golden.packing import pack, unpack
from esa_pytest.golden.resource_noise import round_of
from esa_pytest.records import Record, ResourceNoise
from tests.plugin.conftest import Project

MIB = 2**20
REAL = assembly.resources_of


class Used:
    """What every run is told to have used; what it computes is real."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.told: dict[str, Any] = {
            "throughput_tokens_per_second": 1000.0,
            "efficiency": 0.5,
            "efficiency_error": 0.005,
            "efficiency_freedom": 40,
            "peak_rss_bytes": 800 * MIB,
            "peak_rss_over_start_bytes": 100 * MIB,
            "disturbance": None,
        }
        for module in (assembly, resource_noise):
            patch.setattr(module, "resources_of", self.resources)

    def resources(self, *arguments: Any) -> dict[str, Any]:
        return {**REAL(*arguments), **self.told}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Used:
    return Used(monkeypatch)


@pytest.fixture
def judged(recorded: Project, used: Used, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose golden was recorded in rounds that all used this; the noise of its scores is measured once."""
    rounds = (round_of(used.told),) * resource_noise.NUM_ROUNDS
    golden = golden_of(recorded)
    monkeypatch.setattr(probing, "measure_noise", lambda *_, **__: golden.noise)
    monkeypatch.setattr(probing, "measure_probe_noise", lambda *_, **__: golden.probe_noise)
    resources = {**golden.resources, **used.told}
    rewrite(recorded, replace(golden, resources=resources, resource_noise=ResourceNoise(rounds=rounds)))
    return recorded


def golden_of(project: Project) -> Record:
    return unpack(read_pair(project.golden) or b"", name="recorded")


def rewrite(project: Project, golden: Record) -> None:
    """Put a golden in the place of the recorded one, of which the ledger then tells nothing."""
    write_packed(project.golden, pack(golden, npz_name=project.golden.with_suffix(".npz").name))
    (project.golden.parents[1] / "ledger.jsonl").unlink(missing_ok=True)


def test_life_of_a_golden_whose_throughput_drifts(judged: Project, used: Used) -> None:
    passed = judged.run()
    passed.stdout.fnmatch_lines(
        [
            "  throughput     1,000 tok/s, 1.00 of the golden's efficiency; peak rss 0.78 GiB; batch 4x32",
            "  resources      efficiency 0.5, the golden's 0.5 (allowed 0.456 to 0.548, measured)",
            "                 memory over the beginning 100.0 MiB, the golden's 100.0 (allowed 0.0 to 223.7, *)",
            "  would have caught: any changed bit · reference * nats · bf16 mean * · throughput 15% · memory 190 MiB",
        ]
    )
    before = judged.golden.read_bytes()
    used.told["efficiency"] = 0.4
    # The golden is the baseline's, whatever its test is called.
    judged.write_test("def test_renamed(esa_baseline):\n    esa_baseline.check()\n")
    report = judged.pytester.path / "benchmark.json"
    failed = judged.run("--benchmark-json", str(report))
    assert failed.ret == pytest.ExitCode.TESTS_FAILED
    failed.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke is throughput-drift, decided by tier 6 (resources):",
            (
                "  256 of 256 token NLLs bit-equal; the efficiency is 0.4, the golden's 0.5, allowed are 0.456 to "
                "0.548 (measured): slower."
            ),
            "  throughput     1,000 tok/s, 0.80 of the golden's efficiency; *",
            "  resources      efficiency 0.4, the golden's 0.5 (allowed 0.456 to 0.548, measured) <- beyond",
            "  Check that it is no regression first. To accept it:",
            "    pytest 'test_it.py::test_renamed[[]tiny-smoke]' --snapshot-update --esa-reason *",
            (
                "  To allow more: throughput = 0.2 (shares) in [[]tool.esa.tolerances]; to be told only: "
                "--esa-resources warn."
            ),
            "esa: judged 1 of 1",
        ]
    )
    assert judged.golden.read_bytes() == before
    _assert_told_to_the_benchmark(json.loads(report.read_text(encoding="utf-8")))
    manifest, summary = judged.manifest(), json.loads((judged.output / "results_summary.json").read_text("utf-8"))
    assert manifest["verdict"]["tier"] == 6
    assert manifest["verdict"]["resources"] == summary["resources_judged"]
    assert [drift["beyond"] for drift in summary["resources_judged"]] == [True, False]
    judged.record("--esa-reason", "slower, and why")
    ledger = (judged.golden.parents[1] / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(ledger[-1])["outcome"] == "throughput-drift"
    assert judged.run().ret == pytest.ExitCode.OK


def _assert_told_to_the_benchmark(document: dict[str, Any]) -> None:
    (benchmark,) = document["benchmarks"]
    info = benchmark["extra_info"]
    assert info["esa_outcome"] == "throughput-drift"
    assert info["decided_by_tier_6"] is True
    assert (info["throughput_outcome"], info["memory_outcome"]) == ("drift", "within noise")
    assert info["throughput_noise"] == 0
    assert (info["efficiency"], info["golden_efficiency"]) == (0.4, 0.5)
    assert info["peak_rss_over_start_bytes"] == 100 * MIB


def test_memory_drifts_warn_or_are_not_asked(judged: Project, used: Used, capsys: pytest.CaptureFixture[str]) -> None:
    used.told["peak_rss_over_start_bytes"] = 300 * MIB
    warned = judged.run("--esa-resources", "warn")
    warned.assert_outcomes(passed=1, warnings=1)
    warned.stdout.fnmatch_lines(
        [
            (
                "*EsaWarning: tiny-smoke: the peak memory over the beginning is 300.0 MiB, the golden's 100.0, allowed "
                "are 0.0 to 223.7 (measured): more"
            ),
            "  identical      256 of 256 token NLLs bit-equal*",
        ]
    )
    silent = judged.run("--esa-resources", "off")
    silent.assert_outcomes(passed=1)
    silent.stdout.fnmatch_lines(
        ["  resources      throughput and memory not judged: resources are off (by --esa-resources, or *"]
    )
    # A record of such a run is accepted as one, and the golden's noise goes along.
    assert judged.run().ret == pytest.ExitCode.TESTS_FAILED
    assert main(["accept", str(judged.output), f"--rootdir={judged.pytester.path}"]) == pytest.ExitCode.OK
    assert ", which was memory-drift; its noise is that of the golden of " in capsys.readouterr().out
    accepted = golden_of(judged).resource_noise
    assert accepted is not None
    assert {done.peak_bytes for done in accepted.rounds} == {300 * MIB}


def test_what_cannot_be_believed_passes_and_says_why(judged: Project, used: Used) -> None:
    used.told |= {"efficiency": 0.1, "disturbance": "other processes took 43% of the cores, at most 10% are believed"}
    judged.run("--benchmark-disable").stdout.fnmatch_lines(
        [
            "  identical      256 of 256 token NLLs bit-equal*",
            "  resources      memory over the beginning 100.0 MiB, *",
            ("                 throughput not judged: other processes took 43% of the cores, at most 10% are believed"),
            (
                "  note: pytest-benchmark is switched off here (as it is by pytest-xdist and on Ray), so its JSON "
                "lacks this run; throughput was timed without it."
            ),
        ]
    )


def test_noise_is_added_to_a_golden_without_by_calibrating(judged: Project, used: Used) -> None:
    rewrite(judged, replace(golden_of(judged), resource_noise=None))
    judged.run().stdout.fnmatch_lines(
        [
            (
                "  resources      throughput and memory not judged: the golden was recorded without their noise; "
                "record it anew with --snapshot-update --esa-calibrate"
            )
        ]
    )
    unchanged = judged.golden.read_bytes()
    assert judged.run("--snapshot-update").ret == pytest.ExitCode.OK
    assert judged.golden.read_bytes() == unchanged
    judged.record("--esa-calibrate")
    judged.run().stdout.fnmatch_lines(["  resources      efficiency 0.5, the golden's 0.5 (*"])


@pytest.mark.parametrize("options", [("-p", "no:benchmark"), ("--benchmark-disable",), ("--benchmark-skip",)])
def test_a_drift_fails_without_pytest_benchmark(judged: Project, used: Used, options: tuple[str, ...]) -> None:
    """Whatever switches that off (as pytest-xdist does) switches no gate off."""
    used.told["efficiency"] = 0.4
    result = judged.run(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["esa: tiny-smoke is throughput-drift, decided by tier 6 (resources):"])


def test_a_mode_that_is_none_lists_the_valid_ones(project: Project) -> None:
    result = project.run("--esa-resources", "loud")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --esa-resources is 'loud'; valid values are off, warn, fail."])
