r"""Continuous Sparsification: a soft mask for every weight, hardened by a rising temperature.

Each prunable weight w has a gate s, trained beside it. The network computes with
:math:`w \cdot m`, where :math:`m = \sigma(\beta s) / \sigma(s_0)` is the soft mask, the loss has the
penalty :math:`\lambda \sum m`, and the temperature :math:`\beta` rises from 1 to a final value, so that
the soft masks tend to steps. At initialization all gates are :math:`s_0` and the network is the dense
one. The ticket is :math:`s > 0`. Everything is deterministic; :math:`s_0` and
:math:`\lambda` steer how sparse the ticket is, but do not set it.

A gates tree is shaped like masks, with float leaves. One round, for a loss of params and batch::

    def objective(both, temperature, batch):
        soft = soft_masks(both.gates, temperature, initial=s0)
        penalty = gate_penalty(both.gates, temperature, initial=s0)
        return loss(apply_soft_masks(both.params, soft), batch) + 1e-8 * penalty

with ``both = SoftMasked(params, initial_gates(params, s0))`` and an optimizer from
``soft_masked_optimizer``. Further rounds begin at ``next_round``. Several values of :math:`s_0` side by
side, one network each under ``vmap``, are the parallel search: each gives a ticket of another sparsity.

Source: Savarese, Silva and Maire 2020, "Winning the Lottery with Continuous Sparsification"
(arXiv 1912.04427).
"""

import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_masks
from pruning.trees.counts import may_be
from pruning.trees.leaves import (
    Path,
    Prunable,
    PyTree,
    Scalar,
    is_none,
    is_traced,
    prunable,
    prunable_params,
)
from pruning.trees.placement import copied, placed_as
from pruning.trees.precision import at_least_float32, sum_of

LOWEST_INITIAL = -80.0
# Below this, gates that do not move close to less than 1 / 5000 while the temperature rises to 10.
LOWEST_USUAL_INITIAL = -1.0


def initial_gates(params: PyTree, initial: Scalar, *, prunable: Prunable = prunable) -> PyTree:
    r"""Gates that are all :math:`s_0`.

    Args:
        params: Any pytree of arrays.
        initial: :math:`s_0`, a finite number, usually within 0.3 of 0: the higher, the more weights
            the ticket keeps. May be traced.
        prunable: ``prunable(path, leaf)`` says which weights have a gate.

    Returns:
        A tree like masks; leaves have the weights' shapes and dtypes.

    Raises:
        ValueError: If ``initial`` is not finite, or below -80, or nothing is prunable, or a prunable leaf
            is not floating point.

    Warns:
        UserWarning: Below -1: the network is dead as soon as the temperature rises.

    >>> initial_gates({"kernel": jnp.ones((1, 2)), "bias": jnp.ones(2)}, 0.5)
    {'bias': None, 'kernel': Array([[0.5, 0.5]], dtype=float32)}
    """
    _check_initial(initial)
    if not is_traced(initial) and float(initial) < LOWEST_USUAL_INITIAL:
        closed = closing_factor(float(initial), 10.0)
        warnings.warn(
            f"gates that start at {float(initial):g} close before they can rise: when the temperature is "
            f"10 the weights of every layer have shrunk by a factor of {closed:.0e}, so no gradient is "
            "left; begin nearer to 0",
            stacklevel=2,
        )

    def gate(path: Path, leaf: Any) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"expected float weights at {where}, got {leaf.dtype}, in which a gate would be cut to "
                "whole numbers: leave it out by prunable(path, leaf)"
            )
        return placed_as(jnp.full_like(leaf, initial), leaf)

    return jax.tree_util.tree_map_with_path(gate, prunable_params(params, prunable))


def soft_masks(gates: PyTree, temperature: Scalar, *, initial: Scalar = 0.0) -> PyTree:
    r"""The factors :math:`\sigma(\beta s) / \sigma(s_0)` of the weights.

    Args:
        gates: A tree of gates s.
        temperature: :math:`\beta` > 0; may be traced.
        initial: :math:`s_0`, for which the factor is 1 at temperature 1.

    Returns:
        A tree like the gates.

    Raises:
        ValueError: If the temperature is not above 0 or ``initial`` not finite, or below -80.

    Source: Savarese et al. 2020 (arXiv 1912.04427), equation 6; the scale as in their code.

    >>> soft_masks({"w": jnp.array([[0.0, 1.0, -1.0]])}, 200.0)
    {'w': Array([[1., 2., 0.]], dtype=float32)}
    """
    factors = _factors(gates, temperature, initial)
    return jax.tree.map(lambda factor, gate: factor.astype(gate.dtype), factors, gates)


def apply_soft_masks(params: PyTree, soft: PyTree) -> PyTree:
    """Multiplies the prunable weights by their factors.

    Args:
        params: The weights.
        soft: From ``soft_masks``.

    Returns:
        The params with which the network computes; as ``apply_masks`` does, without any array of
        ``params``.

    Raises:
        ValueError: If the trees or their shapes do not match.

    >>> apply_soft_masks({"w": jnp.array([[3.0, 3.0]])}, {"w": jnp.array([[0.5, 0.0]])})
    {'w': Array([[1.5, 0. ]], dtype=float32)}
    """
    soft = fit_masks(soft, params)
    try:
        check_masks(jax.eval_shape(lambda: jax.tree.map(lambda factor: factor > 0, soft)), params)
    except ValueError as error:
        raise ValueError(
            f"expected soft masks of gates from pruning.initial_gates of these params: {error}"
        ) from error
    return jax.tree.map(
        lambda factor, leaf: copied(leaf) if factor is None else leaf * factor.astype(leaf.dtype),
        soft,
        params,
        is_leaf=is_none,
    )


def gate_penalty(gates: PyTree, temperature: Scalar, *, initial: Scalar = 0.0) -> jax.Array:
    r"""The sum of all soft masks, :math:`\sum \sigma(\beta s) / \sigma(s_0)`: a smooth number of weights.

    Args:
        gates: A tree of gates s.
        temperature: :math:`\beta` > 0.
        initial: :math:`s_0`.

    Returns:
        A scalar, float32 at least; times :math:`\lambda` it belongs to the loss.

    Raises:
        ValueError: As ``soft_masks``.

    Source: Savarese et al. 2020 (arXiv 1912.04427), equation 6.

    >>> gate_penalty({"w": jnp.zeros((2, 3))}, 1.0)
    Array(6., dtype=float32)
    """
    sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(_factors(gates, temperature, initial))]
    if not sums:
        raise ValueError("expected a tree with gates, got none")
    return sum_of(sums)


def ticket_masks(gates: PyTree) -> PyTree:
    r"""The ticket: a weight is kept where its gate is above 0.

    The soft masks of what is kept tend to :math:`1 / \sigma(s_0)`, not 1 (2 at :math:`s_0 = 0`). To
    compute on with the weights of the round's end, multiply by that; the authors' code does so for
    rewound tickets too.

    Args:
        gates: A tree of gates.

    Returns:
        Masks. Nothing keeps a layer, or the network, from being empty: see ``collapsed_layers``.

    Raises:
        ValueError: If a gate is NaN (when nothing is traced; a traced NaN removes its weight).

    >>> ticket_masks({"w": jnp.array([[0.1, 0.0, -0.1]])})
    {'w': Array([[ True, False, False]], dtype=bool)}
    """
    for path, gate in jax.tree_util.tree_leaves_with_path(gates):
        if not is_traced(gate) and bool(np.any(np.isnan(np.asarray(gate, np.float64)))):
            raise ValueError(f"expected gates that are numbers, got NaN at {jax.tree_util.keystr(path)}")
    return jax.tree.map(lambda gate: gate > 0, gates)


def next_round(gates: PyTree, temperature: Scalar, *, initial: Scalar = 0.0) -> PyTree:
    r"""The gates with which the next round begins, at temperature 1 again: :math:`\min(\beta s, s_0)`.

    What this round has closed stays closed, :math:`\sigma(\beta s)` being as small as before; what it
    kept may change anew. The weights go on as they are.

    Args:
        gates: At the end of a round.
        temperature: The :math:`\beta` that the round ended with.
        initial: :math:`s_0`.

    Returns:
        A tree of gates.

    Raises:
        ValueError: If the temperature is not above 0 or ``initial`` not finite, or below -80.

    Source: Savarese et al. 2020 (arXiv 1912.04427), algorithm 2. Their released code resets the
    temperature first: ``next_round_as_released``.

    >>> next_round({"w": jnp.array([[0.5, -0.5]])}, 200.0)
    {'w': Array([[   0., -100.]], dtype=float32)}
    """
    check_temperature(temperature)
    _check_initial(initial)

    def reset(gate: jax.Array) -> jax.Array:
        dtype = at_least_float32(gate.dtype)
        hardened = jnp.asarray(temperature, dtype) * gate.astype(dtype)
        # Many rounds deep a closed gate would become -inf; it is as closed at the lowest number.
        lowest = jnp.finfo(gate.dtype).min.astype(dtype)
        return jnp.clip(hardened, lowest, jnp.asarray(initial, dtype)).astype(gate.dtype)

    return jax.tree.map(reset, gates)


def next_round_as_released(gates: PyTree, *, initial: Scalar = 0.0) -> PyTree:
    r"""As ``next_round``, by the authors' released code: :math:`\min(s, s_0)`.

    At temperature 1 a gate a little below 0 is nearly as open as one at 0, so weights that the round
    pruned weakly come back. For comparisons with results of that code.

    Args:
        gates: At the end of a round.
        initial: :math:`s_0`.

    Returns:
        A tree of gates.

    Raises:
        ValueError: If ``initial`` is not finite, or below -80.

    Source: the code released with Savarese et al. 2020 (arXiv 1912.04427).

    >>> next_round_as_released({"w": jnp.array([[0.5, -0.5]])})
    {'w': Array([[ 0. , -0.5]], dtype=float32)}
    """
    return next_round(gates, 1.0, initial=initial)


def closing_factor(initial: float, temperature: float) -> float:
    r"""By which factor the soft mask of a gate that does not move has changed.

    Args:
        initial: :math:`s_0`.
        temperature: :math:`\beta`, after a rise from 1.

    Returns:
        :math:`\sigma(\beta s_0) / \sigma(s_0)`: below 1 where gates begin below 0.
    """
    return math.exp(np.logaddexp(0, -initial) - np.logaddexp(0, -temperature * initial))


def _factors(gates: PyTree, temperature: Any, initial: Any) -> PyTree:
    """The soft masks in float32 at least: a product with the temperature overflows float16.

    The sigmoid itself neither overflows nor has NaN gradients.
    """
    check_temperature(temperature)
    _check_initial(initial)

    def soften(gate: jax.Array) -> jax.Array:
        dtype = at_least_float32(gate.dtype)
        opened = jax.nn.sigmoid(jnp.asarray(temperature, dtype) * gate.astype(dtype))
        return opened / jax.nn.sigmoid(jnp.asarray(initial, dtype))

    return jax.tree.map(soften, gates)


def check_temperature(temperature: Any) -> None:
    """Checks a temperature; a traced one cannot be read and passes.

    Args:
        temperature: Of soft masks.

    Raises:
        ValueError: If it is not a finite number above 0.
    """
    if not may_be(temperature, lambda number: 0 < number < math.inf):
        raise ValueError(f"expected a finite temperature > 0, got {temperature!r}")


def _check_initial(initial: Any) -> None:
    if not may_be(initial, lambda number: LOWEST_INITIAL <= number < math.inf):
        raise ValueError(
            f"expected a finite initial value of the gates of at least {LOWEST_INITIAL:g} (masks are "
            f"divided by its sigmoid, which underflows below), got {initial!r}"
        )
