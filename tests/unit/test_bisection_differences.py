"""What differs between two environments, and what of it can be moved back."""

import pytest

from esa_pytest.bisection.differences import Differences, Move, Untriable, differences
from esa_pytest.records import Change

RECORDED = ("huggingface_hub", "numpy", "torch", "transformers", "my-kernels")


def version(name: str, golden: str | None = "1.0", here: str | None = "2.0") -> Change:
    return Change(name=f"version.{name}", golden=golden, measured=here)


def sorted_out(*changes: Change) -> Differences:
    return differences(changes, recorded=RECORDED)


def reasons(*changes: Change) -> list[str]:
    found = sorted_out(*changes)
    assert found.moves == ()
    return [untriable.why for untriable in found.untriable]


def test_packages_are_ranked_by_how_likely_they_move_numbers() -> None:
    names = ["numpy", "huggingface_hub", "my-kernels", "transformers", "torch"]
    moves = sorted_out(*map(version, names)).moves
    assert [move.package for move in moves] == ["transformers", "torch", "my-kernels", "numpy", "huggingface-hub"]


def test_a_move_goes_to_the_version_of_the_golden() -> None:
    (move,) = sorted_out(version("huggingface_hub", "0.36.0", "1.5.0")).moves
    assert move == Move(package="huggingface-hub", golden="0.36.0", here="1.5.0")
    assert move.requirement == "huggingface-hub==0.36.0"


def test_a_package_that_is_not_here_can_be_brought_back() -> None:
    assert sorted_out(version("torch", here=None)).moves == (Move(package="torch", golden="1.0", here=None),)


def test_what_is_no_version_is_kept_apart() -> None:
    threads = Change(name="cpu.threads", golden="2", measured="4")
    assert sorted_out(threads, version("torch")).others == (threads,)


def test_what_torch_was_built_with_moves_with_it() -> None:
    found = sorted_out(version("torch"), version("onednn"), version("mkl"))
    assert [move.package for move in found.moves] == ["torch"]
    assert found.untriable == ()


def test_another_build_of_the_same_torch_cannot_be_moved() -> None:
    assert reasons(version("mkl")) == ["mkl is part of torch, whose version is the golden's"]


@pytest.mark.parametrize("name", ["python", "platform"])
def test_what_is_no_package_cannot_be_moved(name: str) -> None:
    assert reasons(version(name)) == [f"{name} is no package"]


def test_what_the_golden_did_not_have_cannot_be_moved() -> None:
    assert sorted_out(version("numpy", golden=None)).untriable == (
        Untriable(
            name="numpy",
            golden=None,
            here="2.0",
            why="the golden's environment has no version of it on record to go back to",
        ),
    )


@pytest.mark.parametrize(
    "golden", ["", "1.0; rm -rf", "--index-url=http://evil", "1.0 --pre", "latest", "1.*", "@ file:///etc"]
)
def test_a_version_that_is_none_never_reaches_pip(golden: str) -> None:
    """A golden is a file that anybody may have written."""
    assert reasons(version("numpy", golden)) == [f"Invalid version: {golden!r}"]


@pytest.mark.parametrize(("golden", "asked"), [(" 1.0\n", "1.0"), ("2.13.0+CPU", "2.13.0+cpu"), ("1.0-rc.1", "1.0rc1")])
def test_pip_is_asked_for_a_version_as_it_spells_it(golden: str, asked: str) -> None:
    (move,) = sorted_out(version("numpy", golden)).moves
    assert move.requirement == f"numpy=={asked}"


@pytest.mark.parametrize("name", ["--pre", "-r x", "numpy ; evil", "../numpy", "a b", ""])
def test_a_name_that_is_none_never_reaches_pip(name: str) -> None:
    (why,) = reasons(version(name))
    assert "name is invalid" in why


def test_a_package_that_nobody_records_is_not_installed() -> None:
    assert reasons(version("evil")) == ["it is not among the packages that this project records ([tool.esa] packages)"]
