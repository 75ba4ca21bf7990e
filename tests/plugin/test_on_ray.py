"""`--esa-ray` is refused with a sentence where it cannot work; no Ray is needed to say so."""

import sys

import pytest

from tests.plugin.conftest import Project


def refused(project: Project, *arguments: str) -> str:
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return next(line for line in result.errlines if line.startswith("ERROR: "))


def test_two_ways_to_distribute_are_one_too_many(project: Project) -> None:
    assert refused(project, "--esa-ray", "auto", "-n", "2") == (
        "ERROR: --esa-ray and -n are two ways to run tests elsewhere, and one of them is enough; leave -n out."
    )


def test_ray_that_is_not_installed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(project, "--esa-ray", "auto") == (
        "ERROR: --esa-ray needs Ray, which is not installed here: pip install 'esa-pytest[ray]', on every node as well."
    )


def test_an_address_that_is_none(project: Project) -> None:
    assert refused(project, "--esa-ray", "ray://head:10001") == (
        "ERROR: --esa-ray is 'ray://head:10001'; it takes HOST:PORT of a Ray cluster's head, or auto for the one of "
        "this machine."
    )
