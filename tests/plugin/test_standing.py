"""What a session tells at its end, and what it ends with, of tests that only say what became of them."""

import pytest

from esa_pytest.exit_status import Status
from tests.plugin.conftest import Project

TOLD = """
import pytest

@pytest.mark.parametrize("head", ["today", "yesterday", "today"])
def test_it(esa_baseline, head, request):
    request.node.user_properties += [("esa_outcome", "identical"), ("esa_report", f"esa: {head}\\n  a verdict")]
"""
SKIPPED = """
import pytest

def test_it(esa_baseline):
    pytest.skip("not today")
"""


def test_each_verdict_stands_under_its_own_heading(project: Project) -> None:
    project.write_test(TOLD)
    lines = project.run("-p", "no:benchmark").outlines
    told = [line for line in lines if line.startswith(("esa: ", "test_it.py::"))]
    assert [line.partition("[")[0] for line in told] == [
        *("esa: today", "test_it.py::test_it"),
        *("esa: yesterday", "test_it.py::test_it"),
        *("esa: today", "test_it.py::test_it"),
        "esa: judged 3 of 3",
    ]


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_a_file_that_is_not_collected_is_a_failure_beside_what_is_not_judged(
    project: Project, workers: tuple[str, ...]
) -> None:
    run = project.run_apart if workers else project.run
    project.write_test(SKIPPED)
    assert run(*workers).ret == Status.NOT_JUDGED
    project.pytester.path.joinpath("test_broken.py").write_text("import nothing_of_the_kind\n", encoding="utf-8")
    result = run(*workers, "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
