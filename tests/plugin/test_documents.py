"""What a run leaves behind: manifest, summary, JUnit, lines on the terminal."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

PARTS = {
    "import_torch",
    "import_transformers",
    "import_esa",
    "locate",
    "hash",
    "load",
    "prepare",
    "evaluate",
    "assemble",
    "read_golden",
    "judge",
    "snapshot",
    "keep",
}


def test_the_manifest_is_complete(recorded: Project) -> None:
    assert recorded.run().ret == pytest.ExitCode.OK
    manifest = recorded.manifest()
    assert manifest["outcome"] == "identical"
    assert manifest["verdict"]["tier"] == 2
    assert manifest["seconds"].keys() >= PARTS
    assert manifest["environment"].keys() >= {"version.torch", "version.transformers", "cpu.model", "batch_shapes"}
    assert manifest["identity"]["windows"]["seeds"] == [1337]
    assert manifest["provenance"].keys() >= {"utc", "git_sha", "git_dirty", "command", "reason"}
    assert manifest["golden_file"] == "baselines_golden/tiny__smoke/cpu-bfloat16.json"


def test_where_the_time_went_is_told_to_those_who_ask(recorded: Project) -> None:
    recorded.run("-v").stdout.no_fnmatch_line("  seconds *")
    recorded.run("-vv").stdout.re_match_lines([r"  seconds        .*evaluate \d+\.\d\d"])


def test_the_summary_holds_the_metrics_and_no_nan(recorded: Project) -> None:
    assert recorded.run().ret == pytest.ExitCode.OK

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (recorded.output / "results_summary.json").read_text(encoding="utf-8")
    summary = json.loads(text, parse_constant=refuse)
    assert summary["metrics"]["num_scored_tokens"] == 256
    assert summary["strata"]["mine"]["num_scored_tokens"] == 256


def test_junit_carries_the_outcome_as_properties(recorded: Project) -> None:
    report = recorded.pytester.path / "junit.xml"
    assert recorded.run(f"--junit-xml={report}").ret == pytest.ExitCode.OK
    properties = {
        element.get("name"): element.get("value")
        for element in ElementTree.parse(report).iter("property")  # noqa: S314  (our own file)
    }
    assert properties["esa_outcome"] == "identical"
    assert properties["esa_tier"] == "2"
    assert float(properties["esa_mean_nll"] or "nan") > 0


class TestJunitOfAFailure:
    """What a CI service shows of a run that did not pass: the failure, its text, and the outcome as a property."""

    def found(self, project: Project) -> tuple[str, dict[str | None, str | None]]:
        """The text of the one failure, and the properties of its test."""
        report = project.pytester.path / "junit.xml"
        project.run(f"--junit-xml={report}")
        (suite,) = ElementTree.parse(report).iter("testsuite")  # noqa: S314  (our own file)
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
        (case,) = suite.iter("testcase")
        assert case.get("name") == "test_baseline[tiny-smoke]"
        (failure,) = case.iter("failure")
        return failure.text or "", {each.get("name"): each.get("value") for each in case.iter("property")}

    def test_of_a_changed_weight(self, recorded: Project) -> None:
        recorded.write_test(
            "def test_baseline(esa_baseline):\n"
            '    esa_baseline.model.get_parameter("model.layers.1.mlp.down_proj.weight").data.mul_(16.0)\n'
            "    esa_baseline.check()\n"
        )
        text, properties = self.found(recorded)
        assert properties["esa_outcome"] == "unexplained-bits"
        assert properties["esa_tier"] == "2"
        assert "tiny-smoke is unexplained-bits, decided by tier 2 (exact)" in text
        assert "model.layers.1.mlp" in text

    def test_of_a_missing_golden(self, recorded: Project) -> None:
        recorded.golden.unlink()
        text, properties = self.found(recorded)
        assert properties["esa_outcome"] == "GoldenMissingError"
        assert "esa: tiny-smoke could not be judged. There is no golden baselines_golden/tiny__smoke/" in text
        assert "--snapshot-update" in text


def test_a_pass_says_what_it_would_have_caught(recorded: Project) -> None:
    recorded.run().stdout.fnmatch_lines(
        [
            "esa: cpu (*) · torch * · transformers * · golden of ????-??-??, same environment",
            "test_it.py::test_baseline[[]tiny-smoke]",
            "  identical      256 of 256 token NLLs bit-equal   loss *  ppl *  acc *%",
            "  throughput     * tok/s, * of the golden's efficiency; peak rss * GiB; batch 4x32",
            "  strata         mine * (256)",
            "  would have caught: any changed bit · reference * nats*",
            "esa: judged 1 of 1",
        ]
    )


def test_a_degenerate_corpus_is_told_with_its_number(project: Project, bits_taken_for_stable: None) -> None:
    project.write_text("To be or not to be, that is what is asked. " * 30)
    result = project.run("--snapshot-update")
    result.stdout.fnmatch_lines(
        [
            (
                "  note: The corpus 'mine' is degenerate: 9?.?% of its 32-grams are repetitions (running text: "
                "under 2 %), so its loss says little about the model."
            )
        ]
    )


def test_a_package_that_is_not_installed_is_told(recorded: Project) -> None:
    recorded.add("[tool.esa.models.tiny]", '[tool.esa]\npackages = ["my-kernals"]\n\n[tool.esa.models.tiny]')
    recorded.run().stdout.fnmatch_lines(
        ["  note: 'my-kernals' of [[]tool.esa[]] packages is not installed here, so no version of it is recorded; *"]
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The corpus 'mine' holds no text: *mine.txt has 0 bytes; give a file with text."),
        (
            "short",
            (
                "The corpus 'mine' is too short: its 7 tokens give no window of 32 tokens; give a longer text, or "
                "lower context_lengths of the baseline type."
            ),
        ),
    ],
    ids=["empty", "short"],
)
def test_a_text_that_cannot_be_scored_is_told(recorded: Project, text: str, sentence: str) -> None:
    recorded.write_text(text)
    result = recorded.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines([f"esa: tiny-smoke could not be judged. {sentence}"])
    result.stdout.no_fnmatch_line("*Traceback*")
