"""RigL: weights are dropped by magnitude and grow by the gradient of the dense network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pruning.transforms.dynamic import DropFraction, Growth, dynamic_sparse
from pruning.transforms.regrowth import drop_and_grow
from pruning.trees.counts import check_counts, check_fractions
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import PyTree, Scalar


def rigl(
    optimizer: optax.GradientTransformation,
    masks: PyTree,
    *,
    check_every: int,
    stop_after: int,
    drop_fraction: DropFraction = 0.3,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Rigging the lottery: dynamic sparse training that grows weights where the loss would fall fastest.

    At steps ``check_every``, ``2 * check_every``, ... up to ``stop_after``, in each layer of :math:`n_1`
    kept weights, the :math:`k = \lfloor f n_1 \rfloor` of the smallest :math:`|w|` go, and of all that
    are not kept then, those included, the k of the largest :math:`|\partial L / \partial w|` come. Every
    layer keeps its count for ever. What comes starts at 0, and so does all that the optimizer keeps of
    it (momentum, Adam's moments); a weight that is dropped and comes back in the same check keeps value
    and slots, as in the reference. At a check the gradient is not applied, and the optimizer's state does
    not advance, as in the paper's algorithm.

    The gradients must be those of the dense network at the masked weights: the loss of the params as they
    are, which this keeps at exactly 0 where they are pruned. A loss of ``apply_masks(params, masks)`` has
    no gradient there, and growth nothing to choose by: such a layer stays as it was, the state's
    ``blind`` counts it, and it is an error where nothing is traced or with ``jax.experimental.checkify``.

    Accumulated gradients: ``optax.MultiSteps(rigl(optimizer, ...), k)`` grows by all of them.

    Args:
        optimizer: Any optax optimizer that keeps a number for each weight, or none. It sees the gradients
            of kept weights alone.
        masks: Where to begin, such as ``random_masks(..., allocation=erdos_renyi_kernel)``; may be
            traced.
        check_every: Steps between checks, >= 1. The paper's: 100.
        stop_after: Steps after which the masks stay, >= 0. The paper's: three quarters of the training.
        drop_fraction: f in [0, 1], of the kept weights of a layer, or a schedule ``fraction(step)``, such
            as ``cosine_drop_fraction``.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``); None for
            ``pruning.flax_layout``.

    Returns:
        An optimizer, whose state is a ``DynamicSparseState``. It needs ``params`` in ``update``; read the
        masks with ``pruning.get_masks``.

    Raises:
        ValueError: If a number is out of range; from ``init`` if the masks do not fit or the optimizer
            keeps something else than a number for each weight; from ``update`` without params, or if no
            pruned weight of a layer has a gradient (when nothing is traced).

    Source: Evci et al. 2020 (arXiv 1911.11134), algorithm 1. The reference drops by :math:`|w|` with a
    little noise, which is left out here, and checks at step 0 too.

    >>> params, masks = {"w": jnp.array([[3.0, 1.0, 0.0]])}, {"w": jnp.array([[True, True, False]])}
    >>> tx = rigl(optax.sgd(0.1), masks, check_every=1, stop_after=1, drop_fraction=0.5)
    >>> updates, state = tx.update({"w": jnp.array([[1.0, 1.0, 2.0]])}, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["w"], state.masks["w"]
    (Array([[3., 0., 0.]], dtype=float32), Array([[ True, False,  True]], dtype=bool))
    """
    regrow = partial(drop_and_grow, layout=layout or flax_layout)
    return dynamic_sparse(
        optimizer,
        masks,
        Growth("rigl", magnitudes, steps_at_checks=False, regrow=regrow),
        check_every=check_every,
        stop_after=stop_after,
        drop_fraction=drop_fraction,
    )


def magnitudes(gradients: PyTree, count: jax.Array) -> PyTree:
    """RigL's growth scores: the magnitudes of the dense network's gradients, whatever the step.

    Args:
        gradients: A tree like masks.
        count: Not used.

    Returns:
        A tree like masks.
    """
    del count
    return jax.tree.map(jnp.abs, gradients)


def sparse_evolutionary(
    key: jax.Array,
    optimizer: optax.GradientTransformation,
    masks: PyTree,
    *,
    check_every: int,
    stop_after: int,
    drop_fraction: DropFraction = 0.3,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Sparse evolutionary training (SET): as ``rigl``, but weights grow at random.

    At a check the optimizer takes its step first; the weights that it makes are dropped by their
    magnitude. Growth is uniform over all that are not kept then, the dropped ones included.

    Args:
        key: A PRNG key (``jax.random.key``); each check draws with its step folded in, so that a run
            which is resumed with the same key goes on as it would have.
        optimizer: As for ``rigl``.
        masks: As for ``rigl``.
        check_every: Steps between checks, >= 1.
        stop_after: Steps after which the masks stay, >= 0.
        drop_fraction: As for ``rigl``.
        layout: As for ``rigl``.

    Returns:
        An optimizer, whose state is a ``DynamicSparseState``.

    Raises:
        ValueError: As ``rigl``, but for the gradients, of which nothing is asked.

    Source: Mocanu et al. 2018 (arXiv 1707.04780), algorithm 1, with magnitudes in place of the smallest
    positive and the largest negative weights, as RigL's reference has it, from which the order is too.

    >>> params, masks = {"w": jnp.array([[3.0, 1.0, 0.0]])}, {"w": jnp.array([[True, True, False]])}
    >>> tx = sparse_evolutionary(jax.random.key(0), optax.sgd(0.5), masks, check_every=1, stop_after=1)
    >>> updates, state = tx.update({"w": jnp.array([[1.0, 1.0, 2.0]])}, tx.init(params), params)
    >>> int(state.masks["w"].sum())
    2
    """

    def scores(gradients: PyTree, count: jax.Array) -> PyTree:
        leaves, structure = jax.tree.flatten(gradients)
        keys = jax.random.split(jax.random.fold_in(key, count), len(leaves))
        drawn = [jax.random.uniform(k, g.shape, minval=0.5) for k, g in zip(keys, leaves, strict=True)]
        return structure.unflatten(drawn)

    regrow = partial(drop_and_grow, layout=layout or flax_layout)
    return dynamic_sparse(
        optimizer,
        masks,
        Growth(
            "sparse_evolutionary",
            scores,
            steps_at_checks=True,
            regrow=regrow,
        ),
        check_every=check_every,
        stop_after=stop_after,
        drop_fraction=drop_fraction,
    )


def cosine_drop_fraction(initial: float, steps: int):
    r"""RigL's schedule of the drop fraction: :math:`\tfrac{f_0}{2} (1 + \cos(\pi \min(t, T) / T))`.

    Args:
        initial: :math:`f_0` in [0, 1], of the kept weights of a layer.
        steps: T >= 1, at which it is 0; ``stop_after``, as a rule.

    Returns:
        ``fraction(step)``.

    Raises:
        ValueError: If a number is out of range.

    Source: Evci et al. 2020 (arXiv 1911.11134), section 3.

    >>> [round(float(cosine_drop_fraction(0.3, 100)(step)), 3) for step in (0, 50, 100, 200)]
    [0.3, 0.15, 0.0, 0.0]
    """
    check_fractions(initial=initial)
    check_counts(steps=steps)

    def fraction(step: Scalar) -> jax.Array:
        share = jnp.clip(jnp.asarray(step, jnp.float32) / np.float32(steps), 0, 1)
        return jnp.asarray(initial, jnp.float32) / 2 * (1 + jnp.cos(np.float32(np.pi) * share))

    return fraction
