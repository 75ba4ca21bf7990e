"""The memory that control groups leave, told from the files of a tree as Linux has it."""

from pathlib import Path

import pytest

from esa_pytest.evaluation.control_groups import memory_left

UNLIMITED = 9223372036854771712  # what the first version says where there is no limit
STAT = "anon 700\nfile 300\ninactive_file {inactive}\nactive_file {active}\nslab 5\n"
# Of the first version, whose plain entries leave out the groups below.
STAT_OF_ALL = (
    "inactive_file 1\nactive_file 1\nunevictable 9\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n"
)


class Tree:
    """A mount of control groups, and the file that names those of the process."""

    def __init__(self, root: Path) -> None:
        self.mount, self._own = root / "cgroup", root / "own"

    def second(self, path: str, limit: int | str, used: int, *, inactive: int = 0, active: int = 0) -> None:
        """A group of the second version."""
        self._write(self.mount / path, ("memory.max", "memory.current"), limit, used)
        (self.mount / path / "memory.stat").write_text(STAT.format(inactive=inactive, active=active), encoding="ascii")

    def first(self, path: str, limit: int, used: int, *, inactive: int = 0, active: int = 0) -> None:
        """A group of the memory controller of the first version."""
        folder = self.mount / "memory" / path
        self._write(folder, ("memory.limit_in_bytes", "memory.usage_in_bytes"), limit, used)
        text = STAT_OF_ALL.format(inactive=inactive, active=active)
        (folder / "memory.stat").write_text(text, encoding="ascii")

    def left(self, *lines: str) -> int | None:
        """What is left to a process of these groups."""
        self._own.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return memory_left(self.mount, self._own)

    def _write(self, folder: Path, names: tuple[str, str], limit: int | str, used: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (limit, used), strict=True):
            (folder / name).write_text(f"{value}\n", encoding="ascii")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_page_cache_of_files_is_not_taken_for_used(tree: Tree) -> None:
    tree.second("", 5000, 4000, inactive=1200, active=300)
    assert tree.left("0::/") == 2500


def test_the_least_that_a_group_on_the_way_leaves_holds(tree: Tree) -> None:
    tree.second("job", 5000, 4900, inactive=100)
    tree.second("job/step", "max", 4000)
    tree.second("job/step/task", 4000, 1000)
    tree.second("other", 10, 10)
    assert tree.left("0::/job/step/task") == 200
    assert tree.left("0::/job/step") == 200
    tree.second("job", 50_000, 4900)
    assert tree.left("0::/job/step/task") == 3000
    assert tree.left("0::/job/step") == 45_100


def test_the_memory_controller_of_the_first_version_is_read(tree: Tree) -> None:
    tree.first("", UNLIMITED, 9000)
    tree.first("docker/abc", 6000, 5000, inactive=500, active=20)
    assert tree.left("5:cpu,cpuacct:/docker/abc", "4:memory:/docker/abc", "1:name=systemd:/", "0::/") == 1520


@pytest.mark.parametrize("path", ["/docker/abc", "/../../user.slice", "/gone (deleted)"])
def test_a_group_that_a_container_sees_as_its_root_is_found(tree: Tree, path: str) -> None:
    tree.second("", 5000, 4000)
    tree.first("", 3000, 2900)
    assert tree.left(f"0::{path}") == 1000
    assert tree.left(f"4:memory:{path}", f"0::{path}") == 100


def test_nothing_less_than_nothing_is_left(tree: Tree) -> None:
    tree.second("", 5000, 5001)
    assert tree.left("0::/") == 0


def test_without_a_limit_nobody_says_how_much(tree: Tree, tmp_path: Path) -> None:
    assert memory_left(tree.mount, tmp_path / "gone") is None
    assert tree.left("0::/job") is None
    tree.second("job", "max", 4000)
    assert tree.left("0::/job") is None
    assert tree.left("3:cpu:/job") is None
