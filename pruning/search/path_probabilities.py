"""What the steps of a biased random walk through a network are chosen by.

Shapes: G groups, I input units, O output units of a group, P positions of a kernel.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pruning.trees.layout import LayerAxes, Layout, axes_of, flax_layout, over_layers
from pruning.trees.leaves import PyTree
from pruning.trees.precision import at_least_float32


class PathProbabilities(NamedTuple):
    """Probabilities of steps through one kernel.

    Attributes:
        forward: Shape (inputs, outputs): from an input unit to each output unit; rows add up to 1.
        backward: Shape (outputs, inputs): from an output unit to each input unit; rows add up to 1.
        position: The kernel's shape: which of the weights between two units; those between two add up
            to 1.
    """

    forward: jax.Array
    backward: jax.Array
    position: jax.Array


def path_probabilities(kernels: PyTree, *, layout: Layout = flax_layout) -> PyTree:
    r"""The probabilities by which PHEW's walks choose their steps, kernel by kernel.

    With :math:`u_{ji} = \sum_p |w_{jip}|` the sum over a kernel's positions p between the input unit i
    and the output unit j (in a dense layer one weight), a walk goes

    - forward from i to j with :math:`u_{ji} / \sum_j u_{ji}`,
    - backward from j to i with :math:`u_{ji} / \sum_i u_{ji}`,
    - and between the two over position p with :math:`|w_{jip}| / u_{ji}`.

    What would be 0/0 is uniform.

    Args:
        kernels: Any pytree of kernels, arrays of at least two dimensions.
        layout: ``layout(path, leaf)`` says which axes are in and out (``pruning.trees.layout``). Axes
            that are stacked layers lead in every result.

    Returns:
        A tree like kernels with ``PathProbabilities`` in the place of each, in its dtype, float32 at
        least. Units of several axes (heads) are counted in the order in which the layout names the
        axes.

    Raises:
        ValueError: If there is no kernel, or one has no axis in or out.

    >>> (kernel,) = path_probabilities([jnp.array([[1.0, -3.0], [0.0, 0.0]])])
    >>> kernel.forward.tolist(), kernel.backward.tolist()
    ([[0.25, 0.75], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]])

    Source: Patil and Dovrolis 2021 (arXiv 2010.11354).
    """
    axes = iter(kernel_axes(kernels, layout))

    def of_kernel(kernel: Any) -> PathProbabilities:
        of_leaf = next(axes)

        def of_layer(layer: jax.Array) -> PathProbabilities:
            forward, backward, position = step_probabilities(arranged(layer, of_leaf))
            return PathProbabilities(forward[0], backward[0], _as_kernel(position, of_leaf))

        return over_layers(of_layer, of_leaf.stacked)(jnp.asarray(kernel))

    return jax.tree.map(of_kernel, kernels)


def kernel_axes(kernels: PyTree, layout: Layout) -> list[LayerAxes]:
    """The axes of each kernel, checked.

    Args:
        kernels: A pytree of kernels.
        layout: ``layout(path, leaf)``.

    Returns:
        Its axes, for each leaf.

    Raises:
        ValueError: If there is no kernel, or one has no axis in or out, or no weight.
    """
    leaves = jax.tree_util.tree_leaves_with_path(kernels)
    if not leaves:
        raise ValueError("expected at least one kernel, such as [first, second], got none")
    for path, leaf in leaves:
        if getattr(leaf, "ndim", 0) < 2 or not leaf.size:
            where = f"{jax.tree_util.keystr(path)} {getattr(leaf, 'shape', type(leaf).__name__)}"
            raise ValueError(
                f"expected kernels, arrays of at least two axes and one weight, got {where}: leave out "
                "biases and scales"
            )
    found = axes_of(layout, kernels)
    for (path, leaf), axes in zip(leaves, found, strict=True):
        if not axes.inputs or not axes.outputs:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"expected a layout with axes in and out for the kernel {leaf.shape} at {where}, got "
                "none: pass layout= with both"
            )
    return found


def arranged(layer: jax.Array, axes: LayerAxes) -> jax.Array:
    """One layer's weights by unit.

    Args:
        layer: A kernel, without stacked axes.
        axes: Of its leaf, with them.

    Returns:
        Its entries, of shape (1, I, O, P).
    """
    order = [axis - len(axes.stacked) for axis in (*axes.inputs, *axes.outputs, *axes.spatial)]
    return jnp.transpose(layer, order).reshape(1, axes.fan_in, axes.fan_out, -1)


def _as_kernel(weights: jax.Array, axes: LayerAxes) -> jax.Array:
    """What ``arranged`` undoes."""
    order = (*axes.inputs, *axes.outputs, *axes.spatial)
    moved = weights.reshape([axes.shape[axis] for axis in order])
    return jnp.transpose(moved, [order.index(axis) for axis in sorted(order)])


def step_probabilities(
    weights: jax.Array, open_in: Any = True, open_out: Any = True
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The probabilities of steps between the units of one use.

    Args:
        weights: (G, I, O, P).
        open_in: Which input units may be stepped to, bool (G, I), or True for all.
        open_out: Which output units may be, bool (G, O), or True for all.

    Returns:
        Forward (G, I, O), backward (G, O, I) and position (G, I, O, P).
    """
    groups, inputs, outputs, positions = weights.shape
    size = jnp.abs(weights.astype(at_least_float32(weights.dtype)))
    between = jnp.sum(size, axis=3)
    open_in = jnp.broadcast_to(open_in, (groups, inputs))[:, None]
    open_out = jnp.broadcast_to(open_out, (groups, outputs))[:, None]
    return (
        _share(jnp.where(open_out, between, 0), open_out),
        _share(jnp.where(open_in, jnp.swapaxes(between, 1, 2), 0), open_in),
        _share(size, jnp.ones((1, 1, 1, positions), bool)),
    )


def _share(parts: jax.Array, otherwise: jax.Array) -> jax.Array:
    """The share of the sum along the last axis; where that is 0, equal shares of what else is there."""
    total = jnp.sum(parts, axis=-1, keepdims=True)
    several = jnp.maximum(jnp.sum(otherwise, axis=-1, keepdims=True), 1).astype(parts.dtype)
    equal = otherwise.astype(parts.dtype) / several
    nothing = total == 0
    return jnp.where(nothing, equal, parts / jnp.where(nothing, 1, total))
