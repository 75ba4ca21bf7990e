"""Nested mappings: a copy with one item changed, and where what stands."""

from collections.abc import Iterator, Mapping
from typing import Any


def placed(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of nested mappings with one value set."""
    head, *rest = path
    return {**tree, head: placed(tree[head], tuple(rest), value) if rest else value}


def removed(tree: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy of nested mappings with one key deleted."""
    head, *rest = path
    if rest:
        return {**tree, head: removed(tree[head], tuple(rest))}
    return {key: value for key, value in tree.items() if key != head}


def leaf_paths(tree: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where nested mappings hold something other than a mapping."""
    if isinstance(tree, Mapping):
        for key in tree:
            yield from leaf_paths(tree[key], (*prefix, key))
    else:
        yield prefix


def mapping_paths(tree: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where nested mappings hold a mapping, the root included."""
    if isinstance(tree, Mapping):
        yield prefix
        for key in tree:
            yield from mapping_paths(tree[key], (*prefix, key))


def value_at(tree: Any, path: tuple[str, ...]) -> Any:
    """What nested mappings hold at a place."""
    for key in path:
        tree = tree[key]
    return tree
