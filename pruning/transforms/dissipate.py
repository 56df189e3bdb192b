"""Dissipating gradients: weights that stay near their initial values are zeroed, while training.

Axes of the design: what ends it (a band around the initial value, or a schedule of sparsities) and,
for the band, when it is looked at:

- ``dissipate``: inside the band at a check.
- ``dissipate_settled``: inside the band at a check and never outside it after any step before.
- ``dissipate_to``: no band; at each check the least displaced go, up to a given sparsity: single
  weights, or whole units of a structure.

All are the last member of an optax chain: they judge the weights after that step's update and hold
what they removed at exactly zero. Steps count from 1.

Facts to know before use. With Adam every weight first moves by about the learning rate a step,
whatever its gradient, so a band relative to the initial weight prunes mostly *large* initial
weights. With SGD, weights that get no gradient (those of MNIST's border pixels) never move and
always go. Weight decay moves every weight by shrinkage, so the same net behaves differently with
it.

Between checks a step pays for holding the masks alone, under ``vmap`` over members too.

Source: Haroon 2022, "What to Prune and What Not to Prune at Initialization" (arXiv 2209.02201).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pruning.masks.counting import check_rising, check_steps, pruned_count
from pruning.masks.iterative import Select
from pruning.masks.reading import as_bool
from pruning.masks.selection import keep_highest
from pruning.masks.tree import count_prunable, map_masks
from pruning.scores.movement import relative_displacement
from pruning.transforms.conditions import compute_where
from pruning.transforms.states import first_masks, is_placeholder, without_hidden
from pruning.transforms.structured_dissipation import least_displaced_removed
from pruning.transforms.updates import after_update, require_params, zero_pruned
from pruning.trees.layout import Layout, flax_layout, map_layers
from pruning.trees.leaves import Prunable, PyTree, Scalar, is_traced
from pruning.trees.placement import flat_places, zero_count
from pruning.trees.precision import at_least_float32, check_precise


class DissipateState(NamedTuple):
    """State of dissipating gradients.

    Attributes:
        count: Steps seen, an int32 scalar.
        initial: The prunable weights at the start; the lowest number of their dtype where a weight has
            left its band for good (``dissipate_settled``).
        masks: What is kept.
    """

    count: jax.Array
    initial: PyTree
    masks: PyTree


def dissipate(
    fraction: Scalar,
    *,
    check_every: int,
    stop_after: int,
    masks: PyTree = None,
    prunable: Prunable | None = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Zeroes for good the weights that a check finds within a fraction of their initial value.

    At steps ``check_every``, ``2 * check_every``, ... up to ``stop_after``, after the step's update,
    a kept weight is removed if

    .. math:: |w_t - w_0| \le \textit{fraction} \cdot |w_0|.

    A layer is never emptied: where all would go, the one of the largest :math:`|w_t - w_0| / |w_0|`
    survives. Where the weight was between the checks plays no part; ``dissipate_settled`` asks that
    too. State: one copy of the prunable weights and a byte a weight.

    Args:
        fraction: Half-width of the band, as a fraction of the initial weight, >= 0; may be traced.
        check_every: Steps between checks, >= 1. The paper's check is at the end of an epoch.
        stop_after: Last step that may be a check; afterwards the masks are only held.
        masks: Where to begin, a K-starts winner's masks say; None for the dense network. The initial
            weights are those that ``init`` is given: to go on with a winner's trained params and
            measure from its true start, call ``init`` with ``apply_masks(initial_params, masks)``.
        prunable: ``prunable(path, leaf)``; None for ``pruning.prunable``. (A function as default
            would be taken for a schedule by ``optax.inject_hyperparams``.)
        layout: ``layout(path, leaf)`` says which axes are layers, none of which is emptied; None for
            ``pruning.flax_layout``.

    Returns:
        A transformation for the end of a chain. It needs ``params`` in ``update``; read the masks
        with ``pruning.get_masks``.

    Raises:
        ValueError: If fraction < 0 or NaN, check_every < 1 or stop_after < 0; from ``init`` if
            nothing is prunable or the masks do not fit; from ``update`` without params.

    Source: Haroon 2022 (arXiv 2209.02201): "within a fraction of their initial value during the
    first couple of epochs", read as: at the check.

    >>> params = {"w": jnp.array([[1.0, 1.0]])}
    >>> tx = optax.chain(optax.sgd(1.0), dissipate(0.1, check_every=1, stop_after=1))
    >>> updates, state = tx.update({"w": jnp.array([[0.5, 0.01]])}, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["w"]
    Array([[0.5, 0. ]], dtype=float32)
    """
    check_steps(check_every=(check_every, 1), stop_after=(stop_after, 0))
    prune = _prune_inside(_band(fraction), layout)
    return _transformation("dissipate", None, prune, check_every, stop_after, masks, prunable)


def dissipate_settled(
    fraction: Scalar,
    *,
    check_every: int,
    stop_after: int,
    masks: PyTree = None,
    prunable: Prunable | None = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""As ``dissipate``, for weights that have never left the band: the stricter reading.

    A weight is removed at a check at step t if :math:`|w_\tau - w_0| \le \textit{fraction} \cdot
    |w_0|` for every :math:`\tau \le t`. Each step up to ``stop_after`` pays one pass over the
    weights to see who leaves; ``dissipate`` pays at checks only. State: the same size. (A weight that
    begins at the lowest number of its dtype counts as one that has left.)

    Args:
        fraction: Half-width of the band, as a fraction of the initial weight, >= 0; may be traced.
        check_every: Steps between checks, >= 1.
        stop_after: Last step that may be a check.
        masks: Where to begin; None for the dense network.
        prunable: ``prunable(path, leaf)``; None for ``pruning.prunable``.
        layout: ``layout(path, leaf)`` says which axes are layers, none of which is emptied; None for
            ``pruning.flax_layout``.

    Returns:
        A transformation for the end of a chain, as ``dissipate``.

    Raises:
        ValueError: As ``dissipate``.

    Source: Haroon 2022 (arXiv 2209.02201): "remain within a fraction of their initial value during
    the first couple of epochs".
    """
    check_steps(check_every=(check_every, 1), stop_after=(stop_after, 0))
    in_band = _band(fraction)

    def inside(weight: Any, initial: Any) -> Any:
        return in_band(weight, initial) & (initial != _left(initial))

    def track(weight: Any, initial: Any) -> Any:
        # A weight that left needs its initial value no more.
        return jnp.where(inside(weight, initial), initial, _left(initial))

    prune = _prune_inside(inside, layout)
    return _transformation("dissipate_settled", track, prune, check_every, stop_after, masks, prunable)


def dissipate_to(
    sparsities: Sequence[float] | np.ndarray | jax.Array,
    *,
    check_every: int,
    select: Select | None = None,
    masks: PyTree = None,
    prunable: Prunable | None = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Dissipating gradients at given sparsities: at each check the least displaced weights go.

    At step ``i * check_every`` the weights of the lowest :math:`|w_t - w_0| / |w_0|` over all layers
    are removed until the sparsity is exactly ``sparsities[i - 1]``, ties kept by the lower index.
    The most displaced weight of each layer is spared as long as the sparsity allows. This is what
    makes the method comparable with others at equal sparsity; a threshold is implied, not given.

    A ``select`` keeps structure, as that of ``iterative_masks`` does: at each check it is given the
    displacements as scores and ``sparsities[i - 1]``, a *traced* scalar, and what it does not keep is
    removed for good; no weight of a layer is spared besides. Pruned weights score just below 0, so that
    the sum of a unit or a block is what is left in it. Counts are exact in the units of the structure::

        dissipate_to(sparsities, check_every=100, select=pruning.constant_fan_in_masks)
        dissipate_to(sparsities, check_every=100, select=partial(pruning.block_masks, block=(4, 4)))

    N of every M at one sparsity is ``lambda scores, _: pruning.n_m_masks(scores, n, m)``, which the first
    check decides.

    Args:
        sparsities: Sparsity after each check, non-decreasing, in [0, 1), shape (checks,); may be
            traced. ``pruning.exponential_sparsities`` makes one.
        check_every: Steps between checks, >= 1.
        select: ``select(scores, sparsity) -> masks``, the highest are kept: ``channel_masks`` and other
            selections; None for the ranking of all weights. One that keeps nothing, as ``global_masks``
            does where no weight has moved, removes nothing at that check. (Under
            ``optax.inject_hyperparams`` it needs ``static_args=("select",)``.)
        masks: Where to begin; its removed weights count. None for the dense network.
        prunable: ``prunable(path, leaf)``; None for ``pruning.prunable``.
        layout: ``layout(path, leaf)`` says which axes are layers, none of which is emptied; None for
            ``pruning.flax_layout``. A ``select`` has its own.

    Returns:
        A transformation for the end of a chain, as ``dissipate``.

    Raises:
        ValueError: If the sparsities are empty, out of range or decreasing, check_every < 1, or a layout
            is given beside a ``select``; from ``init`` and ``update`` as ``dissipate``, and from
            ``update`` if what is selected does not fit.

    Source: ours, from Haroon 2022 (arXiv 2209.02201); nearest to the "movement" criterion of Zhou et
    al. 2019 (arXiv 1905.01067), which is absolute, per layer and applied once, after training.
    """
    check_steps(check_every=(check_every, 1))
    check_precise(sparsities=sparsities)
    check_rising(sparsities)
    checks = len(sparsities)
    last = checks * check_every
    check_steps(**{"len(sparsities) * check_every": (last, 1)})
    if select is not None and layout is not None:
        raise ValueError(
            "expected no layout beside select, which selects by its own: give it to the selection, as in "
            "select=functools.partial(pruning.channel_masks, layout=layout)"
        )

    def prune(state: DissipateState, weights: PyTree) -> PyTree:
        check = state.count // check_every - 1
        if select is not None:
            sparsity = jnp.stack([jnp.asarray(s) for s in sparsities])[check]
            return least_displaced_removed(select, sparsity, state.masks, weights, state.initial)
        size = count_prunable(state.masks)
        counts = jnp.stack([jnp.asarray(pruned_count(s, size)) for s in sparsities])
        chosen = layout or flax_layout
        scores = map_layers(_spare_most_displaced, chosen, state.masks, weights, state.initial)
        return keep_highest(scores, counts[check], masks=state.masks)

    return _transformation("dissipate_to", None, prune, check_every, last, masks, prunable)


def _band(fraction: Any) -> Callable[[Any, Any], Any]:
    """``inside(weight, initial)``: which weights of a leaf lie in the band."""
    try:
        valid = is_traced(fraction) or float(fraction) >= 0
    except (TypeError, ValueError):
        valid = False
    if not valid or isinstance(fraction, str):
        raise ValueError(f"expected fraction >= 0 (of the initial weight), got {fraction!r}")
    check_precise(fraction=fraction)

    def inside(weight: Any, initial: Any) -> Any:
        dtype = at_least_float32(weight.dtype)
        weight, initial = weight.astype(dtype), initial.astype(dtype)
        return jnp.abs(weight - initial) <= jnp.asarray(fraction, dtype) * jnp.abs(initial)

    return inside


def _left(initial: Any) -> Any:
    """What takes the place of the initial value of a weight that has left its band for good.

    A finite number: it raises no alarm (``jax_debug_nans``, ``jax_debug_infs``) and a wrapper that
    multiplies what it does not want by zero gets zero.
    """
    return jnp.finfo(initial.dtype).min.astype(initial.dtype)


def _prune_inside(
    inside: Callable[[Any, Any], Any], layout: Layout | None
) -> Callable[[DissipateState, PyTree], PyTree]:
    def prune_layer(mask: Any, weight: Any, initial: Any) -> Any:
        kept = mask & ~inside(weight, initial)
        return jnp.where(jnp.any(kept), kept, _most_displaced(mask, weight, initial))

    chosen = layout or flax_layout
    return lambda state, weights: map_layers(prune_layer, chosen, state.masks, weights, state.initial)


def _transformation(
    name: str,
    track: Callable[[Any, Any], Any] | None,
    prune: Callable[[DissipateState, PyTree], PyTree],
    check_every: Any,
    stop_after: Any,
    masks: PyTree,
    prunable: Prunable | None,
) -> optax.GradientTransformationExtraArgs:
    """What all forms share: copy the start, look after each update, hold what is removed.

    ``track(weight, initial)`` renews a leaf of the initial weights after every step of the window;
    ``prune(state, weights)`` returns the masks after a check.
    """

    def init_fn(params: PyTree) -> DissipateState:
        count = zero_count(params)
        if is_placeholder(params):
            return DissipateState(count, params, params)
        start = first_masks(masks, params, prunable)
        # A copy: the caller may donate the params' buffers to the step.
        initial = map_masks(lambda _, p: jnp.array(p), start, without_hidden(params))
        return DissipateState(count, initial, start)

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        require_params(params, name)
        count = optax.safe_increment(state.count)
        state = state._replace(count=count, masks=as_bool(state.masks))

        def weights() -> PyTree:
            return after_update(params, updates, state.masks)

        if track is not None:
            renew = track
            state = state._replace(
                initial=compute_where(
                    count <= stop_after,
                    lambda: jax.tree.map(renew, weights(), state.initial),
                    state.initial,
                )
            )
        is_check = (count <= stop_after) & (count % check_every == 0)
        kept = compute_where(is_check, lambda: prune(state, weights()), state.masks)
        return zero_pruned(updates, params, kept), state._replace(masks=kept)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _displacement(mask: Any, weight: Any, initial: Any) -> Any:
    """Relative displacement of kept weights; -1 where pruned."""
    return jnp.where(mask, relative_displacement(weight, initial), -1)


def _most_displaced(mask: Any, weight: Any, initial: Any) -> Any:
    """A mask of the one kept weight that has moved the most; nothing if none is kept."""
    displacement = _displacement(mask, weight, initial)
    # What argmax does, NaN first; it would make one axis of an array that is divided along several.
    most = (displacement == jnp.max(displacement)) | jnp.isnan(displacement)
    index = flat_places(mask)
    return mask & (index == jnp.min(jnp.where(most, index, mask.size)))


def _spare_most_displaced(mask: Any, weight: Any, initial: Any) -> Any:
    displacement = _displacement(mask, weight, initial)
    # A weight that left 0 is displaced infinitely; it must not tie with those that are spared.
    finite = jnp.minimum(displacement, jnp.finfo(displacement.dtype).max)
    return jnp.where(_most_displaced(mask, weight, initial), jnp.inf, finite)
