"""Which packages a golden was recorded with in another version, the likeliest to move numbers first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from esa_pytest.records import Change

_PREFIX = "version."
# Between transformers and its companions stand the packages that a project names, which are likely kernels of its own.
_LIKELIEST = ("transformers", "torch", "flash-attn", "kernels", "triton")
_UNLIKELIEST = ("accelerate", "tokenizers", "numpy", "safetensors", "huggingface-hub")
# Built into a torch of a given version, and moved with it.
_PARTS_OF_TORCH = ("mkl", "onednn")
_NO_PACKAGES = ("platform", "python")


@dataclass(frozen=True, kw_only=True)
class Move:
    """A package that can be moved back.

    Attributes:
        package: the distribution, as the package index spells it.
        golden: the version that the golden was recorded with.
        here: the version that is installed here; None where there is none.
    """

    package: str
    golden: str
    here: str | None

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.golden}"


@dataclass(frozen=True, kw_only=True)
class Untriable:
    """Something of another version that cannot be moved back, and why."""

    name: str
    golden: str | None
    here: str | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Differences:
    """In what an environment differs from its golden's.

    Attributes:
        moves: the packages to be tried, the likeliest cause first.
        untriable: the versions that cannot be moved back.
        others: what is no version at all: instruction sets, variables, flags, shapes.
    """

    moves: tuple[Move, ...]
    untriable: tuple[Untriable, ...]
    others: tuple[Change, ...]


def differences(changes: Iterable[Change], *, recorded: Sequence[str]) -> Differences:
    """Sort the differences between two environments by what can be done about them.

    Args:
        changes: the items that differ.
        recorded: the distributions whose versions an environment holds, as they are spelt there.
    """
    changes = tuple(changes)
    versions = {
        change.name.removeprefix(_PREFIX): change
        for change in changes
        if change.name.startswith(_PREFIX) and not _comes_with_torch(change, changes)
    }
    known: set[str] = {canonicalize_name(name) for name in recorded}
    sorted_out = [_sorted_out(name, change, known) for name, change in versions.items()]
    moves = [found for found in sorted_out if isinstance(found, Move)]
    return Differences(
        moves=tuple(sorted(moves, key=lambda move: (_rank(move.package), move.package))),
        untriable=tuple(found for found in sorted_out if isinstance(found, Untriable)),
        others=tuple(change for change in changes if not change.name.startswith(_PREFIX)),
    )


def _comes_with_torch(change: Change, changes: Sequence[Change]) -> bool:
    return change.name.removeprefix(_PREFIX) in _PARTS_OF_TORCH and any(
        other.name == f"{_PREFIX}torch" for other in changes
    )


def _sorted_out(name: str, change: Change, known: set[str]) -> Move | Untriable:
    why = _why_not(name, change.golden, known)
    if why is not None or change.golden is None:
        return Untriable(name=name, golden=change.golden, here=change.measured, why=why or "")
    return Move(package=canonicalize_name(name), golden=str(Version(change.golden)), here=change.measured)


def _why_not(name: str, golden: str | None, known: set[str]) -> str | None:
    """Why an item of the environment cannot be moved back. Names and versions end up on pip's command line."""
    if name in _NO_PACKAGES:
        return f"{name} is no package"
    if name in _PARTS_OF_TORCH:
        return f"{name} is part of torch, whose version is the golden's"
    if golden is None:
        return "the golden's environment has no version of it on record to go back to"
    try:
        canonical = canonicalize_name(name, validate=True)
        Version(golden)
    except (InvalidName, InvalidVersion) as error:
        return str(error)
    if canonical not in known:
        return "it is not among the packages that this project records ([tool.esa] packages)"
    return None


def _rank(package: str) -> int:
    if package in _LIKELIEST:
        return _LIKELIEST.index(package)
    if package in _UNLIKELIEST:
        return len(_LIKELIEST) + 1 + _UNLIKELIEST.index(package)
    return len(_LIKELIEST)
