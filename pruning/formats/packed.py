"""Masked params on disk: the kept weights alone, and a bit a weight that says which they are.

A safetensors file with two tensors for a leaf that has a mask (its packed bits, its kept weights in C
order) and one for any other leaf; the header holds shapes, dtypes, paths and a checksum. At a sparsity
of s a float32 weight takes 4 (1 - s) + 1/8 bytes.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.files.sealed import read_metadata, require_file, seal, unseal
from pruning.files.writing import write_atomically
from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_masks
from pruning.trees.leaves import PyTree, is_none, is_traced
from pruning.trees.named import described, key_of, leaves_like, nested

FORMAT = "pruning-params-1"
BITS, VALUES = " mask", " values"


def save_masked_params(
    path: str | os.PathLike, params: PyTree, masks: PyTree, metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes params and their masks to a file, whole or not at all; pruned weights are not stored.

    Args:
        path: The file, ``.safetensors`` by custom. An existing one is replaced.
        params: A concrete pytree of arrays.
        masks: Concrete masks of that tree.
        metadata: What made them; values that JSON can hold.

    Raises:
        ValueError: If the masks do not fit the params, something is traced or no array, two paths read
            the same, or the metadata cannot be written as JSON.
        OSError: If the file cannot be written; an old one stays as it was.
    """
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    tensors: dict[str, np.ndarray] = {}
    leaves: dict[str, Any] = {}
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_none)
    for (key_path, leaf), mask in zip(found, jax.tree.leaves(masks, is_leaf=is_none), strict=True):
        name = jax.tree_util.keystr(key_path)
        if name in leaves:
            raise ValueError(f"two leaves of the params have the path {name}")
        keys = [key_of(entry) for entry in key_path]
        if leaf is None:
            leaves[name] = {"keys": keys, "shape": None, "dtype": None, "masked": False}
            continue
        if is_traced(leaf) or is_traced(mask) or not _is_array(leaf):
            raise ValueError(
                f"expected a concrete array at {name}, got {type(leaf).__name__}: save arrays alone, "
                "outside jit and vmap"
            )
        array = np.asarray(leaf)
        leaves[name] = {
            "keys": keys,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "masked": mask is not None,
        }
        if mask is None:
            tensors[name] = _storable(array)
        else:
            tensors[name + BITS] = np.packbits(np.asarray(mask))
            tensors[name + VALUES] = _storable(array[np.asarray(mask)])
    header = described(FORMAT, leaves, metadata)
    write_atomically(Path(path), seal(tensors, header))


def load_masked_params(path: str | os.PathLike, like: PyTree = None) -> tuple[PyTree, PyTree]:
    """Reads params and their masks from a file.

    Args:
        path: A file that ``save_masked_params`` wrote.
        like: Params of the network; their structure is rebuilt and shapes are checked. Without it, nested
            dicts, whose keys are those of the saved tree's containers.

    Returns:
        The params, 0 where pruned, and masks of that tree.

    Raises:
        ValueError: If the file is missing, damaged, not one of ours, or does not fit ``like``.
    """
    require_file(path)
    try:
        form = read_metadata(path).get("format")
        if form != FORMAT:
            raise ValueError(f"holds no masked params (format {form!r}, expected {FORMAT!r})")
        tensors, header, _ = unseal(path, ("format", "leaves", "metadata"))
        leaves = json.loads(header["leaves"])
        pairs = {name: _read_leaf(name, leaf, tensors) for name, leaf in leaves.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} {error}: write it with pruning.save_masked_params") from error
    params: dict[str, Any] = {name: pair[0] for name, pair in pairs.items()}
    masks = {name: pair[1] for name, pair in pairs.items()}
    if like is None:
        return nested(path, leaves, params), nested(path, leaves, masks)
    names, expected, structure = leaves_like(like, params, path)
    for name, leaf in zip(names, expected, strict=True):
        found, wanted = (getattr(array, "shape", None) for array in (params[name], leaf))
        if found != wanted:
            raise ValueError(f"the weights at {name} in {path} have shape {found}, `like` has {wanted}")
    return tuple(structure.unflatten([tree[name] for name in names]) for tree in (params, masks))


def _is_array(leaf: Any) -> bool:
    """Not a function, and no key of random numbers, which has no numbers to store."""
    return hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(array: np.ndarray) -> np.ndarray:
    """Dtypes that NumPy has not of its own (bfloat16) as unsigned integers of their width."""
    array = np.ascontiguousarray(array)
    return array if array.dtype.isbuiltin == 1 else array.view(f"uint{8 * array.dtype.itemsize}")


def _read_leaf(name: str, leaf: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
    if leaf["shape"] is None:
        return None, None
    dtype, shape = jnp.dtype(leaf["dtype"]), tuple(leaf["shape"])
    if not leaf["masked"]:
        return jnp.asarray(_as(tensors[name], dtype).reshape(shape)), None
    bits = np.unpackbits(tensors[name + BITS], count=math.prod(shape)).astype(bool)
    array = np.zeros(math.prod(shape), dtype)
    values = _as(tensors[name + VALUES], dtype)
    if len(values) != bits.sum():
        raise ValueError(f"has {len(values)} weights at {name}, where its mask keeps {bits.sum()}")
    array[bits] = values
    return jnp.asarray(array.reshape(shape)), jnp.asarray(bits.reshape(shape))


def _as(array: np.ndarray, dtype: Any) -> np.ndarray:
    return array if array.dtype == dtype else array.view(dtype)
