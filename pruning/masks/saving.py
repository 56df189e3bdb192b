"""Masks on disk: one safetensors file, a bit a weight, readable without this library.

Each mask is a uint8 tensor of packed bits (``numpy.packbits``, C order) under the leaf's key path;
the file's metadata holds the format's name, the shapes, every path of the tree, what the caller adds
(method, seed, sparsity, ...) and a checksum of it all. Files from before there was one can be read.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.files.sealed import read_metadata, require_file, seal, unseal
from pruning.files.writing import write_atomically
from pruning.trees.leaves import PyTree, is_none, is_traced
from pruning.trees.named import described, key_of, leaves_like, nested

FORMAT = "pruning-masks-1"
PARAMS_FORMAT = "pruning-params-1"

# What a file of each format holds, and what its header says of a leaf.
_FORMATS = {
    FORMAT: ("masks", {"keys", "shape"}),
    PARAMS_FORMAT: ("masked params", {"keys", "shape", "dtype", "masked"}),
}


class Contents(NamedTuple):
    """What a file of this library holds.

    Attributes:
        leaves: What its header says of each leaf, by name.
        tensors: Its arrays, by name.
        metadata: What was given to ``save_masks`` or ``save_masked_params``.
    """

    leaves: dict[str, Any]
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


def save_masks(path: str | os.PathLike, masks: PyTree, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes masks to a file, whole or not at all.

    Args:
        path: The file, ``.safetensors`` by custom. An existing one is replaced; where it is a link,
            what it leads to.
        masks: A concrete tree of masks.
        metadata: What made them: method, seed, sparsity, ...; values that JSON can hold.

    Raises:
        ValueError: If a leaf is not a bool array, the masks are traced, there are none, two paths
            read the same, the metadata cannot be written as JSON, or there is something else than a
            file, such as a folder or a device.
        OSError: If the file cannot be written, as on a full disk; an old one stays as it was.
    """
    tensors: dict[str, np.ndarray] = {}
    leaves: dict[str, Any] = {}
    for key_path, mask in jax.tree_util.tree_leaves_with_path(masks, is_leaf=is_none):
        name = jax.tree_util.keystr(key_path)
        if name in leaves:
            raise ValueError(f"two leaves of the masks have the path {name}")
        leaves[name] = {"keys": [key_of(entry) for entry in key_path], "shape": None}
        if mask is None:
            continue
        if is_traced(mask):
            raise ValueError("save_masks needs concrete masks: call it outside jit and vmap")
        bits = np.asarray(mask)
        if bits.dtype != np.bool_:
            raise ValueError(f"expected a bool mask at {name}, got {bits.dtype}")
        leaves[name]["shape"] = list(bits.shape)
        tensors[name] = np.packbits(bits)
    if not tensors:
        raise ValueError("expected at least one mask to save, got a tree with none")
    header = described(FORMAT, leaves, metadata)
    write_atomically(Path(path), seal(tensors, header))


def load_masks(path: str | os.PathLike, like: PyTree = None) -> PyTree:
    """Reads masks from a file.

    Args:
        path: A file that ``save_masks`` wrote.
        like: Params or masks of the network; their structure is rebuilt and the shapes are checked.
            Without it, nested dicts, whose keys are those of the saved tree's containers. Containers
            without leaves, such as ``{}``, are not in the file, and come back by ``like`` alone.

    Returns:
        A tree of masks.

    Raises:
        ValueError: If the file is missing, damaged, not one of ours, does not fit ``like``, or holds,
            without it, two leaves that are one key in a dict.
    """
    require_file(path)
    try:
        leaves, tensors, _ = read_file(path, FORMAT)
        masked = {name for name, leaf in leaves.items() if leaf["shape"] is not None}
        if masked != set(tensors):
            raise ValueError(f"is inconsistent at {sorted(masked ^ set(tensors))[:4]}")
        masks = {
            name: jnp.asarray(unpacked(name, leaf["shape"], tensors[name])) if name in masked else None
            for name, leaf in leaves.items()
        }
    except ValueError as error:
        raise ValueError(f"{path} {error}: write it with pruning.save_masks") from error
    if like is None:
        return nested(path, leaves, masks)
    names, expected, structure = leaves_like(like, masks, path)
    for name, leaf in zip(names, expected, strict=True):
        # A whole model has functions among its leaves; they have no mask.
        mask, shape = masks[name], getattr(leaf, "shape", None)
        if mask is not None and shape != mask.shape:
            raise ValueError(f"the mask at {name} in {path} has shape {mask.shape}, `like` has {shape}")
    return structure.unflatten([masks[name] for name in names])


def load_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what was saved beside the masks, or beside masked params.

    Args:
        path: A file that ``save_masks`` or ``save_masked_params`` wrote.

    Returns:
        The metadata that it was given.

    Raises:
        ValueError: If the file is missing, damaged or not one of ours.
    """
    require_file(path)
    try:
        return read_file(path, FORMAT, PARAMS_FORMAT).metadata
    except ValueError as error:
        raise ValueError(
            f"{path} {error}: write it with pruning.save_masks or pruning.save_masked_params"
        ) from error


def read_file(path: str | os.PathLike, *formats: str) -> Contents:
    """Reads a file of this library.

    Args:
        path: A file.
        *formats: The names of those that will do.

    Returns:
        What it holds. The tensors are not compared with what is said of the leaves.

    Raises:
        ValueError: If it is damaged or of another format, in words that go on after its name.
    """
    # Before the tensors: those of others may be large.
    form = read_metadata(path).get("format")
    if form not in formats:
        holds, expected = _FORMATS[formats[0]][0], " or ".join(map(repr, formats))
        raise ValueError(f"holds no {holds} of this library (format {form!r}, expected {expected})")
    tensors, header, checked = unseal(path, ("format", "leaves", "metadata"))
    if not checked and form != FORMAT:
        raise ValueError("is damaged: it has lost its checksum")
    try:
        leaves = _leaves(json.loads(header["leaves"]), _FORMATS[form][1])
        metadata = json.loads(header["metadata"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"has a damaged header ({error})") from error
    if not isinstance(metadata, dict):
        raise ValueError("has metadata that is no dict")
    return Contents(leaves, tensors, metadata)


def unpacked(name: str, shape: list[int], packed: np.ndarray) -> np.ndarray:
    """A mask of its bits.

    Args:
        name: What an error calls the leaf.
        shape: The mask's shape.
        packed: As ``numpy.packbits`` makes them.

    Returns:
        The mask, bool.

    Raises:
        ValueError: If they are not as many as the shape says, in words that go on after the file's name.
    """
    size = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (-(-size // 8),):
        raise ValueError(f"has {packed.dtype} {packed.shape} for the mask of shape {shape} at {name}")
    return np.unpackbits(packed, count=size).astype(bool).reshape(shape)


def _leaves(found: Any, fields: set[str]) -> dict[str, Any]:
    """What a header says of the leaves, if it is in the form in which this library writes it."""
    if not isinstance(found, dict):
        raise ValueError(f"expected a dict of leaves, got {type(found).__name__}")
    for name, leaf in found.items():
        if not isinstance(leaf, dict) or set(leaf) != fields:
            raise ValueError(f"expected {sorted(fields)} at {name!r}, got {str(leaf)[:80]}")
        keys, shape = leaf["keys"], leaf["shape"]
        if not isinstance(keys, list) or any(not isinstance(key, str | int) for key in keys):
            raise ValueError(
                f"expected a list of names and numbers as keys at {name!r}, got {str(keys)[:80]}"
            )
        if shape is not None and (not isinstance(shape, list) or any(map(_is_no_size, shape))):
            raise ValueError(f"expected a list of sizes as shape at {name!r}, got {str(shape)[:80]}")
    return found


def _is_no_size(value: Any) -> bool:
    return type(value) is not int or value < 0
