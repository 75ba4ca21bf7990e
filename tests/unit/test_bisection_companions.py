"""What has to be moved along with a package, and the folders that pip makes of it."""

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from esa_pytest.bisection.companions import requirements_in, unmet, version_here, version_in, wanted
from esa_pytest.bisection.differences import Move
from esa_pytest.bisection.limits import Deadline, TimeIsUpError
from esa_pytest.bisection.overlays import Overlays
from esa_pytest.errors import OverlayError
from tests.unit.wheels import install, write_wheel

HERE = {"hub": "2.4.0", "tokens": "0.23.3", "plain": "1.0"}


def unmet_here(*lines: str) -> list[str]:
    return [str(requirement) for requirement in unmet(lines, HERE.get)]


@pytest.mark.parametrize(
    "line",
    [
        "hub>=2",
        "Tokens (>=0.20)",
        "plain",
        "hub<1; python_version < '3'",
        "hub<1; extra == 'all'",
        "hub @ https://example.org/hub.whl",
        "no requirement !",
    ],
)
def test_what_holds_or_does_not_concern_us_moves_nothing(line: str) -> None:
    assert unmet_here(line) == []


@pytest.mark.parametrize("line", ["hub<1.0", "hub<1; python_version >= '3'", "absent", "absent>=2"])
def test_what_does_not_hold_is_named(line: str) -> None:
    (requirement,) = unmet_here(line)
    assert Requirement(requirement).name == Requirement(line).name


def test_a_preview_here_meets_a_requirement() -> None:
    assert unmet(["hub>=2"], {"hub": "2.5.0rc1"}.get) == []


@pytest.mark.parametrize(
    ("golden", "asked"),
    [("0.36.0", "hub==0.36.0"), ("2.4.0", "hub<1.0,>=0.34"), (None, "hub<1.0,>=0.34")],
)
def test_a_companion_goes_to_the_version_of_the_golden_where_that_will_do(golden: str | None, asked: str) -> None:
    assert Requirement(wanted(Requirement("hub[extra]>=0.34,<1.0"), golden)) == Requirement(asked)


def test_a_folder_of_packages_is_read_by_its_metadata(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "links", "My-Kernels", "1.5", requires=["hub<1", "plain; extra == 'x'"])
    install(wheel, tmp_path / "here")
    assert version_in(tmp_path / "here", "my-kernels") == "1.5"
    assert version_in(tmp_path / "here", "other") is None
    assert requirements_in(tmp_path / "here") == ["hub<1", "plain; extra == 'x'"]


def test_the_version_here_is_that_which_would_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(write_wheel(tmp_path / "links", "numpy", "0.0.1"), tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "here")
    assert version_here("numpy") == "0.0.1"
    assert version_here("esa-absent") is None


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all the package index there is."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("ESA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "links"


def overlays(tmp_path: Path, deadline: Deadline | None = None, **golden_versions: str) -> Overlays:
    versions = {f"esa-{name}": version for name, version in golden_versions.items()}
    return Overlays(tmp_path / "overlays", deadline=deadline or Deadline(), golden_versions=versions)


def back(name: str, golden: str = "1.0") -> Move:
    return Move(package=f"esa-{name}", golden=golden, here="2.0")


def moved(found: Overlays, *moves: Move) -> list[tuple[str, str]]:
    return [(overlay.package, overlay.version) for overlay in found.of(moves)]


def test_a_package_is_moved_with_the_companions_of_its_companions(links: Path, tmp_path: Path) -> None:
    write_wheel(links, "esa-main", "1.0", requires=["esa-hub<2", "pytest"])
    write_wheel(links, "esa-hub", "1.4", requires=["esa-deep>=3"])
    write_wheel(links, "esa-hub", "1.5", requires=["esa-deep>=4"])
    for version in ("3.0", "4.0"):
        write_wheel(links, "esa-deep", version)
    # The golden had hub 1.4; of deep it says nothing.
    assert moved(overlays(tmp_path, hub="1.4"), back("main")) == [
        ("esa-main", "1.0"),
        ("esa-hub", "1.4"),
        ("esa-deep", "4.0"),
    ]
    assert moved(overlays(tmp_path), back("main"))[1:] == [("esa-hub", "1.5"), ("esa-deep", "4.0")]


def test_what_is_moved_on_purpose_stays_where_it_was_moved_to(links: Path, tmp_path: Path) -> None:
    write_wheel(links, "esa-main", "1.0", requires=["esa-hub<1"])
    write_wheel(links, "esa-hub", "1.0")
    assert moved(overlays(tmp_path), back("main"), back("hub")) == [("esa-main", "1.0"), ("esa-hub", "1.0")]


def test_a_ring_of_companions_ends(links: Path, tmp_path: Path) -> None:
    write_wheel(links, "esa-main", "1.0", requires=["esa-hub"])
    write_wheel(links, "esa-hub", "1.0", requires=["esa-main"])
    assert moved(overlays(tmp_path), back("main")) == [("esa-main", "1.0"), ("esa-hub", "1.0")]


def test_a_version_without_a_wheel_is_told_with_the_complaint_of_pip(links: Path, tmp_path: Path) -> None:
    write_wheel(links, "esa-main", "2.0")
    (links / "esa_main-1.0.tar.gz").write_bytes(b"a source archive runs code when it is built")
    with pytest.raises(OverlayError) as caught:
        overlays(tmp_path).of([back("main")])
    assert str(caught.value) == (
        "pip installs no wheel of esa-main==1.0 (No matching distribution found for esa-main==1.0)"
    )
    assert not list((tmp_path / "overlays").iterdir())


def test_a_constraint_on_what_is_here_does_not_hold_it_there(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        write_wheel(links, "esa-main", version)
    (tmp_path / "constraints.txt").write_text("esa-main==2.0\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    assert moved(overlays(tmp_path), back("main")) == [("esa-main", "1.0")]


def test_an_overlay_is_built_once(links: Path, tmp_path: Path) -> None:
    wheel = write_wheel(links, "esa-main", "1.0")
    first = overlays(tmp_path).of([back("main")])
    wheel.unlink()
    assert overlays(tmp_path).of([back("main")]) == first


def test_no_overlay_is_built_once_the_time_is_up(links: Path, tmp_path: Path) -> None:
    write_wheel(links, "esa-main", "1.0")
    with pytest.raises(TimeIsUpError):
        overlays(tmp_path, Deadline.after(0.01)).of([back("main")])
    assert not list((tmp_path / "overlays").iterdir())


def test_a_command_is_stopped_when_the_time_is_up() -> None:
    with pytest.raises(TimeIsUpError):
        Deadline.after(0.2).run([sys.executable, "-c", "import time; time.sleep(60)"], environment={})


def test_a_command_gets_its_text_and_its_variables() -> None:
    script = "import os, sys; print(sys.stdin.read() + os.environ['ESA_GREETING'])"
    done = Deadline().run([sys.executable, "-c", script], environment={"ESA_GREETING": "!"}, text="hello")
    assert (done.returncode, done.stdout) == (0, "hello!\n")
