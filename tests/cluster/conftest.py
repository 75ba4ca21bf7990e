"""The user's project of the plugin tests, for runs in several processes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import Machines, machines
from tests.cluster.projects import MORE, TEST, Three
from tests.plugin.conftest import (  # noqa: F401  (fixtures)
    Project,
    bits_taken_for_stable,
    kept_recording,
    project,
    recorded,
    tiny_llama,
)
from tests.threads import one_thread_a_worker  # noqa: F401  (a fixture of every test here)


@pytest.fixture(scope="session")
def kept_three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the goldens of the project of three, recorded once."""
    return tmp_path_factory.mktemp("three") / "kept"


@pytest.fixture
def three(project: Project, bits_taken_for_stable: None, kept_three: Path) -> Iterator[Three]:  # noqa: F811
    """A project of three baselines whose goldens are recorded, and that has never run since."""
    project.configure(more=MORE.format(path=project.checkpoint))
    project.add('smoke = ["tiny"]', 'smoke = ["tiny", "second", "third"]')
    goldens = project.pytester.path / "baselines_golden"
    if not kept_three.exists():
        project.record()
        shutil.rmtree(project.pytester.path / "outputs")
        shutil.copytree(goldens, kept_three)
    shutil.copytree(kept_three, goldens, dirs_exist_ok=True)
    project.write_test(TEST.format(folder=str(project.pytester.path)))
    made = Three(project=project)
    yield made
    made.end()


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[Machines]:
    """A Ray cluster of three nodes beside its head; whoever kills one adds another."""
    with machines() as made:
        made.grow_to(3)
        yield made
