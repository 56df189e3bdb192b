"""Masks on disk: one safetensors file, a bit a weight, readable without this library.

Each mask is a uint8 tensor of packed bits (``numpy.packbits``, C order) under the leaf's key path;
the file's metadata holds the format's name, the shapes, every path of the tree and what the caller
adds (method, seed, sparsity, ...).
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pruning.leaves import PyTree, is_none, is_traced

FORMAT = "pruning-masks-1"


def save_masks(path: str | os.PathLike, masks: PyTree, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes masks to a file, whole or not at all.

    Args:
        path: The file, ``.safetensors`` by custom. An existing one is replaced.
        masks: A concrete tree of masks.
        metadata: What made them: method, seed, sparsity, ...; values that JSON can hold.

    Raises:
        ValueError: If a leaf is not a bool array, the masks are traced, there are none, two paths
            read the same, or the metadata cannot be written as JSON.
    """
    tensors: dict[str, np.ndarray] = {}
    leaves: dict[str, Any] = {}
    for key_path, mask in jax.tree_util.tree_leaves_with_path(masks, is_leaf=is_none):
        name = jax.tree_util.keystr(key_path)
        if name in leaves:
            raise ValueError(f"two leaves of the masks have the path {name}")
        leaves[name] = {"keys": [_key(entry) for entry in key_path], "shape": None}
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
    try:
        header = {
            "format": FORMAT,
            "leaves": json.dumps(leaves),
            "metadata": json.dumps(dict(metadata or {}), default=_plain),
        }
    except TypeError as error:
        raise ValueError(f"expected metadata that JSON can hold: {error}") from error
    write_atomically(Path(path), save(tensors, header))


def load_masks(path: str | os.PathLike, like: PyTree = None) -> PyTree:
    """Reads masks from a file.

    Args:
        path: A file that ``save_masks`` wrote.
        like: Params or masks of the network; their structure is rebuilt and the shapes are checked.
            Without it, nested dicts, whose keys are those of the saved tree's containers.

    Returns:
        A tree of masks.

    Raises:
        ValueError: If the file is missing, truncated, not one of ours, or does not fit ``like``.
    """
    leaves, tensors, _ = _read(path)
    masks = {
        name: _unpack(path, name, leaf["shape"], tensors[name]) if leaf["shape"] is not None else None
        for name, leaf in leaves.items()
    }
    if like is None:
        return _nested(path, leaves, masks)
    expected, structure = jax.tree_util.tree_flatten_with_path(like, is_leaf=is_none)
    names = [jax.tree_util.keystr(key_path) for key_path, _ in expected]
    if set(names) != set(masks):
        raise ValueError(
            f"the masks in {path} are of another network: only in the file "
            f"{sorted(set(masks) - set(names))[:4]}, only in `like` {sorted(set(names) - set(masks))[:4]}"
        )
    for name, (_, leaf) in zip(names, expected, strict=True):
        mask = masks[name]
        shape = None if leaf is None else jnp.shape(leaf)
        if mask is not None and shape != mask.shape:
            raise ValueError(f"the mask at {name} in {path} has shape {mask.shape}, `like` has {shape}")
    return structure.unflatten([masks[name] for name in names])


def load_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what was saved beside the masks.

    Args:
        path: A file that ``save_masks`` wrote.

    Returns:
        The metadata given to ``save_masks``.

    Raises:
        ValueError: If the file is missing, truncated or not one of ours.
    """
    return _read(path)[2]


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: a reader, or a crash, never sees a part of it.

    Args:
        path: The file; its folder is made if need be.
        content: The bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    if not Path(path).is_file():
        raise ValueError(f"there is no file of masks at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable safetensors file (truncated, or not one): {error}"
        ) from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path} holds no masks of this library (format {header.get('format')!r}, "
            f"expected {FORMAT!r}): write it with pruning.save_masks"
        )
    try:
        leaves, metadata = json.loads(header["leaves"]), json.loads(header["metadata"])
        masked = {name for name, leaf in leaves.items() if leaf["shape"] is not None}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} has a damaged header ({error!r}): save the masks again") from error
    if masked != set(tensors):
        raise ValueError(
            f"{path} is inconsistent at {sorted(masked ^ set(tensors))[:4]}: save the masks again"
        )
    return leaves, tensors, metadata


def _unpack(path: Any, name: str, shape: list[int], packed: np.ndarray) -> jax.Array:
    size = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (-(-size // 8),):
        raise ValueError(
            f"the mask at {name} in {path} has {packed.dtype} {packed.shape} for shape {shape}: "
            "save the masks again"
        )
    return jnp.asarray(np.unpackbits(packed, count=size).astype(bool).reshape(shape))


def _nested(path: Any, leaves: dict[str, Any], masks: dict[str, Any]) -> PyTree:
    tree: dict[Any, Any] = {}
    for name, leaf in leaves.items():
        keys = leaf["keys"]
        if not keys:
            return masks[name]
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path} has a leaf and a container at one path, near {name}")
        node[keys[-1]] = masks[name]
    return tree


def _key(entry: Any) -> Any:
    """The key in a container that one entry of a key path stands for."""
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            key = getattr(entry, attribute)
            return key if isinstance(key, str | int) else str(key)
    return str(entry)


def _plain(value: Any) -> Any:
    """NumPy and JAX scalars and arrays as JSON's own types."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__}")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
