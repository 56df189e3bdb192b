"""PX, path exclusion: how much of the neural tangent kernel's trace runs through a weight.

Shapes: trees of scores are shaped like masks; n_b inputs in batch b.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pruning.scores.batches import check_batches
from pruning.scores.binary_scaling import score_dtype, widened
from pruning.scores.checking import check_scores
from pruning.trees.leaves import Prunable, PyTree, is_float, is_none, prunable, split_prunable

Activation = Callable[[jax.Array], jax.Array]
NetworkFn = Callable[[PyTree, jax.Array, Activation], jax.Array]


def path_exclusion_scores(
    network_fn: NetworkFn,
    params: PyTree,
    batches: Sequence[jax.Array],
    *,
    prunable: Prunable = prunable,
) -> PyTree:
    r"""Path exclusion: :math:`z_i = w_i^2 \, |\partial R / \partial w_i^2|`, :math:`R = \sum z^1 z^2`.

    The trace of a ReLU network's tangent kernel is bounded by a sum over paths from input to output, of
    what the paths' gates let through of the data (:math:`z^1`) times the squared weights along them
    (:math:`z^2`). Three passes: the network itself says which gates are open, pre-activation > 0;
    :math:`z^1` is the network with every weight 1 (pruned ones 0) and these gates in place of the
    activations, of the squared inputs; :math:`z^2` the network with every weight squared and no
    activations, of an input of ones. R sums their products over examples and outputs; z^1 counts as a
    constant. Without biases each layer's scores add up to R.

    Pass it to ``iterative_masks``, as SynFlow: ``rounds=100``.

    Args:
        network_fn: ``network_fn(params, inputs, activation)`` gives the outputs and calls
            ``activation(x)`` for every ReLU of the network, in inference mode, the same number of times
            and in the same order at each call; not inside a scan, a loop, ``jax.jit`` or
            ``jax.checkpoint``, which the gates would have to leave.
        params: Any pytree of arrays. Floats that are not prunable become 1 in :math:`z^1` and are
            squared in :math:`z^2`, as biases are in the released code.
        batches: A list of input arrays, without labels. What counts is the sum over all examples.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params (float32 where that has 8 bits), at least 0.

    Raises:
        ValueError: If there are no batches, the network calls the activation another number of times in
            another pass, or inside a transformation, no leaf is prunable, a score is not finite, or all
            are 0 though nothing is pruned (the last two when nothing is traced).

    Source: Iurada et al. 2024 (arXiv 2406.01820), equations 9 to 11. Gradients are summed over batches
    before the absolute value, as in the newest released code (an earlier one squares those of each
    batch). That code leaves a classifier called ``fc`` and batch normalisation as they are, and runs
    the latter in training mode; here all floats are treated alike.

    >>> network = lambda params, x, act: act(x @ params["a"]) @ params["b"]
    >>> params = {"a": jnp.array([[2.0, -1.0]]), "b": jnp.array([[3.0], [1.0]])}
    >>> path_exclusion_scores(network, params, [jnp.array([[1.0]])])
    {'a': Array([[36.,  1.]], dtype=float32), 'b': Array([[36.],
           [ 1.]], dtype=float32)}
    """
    check_batches(batches)
    at, _ = split_prunable(params, prunable)
    kept = jax.tree.map(lambda leaf: (leaf != 0).astype(leaf.dtype), at)
    ones = _floats(lambda leaf, one: jnp.ones_like(leaf) if one is None else one, params, kept)

    def squared(squares: PyTree) -> PyTree:
        return _floats(lambda leaf, sq: jnp.square(leaf) if sq is None else sq, params, squares)

    squares = jax.tree.map(jnp.square, at)
    total = None
    for inputs in batches:
        through = _open_gates(network_fn, params, ones, inputs)

        def paths(squares: PyTree, x: jax.Array = inputs, through: jax.Array = through) -> jax.Array:
            flow = network_fn(squared(squares), jnp.ones_like(x), lambda x: x)
            return jnp.sum(widened(through) * widened(flow))

        term = jax.tree.map(widened, jax.grad(paths)(squares))
        total = term if total is None else jax.tree.map(jnp.add, total, term)

    def score(weight: jax.Array, derivative: jax.Array) -> jax.Array:
        product = jnp.abs(widened(derivative)) * jnp.square(widened(weight))
        return jnp.where(weight == 0, 0, product).astype(score_dtype(weight.dtype))

    return check_scores(jax.tree.map(score, at, total), at, "the sum over paths")


def _open_gates(network_fn: NetworkFn, params: PyTree, ones: PyTree, inputs: jax.Array) -> jax.Array:
    """z^1: what the gates of the network, open on these inputs, let through of their squares."""
    gates: list[jax.Array] = []

    def record(x: jax.Array) -> jax.Array:
        gates.append((x > 0).astype(x.dtype))
        return jax.nn.relu(x)

    network_fn(params, inputs, record)
    left = iter(gates)
    calls = []

    def replay(x: jax.Array) -> jax.Array:
        calls.append(x.shape)
        gate = next(left, None)
        return x if gate is None else x * gate

    try:
        through = network_fn(ones, jnp.square(inputs), replay)
    except jax.errors.UnexpectedTracerError as error:
        raise ValueError(
            "expected network_fn to call activation(x) in plain code, got calls inside jax.jit, "
            "jax.checkpoint, a scan or a loop: pass the function without it, and jit the scores instead"
        ) from error
    if len(calls) != len(gates):
        raise ValueError(
            f"expected network_fn to call activation(x) as often in every pass, got {len(gates)} calls "
            f"and then {len(calls)}"
        )
    return jax.lax.stop_gradient(through)


def _floats(function: Callable[[jax.Array, Any], jax.Array], params: PyTree, weights: PyTree) -> PyTree:
    """A function of each float leaf and what stands for it among the weights; other leaves stay."""

    def of(weight: Any, leaf: Any) -> Any:
        return function(leaf, weight) if is_float(leaf) else leaf

    return jax.tree.map(of, weights, params, is_leaf=is_none)
