"""Masked params on disk: the kept weights alone, and a bit a weight that says which they are.

A safetensors file with two tensors for a leaf that has a mask (its packed bits, its kept weights in C
order) and one for any other leaf; the header holds shapes, dtypes, paths and a checksum. At a sparsity
of s a float32 weight takes 4 (1 - s) + 1/8 bytes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.files.sealed import require_file, seal
from pruning.files.writing import write_atomically
from pruning.masks.reading import fit_masks
from pruning.masks.saving import PARAMS_FORMAT, read_file, unpacked
from pruning.masks.tree import check_masks
from pruning.trees.leaves import PyTree, is_none, is_traced
from pruning.trees.named import described, key_of, leaves_like, nested
from pruning.trees.precision import check_zero

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
        ValueError: If the masks do not fit the params, something is traced or no array that JAX can hold,
            two paths read the same, a pruned weight's dtype has no zero, or the metadata cannot be
            written as JSON.
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
        array = _native(leaf, name)
        leaves[name] = {
            "keys": keys,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "masked": mask is not None,
        }
        if mask is None:
            tensors[name] = _storable(array)
        else:
            check_zero(key_path, array)
            tensors[name + BITS] = np.packbits(np.asarray(mask))
            tensors[name + VALUES] = _storable(array[np.asarray(mask)])
    header = described(PARAMS_FORMAT, leaves, metadata)
    write_atomically(Path(path), seal(tensors, header))


def load_masked_params(path: str | os.PathLike, like: PyTree = None) -> tuple[PyTree, PyTree]:
    """Reads params and their masks from a file.

    Args:
        path: A file that ``save_masked_params`` wrote.
        like: Params of the network; their structure is rebuilt and shapes are checked. Without it, nested
            dicts, whose keys are those of the saved tree's containers. Containers without leaves, such as
            ``{}``, are not in the file, and come back by ``like`` alone.

    Returns:
        The params, 0 where pruned, and masks of that tree.

    Raises:
        ValueError: If the file is missing, damaged, not one of ours, does not fit ``like``, or holds
            numbers of 64 bits that 32 do not hold, where ``jax.enable_x64`` is off.
    """
    require_file(path)
    try:
        leaves, tensors, _ = read_file(path, PARAMS_FORMAT)
        pairs = {name: _read_leaf(name, leaf, tensors) for name, leaf in leaves.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} {error}: write it with pruning.save_masked_params") from error
    for name, (array, _) in pairs.items():
        if array is None or (short := _of_jax(array.dtype)) == array.dtype:
            continue
        if not np.array_equal(array.astype(short), array, equal_nan=True):
            raise ValueError(
                f"{path} holds {array.dtype} at {name}, of which JAX would make others in {short}: "
                "load it under jax.enable_x64(True)"
            )
    params, masks = ({name: _device(pair[i]) for name, pair in pairs.items()} for i in (0, 1))
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


def _native(leaf: Any, name: str) -> np.ndarray:
    """An array in the byte order of this machine, if JAX can hold it."""
    array = np.asarray(leaf)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    try:
        _of_jax(array.dtype)
    except TypeError as error:
        raise ValueError(
            f"expected an array of numbers that JAX can hold at {name}, got {array.dtype}: convert it, "
            "or leave it out"
        ) from error
    return array


def _of_jax(dtype: Any) -> Any:
    """The dtype that JAX gives an array of this one, float32 for float64 say; a TypeError if none."""
    return jax.typeof(np.zeros((), dtype)).dtype


def _storable(array: np.ndarray) -> np.ndarray:
    """Dtypes that NumPy has not of its own (bfloat16) as unsigned integers; complex128 as two floats."""
    array = np.ascontiguousarray(array)
    if array.dtype == np.complex128:
        return array.view(np.float64)
    return array if array.dtype.isbuiltin == 1 else array.view(f"uint{8 * array.dtype.itemsize}")


def _read_leaf(
    name: str, leaf: Any, tensors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if leaf["shape"] is None:
        return None, None
    if not isinstance(leaf["dtype"], str) or not isinstance(leaf["masked"], bool):
        raise ValueError(f"says {str(leaf)[:80]} of the weights at {name}")
    dtype, shape = jnp.dtype(leaf["dtype"]), tuple(leaf["shape"])
    _of_jax(dtype)
    if not leaf["masked"]:
        return _as(tensors[name], dtype).reshape(shape), None
    mask = unpacked(name, leaf["shape"], tensors[name + BITS])
    array, values = np.zeros(shape, dtype), _as(tensors[name + VALUES], dtype)
    if values.shape != (mask.sum(),):
        raise ValueError(f"has {len(values)} weights at {name}, where its mask keeps {mask.sum()}")
    array[mask] = values
    return array, mask


def _device(array: np.ndarray | None) -> jax.Array | None:
    return None if array is None else jnp.asarray(array)


def _as(array: np.ndarray, dtype: Any) -> np.ndarray:
    return array if array.dtype == dtype else array.view(dtype)
