"""A test may say which baselines it is of."""

import pytest

from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

TEST = """
import pytest

@pytest.mark.parametrize({mark})
def test_it(esa_baseline{more}):
    assert esa_baseline.id == "tiny-smoke"
    assert esa_baseline.check() is not None
"""
SEVERAL = '"esa_baseline, row", [pytest.param("tiny-smoke", 0, id="top"), ("tiny-smoke", 1)], indirect=["esa_baseline"]'


def write(project: Project, mark: str, *, more: str = "") -> None:
    project.write_test(TEST.format(mark=mark, more=more))


@pytest.fixture
def two(recorded: Project) -> Project:
    """A project of two baselines, one of which nobody wants."""
    recorded.add('smoke = ["tiny"]', 'smoke = ["tiny"]\nstandard = ["tiny"]')
    return recorded


@pytest.mark.parametrize("run", ["alone", "in a worker"])
def test_a_test_is_bound_to_one_baseline(two: Project, run: str) -> None:
    write(two, '"esa_baseline", ["tiny-smoke"], indirect=True')
    result = two.run() if run == "alone" else two.run_apart("-n", "1", "--dist", "loadgroup")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it[[]tiny-smoke*", "  identical *", "esa: judged 1 of 1"])
    if run == "alone":
        two.run("--esa-resume").stdout.fnmatch_lines(["  resumed *", "esa: judged 1 of 1"])


@pytest.mark.parametrize(("selected", "status"), [("smoke", 0), ("standard", pytest.ExitCode.NO_TESTS_COLLECTED)])
def test_it_is_selected_by_the_type_of_its_baseline(two: Project, selected: str, status: int) -> None:
    write(two, '"esa_baseline", ["tiny-smoke"], indirect=True')
    assert two.run("-m", selected).ret == status


def test_it_may_have_further_parameters(two: Project) -> None:
    write(two, SEVERAL, more=", row")
    two.run().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        (
            '"esa_baseline", ["tiny-smoke", "mine"], indirect=True',
            "names the baseline 'mine', which the matrix lacks; valid baselines are tiny-smoke, tiny-standard.",
        ),
        ('"esa_baseline", ["tiny-smoke"]', "parametrises esa_baseline without indirect=True, which would take its *"),
        ('"esa_baseline", iter(["tiny-smoke"]), indirect=True', "parametrises esa_baseline by *; it takes a list of *"),
    ],
    ids=["unknown", "direct", "no list"],
)
def test_what_cannot_be_meant_is_told(two: Project, mark: str, sentence: str) -> None:
    write(two, mark)
    result = two.run()
    assert result.ret not in (Status.PASSED, pytest.ExitCode.INTERNAL_ERROR)
    result.stdout.fnmatch_lines([f"esa: test_it.py::test_it {sentence}"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("where", ["alone", "in a worker"])
def test_a_test_that_names_no_baseline_is_skipped_by_pytest_and_guards_nothing(two: Project, where: str) -> None:
    write(two, '"esa_baseline", [], indirect=True')
    result = two.run() if where == "alone" else two.run_apart("-n", "1")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(skipped=1)
    result.stdout.no_fnmatch_line("esa: *")


def test_a_row_of_too_few_values_is_told_by_pytest(two: Project) -> None:
    write(two, '"row, esa_baseline", [(1,)], indirect=["esa_baseline"]', more=", row")
    result = two.run()
    result.stdout.fnmatch_lines(["*must be equal to the number of values (1)*"])
    result.stdout.no_fnmatch_line("*IndexError*")
