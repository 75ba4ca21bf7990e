"""Versions of what the plugin is built on in which a gate was seen to vanish are refused, and the oldest are tested."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def requirements() -> dict[str, Requirement]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {found.name: found for found in map(Requirement, tomllib.loads(text)["project"]["dependencies"])}


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.mark.parametrize(
    ("package", "refused", "allowed"),
    [("pytest-benchmark", "5.2.3", "5.3.1"), ("syrupy", "6.0.0", "7.0.2"), ("transformers", "4.56.9", "5.23.0")],
)
def test_a_version_that_loses_what_is_guarded_is_refused(package: str, refused: str, allowed: str) -> None:
    specifier = requirements()[package].specifier
    assert refused not in specifier
    assert allowed in specifier


@pytest.mark.parametrize("constraints", ["constraints.txt", "constraints-oldest.txt"])
def test_what_is_tested_is_what_is_allowed(constraints: str) -> None:
    wanted = requirements()
    found = {package: version for package, version in pinned(constraints).items() if package in wanted}
    assert {"torch", "transformers", "syrupy", "pytest-benchmark"} <= found.keys()
    assert [package for package, version in found.items() if version not in wanted[package].specifier] == []


def test_the_oldest_that_are_tested_are_the_oldest_that_are_allowed() -> None:
    oldest = pinned("constraints-oldest.txt")
    for package in ("syrupy", "pytest-benchmark", "transformers"):
        (minimum,) = requirements()[package].specifier
        # A minimum without its last number is its first release, of which the last mended one is tested.
        assert oldest[package].startswith(minimum.version)
