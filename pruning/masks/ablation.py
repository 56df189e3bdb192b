"""Ablations: what is left of a method when one part of its choice is undone.

Each changes one thing and keeps the rest: ``shuffle_masks`` which weights of a layer are kept (not
how many), ``reinitialise`` the weights (not the masks), ``sparse_kaiming_normal`` the weights and their
spread, which follows the masks, ``invert_scores`` the end of the ranking that is kept (not the number).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pruning.masks.drawn_layers import each_layer
from pruning.masks.reading import fit_masks
from pruning.masks.tree import apply_masks, check_masks
from pruning.trees.counts import may_be
from pruning.trees.layout import Layout, axes_of, flax_layout
from pruning.trees.leaves import PyTree, is_none
from pruning.trees.placement import copied, gathered, placed_as
from pruning.trees.precision import at_least_float32
from pruning.trees.rows import over_rows, unit_rows


def shuffle_masks(key: jax.Array, masks: PyTree, *, layout: Layout = flax_layout) -> PyTree:
    """Permutes each layer's mask at random.

    Args:
        key: A typed PRNG key (``jax.random.key``).
        masks: A tree of masks.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        Masks that keep as many weights in each layer, in places drawn uniformly; a layer's permutation
        depends on the key and the layer's place in the tree alone.

    Source: Frankle et al. 2021 (arXiv 2009.08576), section 5.

    >>> masks = shuffle_masks(jax.random.key(0), {"w": jnp.array([[True, True], [False, False]])})
    >>> int(masks["w"].sum())
    2
    """

    def shuffle(key: jax.Array, mask: jax.Array) -> jax.Array:
        return jax.random.permutation(key, mask.ravel()).reshape(mask.shape)

    structure = jax.tree.structure(masks)
    keys = [jax.random.fold_in(key, index) for index in range(structure.num_leaves)]
    return structure.unflatten(each_layer(shuffle, keys, layout, masks))


def invert_scores(scores: PyTree) -> PyTree:
    r"""Turns the ranking round: :math:`z_i \mapsto -z_i`, so that the lowest are kept.

    Args:
        scores: A tree of scores.

    Returns:
        A tree of scores. Ties still go to the lower flat index.

    Source: Frankle et al. 2021 (arXiv 2009.08576), section 5.

    >>> invert_scores({"w": jnp.array([[1.0, -2.0]])})
    {'w': Array([[-1.,  2.]], dtype=float32)}
    """
    return jax.tree.map(jnp.negative, scores)


def reinitialise(key: jax.Array, init_fn: Callable[[jax.Array], PyTree], masks: PyTree) -> PyTree:
    """Draws new initial weights under the same masks.

    Args:
        key: A typed PRNG key, another than that of the weights the masks were made for.
        init_fn: ``init_fn(key) -> params``, the distribution of the initial weights.
        masks: Masks of those params.

    Returns:
        The masked params of the new draw, without any array that ``init_fn`` holds on to.

    Raises:
        ValueError: If the masks do not fit the params.

    Source: Frankle et al. 2021 (arXiv 2009.08576), section 5.

    >>> init = lambda key: {"w": jax.random.normal(key, (1, 2))}
    >>> float(reinitialise(jax.random.key(1), init, {"w": jnp.array([[False, True]])})["w"][0, 0])
    0.0
    """
    return apply_masks(init_fn(key), masks)


def sparse_kaiming_normal(
    key: jax.Array,
    params: PyTree,
    masks: PyTree,
    *,
    gain: float = math.sqrt(2),
    layout: Layout = flax_layout,
) -> PyTree:
    r"""Draws new initial weights whose spread fits what the masks leave of each unit.

    .. math:: w_{ij} \sim N(0, g^2 / f_j), \quad f_j = \sum_i m_{ij}

    A dense initialization divides by the fan-in of the whole kernel, so that signals fade in a sparse
    network; this divides by the kept weights :math:`f_j` that lead into unit j, which differ from unit to
    unit. (``reinitialise`` keeps the distribution of the dense network.)

    Args:
        key: A typed PRNG key, another than those of the masks and of the weights that they were made for.
        params: Any pytree of arrays. Leaves without a mask stay as they are.
        masks: Masks of that tree.
        gain: g > 0; the square root of 2 is for ReLU, 1 for linear units.
        layout: ``layout(path, leaf)`` says which axes are units (``pruning.trees.layout``).

    Returns:
        The params with new weights where a mask keeps them, and 0 where it does not; a leaf's draw
        depends on the key and the leaf's place in the tree alone.

    Raises:
        ValueError: If the masks do not fit the params, or gain is not positive and finite.

    Source: Evci et al. 2022 (arXiv 2010.03533).

    >>> params, masks = {"w": jnp.zeros((1, 2))}, {"w": jnp.array([[False, True]])}
    >>> drawn = sparse_kaiming_normal(jax.random.key(0), params, masks)["w"][0]
    >>> float(drawn[0]), bool(drawn[1] != 0)
    (0.0, True)
    """
    if not may_be(gain, lambda number: 0 < number < math.inf):
        raise ValueError(f"expected a finite gain > 0, got {gain!r}")
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    remaining = iter(enumerate(axes_of(layout, masks)))

    def of_leaf(mask: Any, leaf: Any) -> Any:
        if mask is None:
            return copied(leaf)
        index, axes = next(remaining)
        wide = at_least_float32(leaf.dtype)
        drawn = jax.random.normal(jax.random.fold_in(key, index), leaf.shape, wide)

        def of_units(drawn: jax.Array, mask: jax.Array) -> jax.Array:
            fan_in = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True, dtype=jnp.int32), 1)
            spread = jnp.asarray(gain, wide) / jnp.sqrt(fan_in.astype(wide))
            return jnp.where(mask, drawn * spread, 0).astype(jnp.result_type(leaf))

        return placed_as(over_rows(of_units, unit_rows(axes), drawn, gathered(mask)), leaf)

    return jax.tree.map(of_leaf, masks, params, is_leaf=is_none)
