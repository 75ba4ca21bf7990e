"""A bad setting ends the run before anything loads, and lists what is valid."""

import pytest

from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

USAGE = pytest.ExitCode.USAGE_ERROR
OWN_TYPE = """
[tool.esa.types.nightly]
corpora = ["mine"]
context_lengths = [32]
seeds = [1]
scored_tokens = { cpu = 256 }
batch_tokens = { cpu = 256 }
"""


def refused(project: Project, sentence: str, *arguments: str) -> None:
    result = project.run(*arguments)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])


def test_a_wrong_model_name_lists_the_valid_ones(project: Project) -> None:
    project.add('smoke = ["tiny"]', 'smoke = ["tinny"]')
    refused(
        project,
        "[[]tool.esa.matrix] names the model 'tinny'; valid models are llama-3.1-8b, llama-3.1-8b@full, "
        "mistral-7b-v0.3, mistral-7b-v0.3@full, phi-3-mini-4k-instruct, phi-3-mini-4k-instruct@full, pythia-1.4b, "
        "pythia-1.4b@full, smollm2-135m, tiny. Add your own as [[]tool.esa.models.tinny].",
    )


def test_a_wrong_baseline_type_lists_the_valid_ones(project: Project) -> None:
    project.add('smoke = ["tiny"]', 'smok = ["tiny"]')
    refused(project, "[[]tool.esa.matrix] names the baseline type 'smok'; valid types are extended, smoke, standard.")


def test_a_matrix_entry_that_is_no_list_is_told(project: Project) -> None:
    project.add('smoke = ["tiny"]', 'smoke = "tiny"')
    refused(
        project, "[[]tool.esa.matrix] smoke is 'tiny'; it takes a list of model names, as smoke = [[]\"smollm2-135m\"]."
    )


def test_an_empty_matrix_is_told(project: Project) -> None:
    project.add('smoke = ["tiny"]', "smoke = []")
    refused(project, "[[]tool.esa.matrix] is {'smoke': [[][]]} and names no baseline; *")


def test_an_unknown_key_lists_the_valid_ones(project: Project) -> None:
    project.add("[tool.esa.matrix]", '[tool.esa]\ngolden_folder = "x"\n[tool.esa.matrix]')
    refused(
        project,
        "[[]tool.esa] has the unknown key 'golden_folder'; valid keys are accept_limit, allow_unjudged, corpora, "
        "device, evaluate_timeout, false_alarm_rate, golden_dir, load_timeout, matrix, models, output_dir, packages, "
        "reason, resources, rounds, strict, tolerances, types.",
    )


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "x" * 81])
def test_a_model_name_that_could_leave_its_folder_is_refused(project: Project, name: str) -> None:
    project.add("[tool.esa.models.tiny]", f'[tool.esa.models."{name}"]')
    refused(project, "[[]tool.esa] is not valid: models.*")


def test_a_hub_model_without_a_pinned_revision_is_refused(project: Project) -> None:
    project.add("[tool.esa.corpora", '[tool.esa.models.hub]\nrepo = "org/name"\nrevision = "main"\n[tool.esa.corpora')
    refused(project, "[[]tool.esa] is not valid: models.hub.revision: String should match pattern *(seen: 'main').")


def test_a_type_that_names_an_unknown_corpus_is_told(project: Project) -> None:
    project.add('corpora = ["mine"]', 'corpora = ["yours"]')
    refused(project, "[[]tool.esa] is not valid: *type 'smoke' names the corpus 'yours'; known are *")


def test_a_broken_pyproject_is_told(project: Project) -> None:
    project.add("[tool.esa.matrix]", "[tool.esa.matrix")
    assert project.run("-c", "/dev/null", "--rootdir", str(project.pytester.path)).ret == USAGE


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "CPU", "cpu:0"])
def test_a_wrong_device_lists_the_valid_ones(project: Project, device: str) -> None:
    refused(project, f"--esa-device is '{device}'; valid devices are auto, cpu, cuda, cuda:N.", "--esa-device", device)


@pytest.mark.parametrize(
    "table", ['[tool]\nesa = { device = "gpu" }', 'tool.esa.device = "gpu"', '[ tool . "esa" ]\ndevice = "gpu"']
)
def test_a_table_is_found_however_it_is_written(project: Project, table: str) -> None:
    (project.pytester.path / "pyproject.toml").write_text(table, encoding="utf-8")
    refused(project, "[[]tool.esa] device is 'gpu'; valid devices are auto, cpu, cuda, cuda:N.")


def test_a_pyproject_that_pytest_does_not_read_is_told_without_a_traceback(project: Project) -> None:
    (project.pytester.path / "pyproject.toml").write_text("[tool.other", encoding="utf-8")
    result = project.run("-c", "/dev/null", "--rootdir", str(project.pytester.path))
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*pyproject.toml is no TOML: *"])
    result.stdout.no_fnmatch_line("*.py:*: in *")


@pytest.mark.parametrize("rounds", ["0", "-1", "two", "1.5"])
def test_wrong_rounds_are_told(project: Project, rounds: str) -> None:
    refused(project, f"--esa-rounds is '{rounds}'; it takes a whole number from 1 on.", f"--esa-rounds={rounds}")


@pytest.mark.parametrize("phase", ["load", "evaluate"])
@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", ""])
def test_wrong_seconds_are_told(project: Project, phase: str, seconds: str) -> None:
    flag = f"--esa-{phase}-timeout"
    refused(project, f"{flag} is '{seconds}'; it takes a number of seconds above 0.", f"{flag}={seconds}")


def test_a_wrong_ini_value_names_its_key(project: Project) -> None:
    sentence = "the ini key esa_allow_unjudged is 'perhaps'; valid values are true and false."
    refused(project, sentence, "-o", "esa_allow_unjudged=perhaps")


def test_a_wrong_truth_names_its_variable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_STRICT", "very")
    refused(project, "the variable ESA_STRICT is 'very'; valid values are true and false.")


def test_a_wrong_variable_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESA_DEVICE", "tpu")
    refused(project, "the variable ESA_DEVICE is 'tpu'; valid devices are auto, cpu, cuda, cuda:N.")


def test_the_command_line_beats_the_variable_beats_the_ini_key_beats_the_table(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add("[tool.esa.matrix]", '[tool.esa]\ndevice = "from-table"\n[tool.esa.matrix]')
    refused(project, "[[]tool.esa] device is 'from-table'; *")
    refused(project, "the ini key esa_device is 'from-ini'; *", "-o", "esa_device=from-ini")
    monkeypatch.setenv("ESA_DEVICE", "from-variable")
    refused(project, "the variable ESA_DEVICE is 'from-variable'; *", "-o", "esa_device=from-ini")
    refused(project, "--esa-device is 'from-cli'; *", "-o", "esa_device=from-ini", "--esa-device", "from-cli")


def test_a_missing_gpu_is_told_without_a_traceback(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = project.run("--esa-device", "cuda:3")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(
        ["*The device cuda:3 is not there: torch * sees 0 CUDA devices; use --esa-device cpu, *"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_the_options_stand_in_a_group_of_their_own(project: Project) -> None:
    result = project.run("--help")
    result.stdout.fnmatch_lines(["language-model baselines (esa-pytest):", "*--esa-device=DEVICE*"])


def test_fixtures_and_markers_are_documented(project: Project) -> None:
    fixtures = project.run("--fixtures")
    for name in ("esa_baseline", "esa_model", "esa_tokenizer", "esa_device"):
        fixtures.stdout.fnmatch_lines([f"{name} -- *", "    *"])
    fixtures.stdout.no_fnmatch_line("*no docstring available*esa_*")
    project.run("--markers").stdout.fnmatch_lines(
        [f"@pytest.mark.{name}: *" for name in ("smoke", "standard", "extended")]
    )


def test_ids_and_marks_come_from_the_matrix(project: Project) -> None:
    project.add('smoke = ["tiny"]', 'standard = ["tiny"]\nsmoke = ["smollm2-135m", "tiny"]')
    every = project.run("--collect-only", "-q")
    every.stdout.fnmatch_lines(
        [
            "test_it.py::test_baseline[[]tiny-standard*]",
            "test_it.py::test_baseline[[]tiny-smoke*]",
            "test_it.py::test_baseline[[]smollm2-135m-smoke*]",
        ]
    )
    assert every.ret == pytest.ExitCode.OK
    project.run("--collect-only", "-q", "-m", "smoke").stdout.fnmatch_lines(["2/3 tests collected (1 deselected)*"])


def test_a_type_of_the_users_own_is_a_mark_that_pytest_knows(project: Project) -> None:
    project.add('smoke = ["tiny"]', 'nightly = ["tiny"]\nsmoke = ["tiny"]')
    project.add("[tool.esa.types.smoke]", f"{OWN_TYPE}\n[tool.esa.types.smoke]")
    result = project.run("--collect-only", "-q", "--strict-markers", "-W", "error", "-m", "nightly")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["test_it.py::test_baseline[[]tiny-nightly*]", "1/2 tests collected (1 deselected)*"])
    lines = project.run("--markers").outlines
    assert [line.partition(":")[0] for line in lines if "(esa-pytest)" in line] == [
        f"@pytest.mark.{name}" for name in ("smoke", "standard", "extended", "nightly")
    ]
