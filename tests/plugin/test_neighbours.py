"""Other plugins, present, absent or told to skip, never take a verdict away."""

import subprocess
import sys
from pathlib import Path

import pytest

from esa_pytest.evaluation.cache import cache_root
from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

CACHE = cache_root()
JUDGED = ["  identical      256 of 256 token NLLs bit-equal*", "esa: judged 1 of 1"]
LIGHT = """
import sys
import esa_pytest.plugin
names = (
    "binding", "cluster", "cluster.hooks", "errors", "evaluation", "evaluation.ranks", "exit_status", "invocation",
    "options", "plugin", "resume", "resume.hooks", "session", "standing", "stash",
)
light = {"esa_pytest", *(f"esa_pytest.{name}" for name in names)}
assert {name for name in sys.modules if name.startswith("esa_pytest")} == light
heavy = {"torch", "transformers", "numpy", "scipy", "pydantic", "syrupy.assertion", "filelock", "psutil"}
assert not heavy & set(sys.modules)
"""
# What a check whose bits are equal has no use for, in the order of importing behind transformers.
CHECK = """
import gc, sys
from esa_pytest.imports import import_heavy
assert [part for part, seconds in import_heavy().items() if seconds > 0] == [
    "import_torch", "import_transformers", "import_esa"
]
names = list(sys.modules)
brought = names[names.index("esa_pytest.check.guarded"):]
unused = {"accelerate", "datasets", "jinja2", "matplotlib", "pandas", "pyarrow", "requests", "scipy"}
assert not unused & {name.split(".")[0] for name in brought}
assert "esa_pytest.perturbation" not in brought
frozen = gc.get_freeze_count()
assert frozen > 0 and gc.isenabled()
import_heavy()
assert gc.get_freeze_count() == frozen
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "no:benchmark"),
        ("--benchmark-skip",),
        ("--benchmark-only",),
        ("--benchmark-disable",),
        ("-p", "no:xdist"),
        ("-p", "no:cacheprovider"),
        ("-p", "no:randomly"),
        ("--strict-markers",),
        ("-W", "error"),
    ],
    ids=" ".join,
)
def test_no_option_of_another_plugin_removes_the_verdict(recorded: Project, arguments: tuple[str, ...]) -> None:
    result = recorded.run(*arguments)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(JUDGED)


@pytest.mark.parametrize("arguments", [("-p", "no:benchmark"), ("--benchmark-only",)], ids=" ".join)
def test_a_drift_still_fails_under_them(recorded: Project, arguments: tuple[str, ...]) -> None:
    recorded.write_text("Another text, as long. " * 60)
    assert recorded.run(*arguments).ret == pytest.ExitCode.TESTS_FAILED


BREAKS = {
    "before it measures": "def test_baseline(esa_baseline):\n    esa_baseline.check()\n",
    "in a fixture": "def test_baseline(esa_baseline, esa_model):\n    pass\n",
}


@pytest.mark.parametrize("source", BREAKS.values(), ids=BREAKS)
def test_what_breaks_is_told_nothing_of_a_benchmark_that_was_not_used(recorded: Project, source: str) -> None:
    recorded.write_test(source)
    recorded.add(str(recorded.checkpoint), "nowhere")
    result = recorded.run("-W", "error")
    assert sum(result.parseoutcomes().values()) == 1
    result.stdout.no_fnmatch_line("*fixture was not used*")


def test_a_test_that_measures_nothing_is_not_warned(recorded: Project) -> None:
    recorded.write_test("def test_baseline(esa_baseline):\n    assert esa_baseline.id\n")
    recorded.run("-W", "error").assert_outcomes(passed=1)


def test_workers_judge_and_the_controller_counts(recorded: Project) -> None:
    result = recorded.run_apart("-n", "2")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            *JUDGED[:1],
            "esa: warning: without --dist loadgroup several workers load the same model; add it to -n",
            JUDGED[1],
        ]
    )
    grouped = recorded.run_apart("-n", "2", "--dist", "loadgroup")
    assert grouped.ret == pytest.ExitCode.OK
    grouped.stdout.no_fnmatch_line("esa: warning*")
    assert recorded.manifest()["resources"]["throughput_tokens_per_second"] > 0
    # Nothing loads torch in front of the check, which imports it with the collector of garbage at rest.
    assert all(recorded.manifest()["seconds"][part] > 0.01 for part in ("import_torch", "import_transformers"))


def test_workers_that_judge_nothing_are_not_green(recorded: Project) -> None:
    recorded.write_test("import pytest\ndef test_baseline(esa_baseline):\n    pytest.skip('not today')\n")
    result = recorded.run_apart("-n", "2", "--dist", "loadgroup")
    assert result.ret == Status.NOT_JUDGED
    result.stdout.fnmatch_lines(["esa: judged 0 of 1"])


WITHOUT_SYRUPY = "esa-pytest keeps its goldens through syrupy, which -p no:syrupy switches off; leave that option out."


def test_without_syrupy_it_is_a_usage_error(recorded: Project) -> None:
    result = recorded.run("-p", "no:syrupy")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {WITHOUT_SYRUPY}"])


def test_without_syrupy_a_worker_says_so_of_what_is_guarded_alone(recorded: Project) -> None:
    recorded.write_test("def test_baseline(esa_baseline):\n    esa_baseline.check()\n\ndef test_other():\n    pass\n")
    result = recorded.run_apart("-p", "no:syrupy", "-n", "1")
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines([WITHOUT_SYRUPY])


DRIFTS_ONCE = """
from pathlib import Path

def test_baseline(esa_baseline):
    weight = esa_baseline.model.get_parameter("model.layers.1.mlp.down_proj.weight")
    first = not Path("attempts").exists()
    with Path("attempts").open("a") as attempts:
        attempts.write("x")
    weight.data.mul_(16.0 if first else 1 / 16)
    esa_baseline.check()
"""


class TestRerunFailures:
    def attempts(self, project: Project) -> int:
        return len((project.pytester.path / "attempts").read_text(encoding="utf-8"))

    @pytest.mark.parametrize("options", [("--reruns", "1"), ("--reruns", "1", "-m", "not flaky")], ids=" ".join)
    def test_a_baseline_is_judged_once(self, recorded: Project, options: tuple[str, ...]) -> None:
        recorded.write_test(DRIFTS_ONCE)
        first = recorded.run(*options)
        assert (first.ret, self.attempts(recorded)) == (Status.DRIFTED, 1)
        first.assert_outcomes(failed=1)
        resumed = recorded.run(*options, "--esa-resume")
        assert (resumed.ret, self.attempts(recorded)) == (Status.DRIFTED, 1)
        assert resumed.parseoutcomes() == {"failed": 1}

    def test_where_nobody_asks_for_reruns_a_debugger_is_not_refused(self, recorded: Project) -> None:
        assert recorded.run("--pdb").ret == pytest.ExitCode.OK

    def test_where_it_is_forced_the_first_verdict_stands(self, recorded: Project) -> None:
        recorded.write_test(DRIFTS_ONCE)
        result = recorded.run("--force-reruns", "1")
        assert (result.ret, self.attempts(recorded)) == (Status.DRIFTED, 2)
        result.stdout.fnmatch_lines(
            [
                "test_it.py::test_baseline[[]tiny-smoke]",
                "  unexplained-bits *",
                "  rerun          by another plugin; this first verdict stands",
                "esa: judged 1 of 1",
            ]
        )
        assert not [*recorded.output.glob("judged-*")]


def test_deselected_baselines_are_no_failure(recorded: Project) -> None:
    recorded.write_test("def test_baseline(esa_baseline):\n    esa_baseline.check()\n\ndef test_other():\n    pass\n")
    result = recorded.run("-k", "other")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("esa: *")


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--setup-only"])
@pytest.mark.parametrize("more", [(), ("--esa-resume",)], ids=["anew", "resumed"])
def test_a_run_of_no_test_is_no_failure_and_takes_no_verdict_away(
    recorded: Project, option: str, more: tuple[str, ...]
) -> None:
    recorded.run()
    marks = [*recorded.output.glob("judged-*")]
    result = recorded.run(option, *more)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("esa: *")
    assert [*recorded.output.glob("judged-*")] == marks != []


def test_the_benchmark_keeps_throughput_efficiency_and_memory(recorded: Project) -> None:
    import json

    report = recorded.pytester.path / "benchmark.json"
    assert recorded.run("--benchmark-json", str(report), "--esa-rounds", "3").ret == pytest.ExitCode.OK
    (benchmark,) = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    assert benchmark["stats"]["rounds"] == 3
    assert benchmark["extra_info"].keys() >= {"throughput_tokens_per_second", "efficiency", "peak_rss_bytes"}
    assert recorded.manifest()["resources"]["rounds"] == 3


def test_rounds_are_repeated_without_a_benchmark_too(recorded: Project) -> None:
    assert recorded.run("-p", "no:benchmark", "--esa-rounds", "3").ret == pytest.ExitCode.OK
    assert recorded.manifest()["resources"]["rounds"] == 3


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_a_check_imports_what_it_needs_once_and_nothing_that_it_does_not_use() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True)


@pytest.mark.parametrize("configured", [False, True])
def test_an_installed_and_unused_plugin_loads_nothing_heavy(pytester: pytest.Pytester, *, configured: bool) -> None:
    pytester.makepyfile("def test_it():\n    pass\n")
    if configured:
        pytester.makepyprojecttoml("[tool.esa]\nrounds = 1\n")
    # Other plugins here, as hypothesis, may load some of these with the first test.
    pytester.makeconftest(
        "import sys\n"
        "def pytest_collection_finish():\n"
        f"    light = {{'numpy', 'scipy', 'torch', 'transformers'}} | ({{'pydantic'}} if not {configured} else set())\n"
        "    assert not light & set(sys.modules)\n"
        "    print('nothing heavy')\n"
    )
    for arguments in (["--collect-only"], []):
        result = pytester.runpytest_subprocess("-s", *arguments)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["*nothing heavy*"])
        result.stdout.no_fnmatch_line("*esa:*")


def test_the_packaged_suite_runs_in_a_folder_without_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytester moves the home folder, and the embedded model would be fetched and converted once more.
    monkeypatch.setenv("ESA_CACHE", str(CACHE))
    # A thousand tokens of the embedded model take long, and say no more of the suite.
    pytester.makepyprojecttoml(
        "[tool.esa.types.smoke]\ncontext_lengths = [64]\nscored_tokens = { cpu = 64, cuda = 64 }\n"
    )
    missing = pytester.runpytest_subprocess("-p", "no:timeout", "--pyargs", "esa_pytest.suite", "-m", "smoke")
    assert missing.ret == Status.BROKEN
    missing.stdout.fnmatch_lines(
        [
            (
                "*record one with: pytest --pyargs 'esa_pytest.suite::test_baseline[[]smollm2-135m-smoke]' "
                "--snapshot-update --esa-reason *"
            )
        ]
    )
    assert not Path(pytester.path / "baselines_golden").exists()
