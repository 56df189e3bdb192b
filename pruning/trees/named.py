"""Trees in files: leaves by the names that their key paths read as, and the tree that they were."""

import json
from collections.abc import Mapping
from typing import Any

import jax

from pruning.trees.leaves import PyTree, is_none


def key_of(entry: Any) -> Any:
    """The key in a container that one entry of a key path stands for."""
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            key = getattr(entry, attribute)
            return key if isinstance(key, str | int) else str(key)
    return str(entry)


def nested(path: Any, leaves: Mapping[str, Any], values: Mapping[str, Any]) -> PyTree:
    """Nested dicts of the values.

    Args:
        path: Of the file, for errors.
        leaves: By name; each has its `keys`.
        values: By name.

    Returns:
        Dicts whose keys are those of the saved tree's containers; empty ones are not among them.

    Raises:
        ValueError: If two leaves are one key in a dict.
    """
    tree: dict[Any, Any] = {}
    for name, leaf in leaves.items():
        keys = leaf["keys"]
        if not keys and len(leaves) == 1:
            return values[name]
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or not keys or keys[-1] in node:
            raise ValueError(
                f"{path} has two leaves, or a leaf and a container, that are one key in a dict, at {name}"
                ": give `like`, the params that the file is of"
            )
        node[keys[-1]] = values[name]
    return tree


def leaves_like(like: PyTree, values: Mapping[str, Any], path: Any) -> tuple[list[str], list[Any], Any]:
    """The leaves of a tree that a file's values are for.

    Args:
        like: The tree.
        values: By name.
        path: Of the file, for errors.

    Returns:
        The names of its leaves, the leaves, and its structure.

    Raises:
        ValueError: If two leaves have one name, or the names are others than the file's.
    """
    expected, structure = jax.tree_util.tree_flatten_with_path(like, is_leaf=is_none)
    names = [jax.tree_util.keystr(key_path) for key_path, _ in expected]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"two leaves of `like` have the path {twice}")
    here, there = set(names), set(values)
    if here != there:
        raise ValueError(
            f"the leaves in {path} are of another network: only in the file {sorted(there - here)[:4]}, "
            f"only in `like` {sorted(here - there)[:4]}"
        )
    return names, [leaf for _, leaf in expected], structure


def described(form: str, leaves: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """What a file says of itself.

    Args:
        form: The name of its format.
        leaves: What is to be known of each leaf, by name.
        metadata: What the caller adds; values that JSON can hold.

    Returns:
        The metadata of a safetensors file.

    Raises:
        ValueError: If the caller's are no mapping, or cannot be written as JSON.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ValueError(f"expected metadata as a dict of what JSON can hold, got {str(metadata)[:80]!r}")
    try:
        return {
            "format": form,
            "leaves": json.dumps(leaves),
            "metadata": json.dumps(dict(metadata or {}), default=_plain),
        }
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected metadata that JSON can hold: {error}") from error


def _plain(value: Any) -> Any:
    """NumPy and JAX scalars and arrays as JSON's own types."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__}")
