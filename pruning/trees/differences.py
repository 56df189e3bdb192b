"""Where two trees first differ, in one line: what an error says of trees that do not fit."""

from typing import Any

import jax


def first_difference(tree: Any, other: Any) -> str:
    """The first place at which two trees have other containers, or other children.

    Args:
        tree: Any pytree; ``None`` is a leaf.
        other: Another.

    Returns:
        Both sides there, as in ``at ['layer'] a dict against a FrozenDict``; empty if they have one
        structure.

    >>> first_difference({"a": [1]}, {"a": (1,)})
    "at ['a'] a list against a tuple"
    >>> first_difference({"a": 1, "b": 2}, {"a": 1})
    "['b'] against nothing"
    """
    return _difference(tree, other, ())


def _difference(tree: Any, other: Any, path: tuple[Any, ...]) -> str:
    children, structure = _children(tree)
    others, other_structure = _children(other)
    leaves = [jax.tree_util.treedef_is_leaf(found) for found in (structure, other_structure)]
    if all(leaves):
        return ""
    if any(leaves) or type(tree) is not type(other):
        names = [_name(node, leaf) for node, leaf in zip((tree, other), leaves, strict=True)]
        return f"{_at(path)}{names[0]} against {names[1]}"
    keys, other_keys = list(children), list(others)
    for key, child in children.items():
        if key not in others:
            return f"{jax.tree_util.keystr((*path, key))} against nothing"
        found = _difference(child, others[key], (*path, key))
        if found:
            return found
    for key in other_keys:
        if key not in children:
            return f"nothing against {jax.tree_util.keystr((*path, key))}"
    if structure != other_structure or keys != other_keys:
        return f"{_at(path)}two {type(tree).__name__}s with other metadata or another order"
    return ""


def _children(node: Any) -> tuple[dict[Any, Any], Any]:
    """The children of a node by their keys, and its own structure."""
    if node is None:
        return {}, jax.tree.structure(0)
    found, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda inner: inner is not node)
    return {path[0]: child for path, child in found if path}, structure


def _at(path: tuple[Any, ...]) -> str:
    return f"at {jax.tree_util.keystr(path)} " if path else "at the top "


def _name(node: Any, leaf: bool) -> str:
    if node is None:
        return "None"
    return "a leaf" if leaf else f"a {type(node).__name__}"
