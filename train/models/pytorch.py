"""A network's variables by PyTorch's names and in its layouts, so that a ticket found here is used there.

Paths are joined by dots, a kernel or a scale is a `weight`, statistics are `running_mean` and
`running_var`. Convolutions are OIHW, dense kernels (out, in); the first dense layer after an image has
its inputs in the order (C, H, W), in which PyTorch flattens one. Masks are handed over the same way.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.compaction.programs import Program, program_of
from pruning.connectivity.signal_rules import ENTRYWISE

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_PASSED = (*ENTRYWISE, "max", "min", "mul", "div", "add", "sub", "select_n", "clamp")
_IMAGE, _MATRIX = 4, 2


def to_pytorch(
    apply_fn: Callable[..., Any], variables: Mapping[str, Any], images: Any, values: Any = None
) -> dict[str, np.ndarray]:
    """Give arrays the names and layouts of a PyTorch state dict.

    Args:
        apply_fn: `apply_fn(variables, images)`, the network: which layers follow a flattened image is
            read from it.
        variables: `{"params": ...}`, with BatchNorm `"batch_stats"` too.
        images: (batch, H, W, C), as the network takes them; only the shape matters.
        values: A tree like variables whose arrays are to be handed over instead, such as
            `{"params": masks}`; None leaves are left out.

    Returns:
        Arrays by name; `torch.from_numpy` takes them.

    Raises:
        ValueError: If a kernel has a rank that is not known here, two arrays get one name, or what a
            flattened image is multiplied with is no kernel, cast or masked at most.
    """
    flattened = dict(_flattened(apply_fn, variables, images))
    found: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables if values is None else values):
        names = [str(getattr(entry, "key", entry)) for entry in path[1:]]
        name = ".".join([*names[:-1], _LEAVES.get(names[-1], names[-1])])
        if name in found:
            raise ValueError(f"expected one array for each PyTorch name, got two for {name}")
        array = np.asarray(leaf)
        where = jax.tree_util.keystr(path)
        laid_out = _laid_out(array, flattened.get(where), where) if names[-1] == "kernel" else array
        found[name] = laid_out.copy()
    return found


def _laid_out(kernel: np.ndarray, image: tuple[int, ...] | None, where: str) -> np.ndarray:
    if kernel.ndim == _IMAGE:
        return kernel.transpose(3, 2, 0, 1)
    if kernel.ndim != _MATRIX:
        raise ValueError(f"expected a dense kernel or one of images at {where}, got shape {kernel.shape}")
    if image is not None:
        kernel = kernel.reshape(*image, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    return kernel.T


def _flattened(
    apply_fn: Callable[..., Any], variables: Any, images: Any
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The paths of kernels whose inputs are a flattened image, and its (H, W, C)."""
    program, _ = program_of(apply_fn, variables, images)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    of_leaf = dict(zip(program.arguments, paths, strict=False))
    made = {value: step for step in program.plain_steps() for value in step.results}
    for step in program.plain_steps():
        image = _image_of(program, made, step.operands[0]) if step.name == "dot_general" else None
        if image is None or not _is_made_of(made, step.operands[1], set(of_leaf)):
            continue
        kernels = {of_leaf[value] for value in _sources(program, made, step.operands[1]) & set(of_leaf)}
        if len(kernels) != 1:
            raise ValueError(
                f"expected one kernel that the flattened image of {image} is multiplied with, found "
                f"{sorted(kernels) or 'none'}: let apply_fn take its kernels as they are, and hand masks "
                "over as values"
            )
        yield kernels.pop(), image


def _is_made_of(made: Mapping[int, Any], value: int, sources: set[int]) -> bool:
    """Whether a value depends on any of these."""
    if value in sources:
        return True
    return value in made and any(_is_made_of(made, v, sources) for v in made[value].operands)


def _sources(program: Program, made: Mapping[int, Any], value: int) -> set[int]:
    """The floats that a value is made of, past functions of entries and casts."""
    step, shape = made.get(value), program.shape(value)
    if step is None or step.name not in _PASSED:
        return {value} if jnp.issubdtype(program.avals[value].dtype, jnp.floating) else set()
    return {
        source
        for operand in step.operands
        if program.shape(operand) == shape
        for source in _sources(program, made, operand)
    }


def _image_of(program: Program, made: Mapping[int, Any], value: int) -> tuple[int, ...] | None:
    """(H, W, C) of the image that a value is, flattened, past functions of entries, or None."""
    if value not in made:
        return None
    step, shape = made[value], program.shape(value)
    if step.name == "reshape" and len(program.shape(step.operands[0])) == _IMAGE:
        image = program.shape(step.operands[0])
        return image[1:] if shape == (image[0], math.prod(image[1:])) else None
    if step.name not in _PASSED:
        return None
    found = (_image_of(program, made, v) for v in step.operands if program.shape(v) == shape)
    return next((image for image in found if image is not None), None)
