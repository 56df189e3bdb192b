"""Ablations: what is left of a method when one part of its choice is undone.

Each changes one thing and keeps the rest: ``shuffle_masks`` which weights of a layer are kept (not
how many), ``reinitialise`` the weights (not the masks), ``invert_scores`` the end of the ranking that
is kept (not the number).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pruning.masks.drawn_layers import each_layer
from pruning.masks.tree import apply_masks
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import PyTree


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
