"""The masks in an optimizer's state: how they are found there, and made to fit the params again."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.trees.differences import first_difference
from pruning.trees.leaves import PyTree, is_none, is_traced


def get_masks(opt_state: Any) -> PyTree:
    """Finds the masks in an optimizer's state, however deep wrappers and chains have nested them.

    Where several transformations of one chain hold masks (before and after clipping, say), the last has
    the last word and its masks are returned; they must prune all that the earlier ones prune. Where
    each holds another part of the params (``optax.partition``), the masks of all are put together.

    Args:
        opt_state: The state of a chain with ``hold_masks``, ``dissipate`` or any transformation
            whose NamedTuple state has a field ``masks`` of bool arrays. That of an ``nnx.Optimizer``
            too.

    Returns:
        The masks, bool. Those of an ``nnx.Optimizer`` are bare arrays in the place of the
        ``nnx.Param``s: ``hold_masks`` and ``apply_masks`` take them for either form of the params.

    Raises:
        ValueError: If there are none, the state has been restored without its types, or several
            transformations hold masks that contradict each other (which cannot be seen where they are
            traced).

    >>> import optax, pruning
    >>> tx = optax.chain(optax.sgd(0.1), pruning.hold_masks({"w": jnp.array([[True]])}))
    >>> get_masks(tx.init({"w": jnp.ones((1, 1))}))
    {'w': Array([[ True]], dtype=bool)}
    """
    found = [state for state in jax.tree.leaves(opt_state, is_leaf=holds_masks) if holds_masks(state)]
    if not found:
        raise ValueError(_no_masks(opt_state))
    names = ", ".join(type(state).__name__ for state in found)
    masks = None
    for state in found:
        masks = _joined(masks, as_bool(without_boxes(state.masks)), (), names)
    return masks


def set_masks(opt_state: Any, masks: PyTree) -> Any:
    """Gives an optimizer's state other masks, for instance to prune a network in the middle of training.

    All else in the state stays: momentum, moments, counts. (What dynamic sparse training has explored,
    and what ablations have left over, begins anew with these masks.) Where several transformations hold
    masks, each gets those of its part of the params. The params are the caller's to mask
    (``apply_masks``).

    Args:
        opt_state: The state of a chain with ``hold_masks``, ``dissipate`` or any transformation
            whose NamedTuple state has a field ``masks`` of bool arrays.
        masks: A tree of masks of the same structure and shapes; may be traced.

    Returns:
        The state; ``get_masks`` returns these masks from it.

    Raises:
        ValueError: If the state holds no masks, has been restored without its types, or the masks do not
            fit those that are there.

    >>> import optax, pruning
    >>> tx = optax.chain(optax.sgd(0.1), pruning.hold_masks({"w": jnp.array([[True, True]])}))
    >>> state = set_masks(tx.init({"w": jnp.ones((1, 2))}), {"w": jnp.array([[True, False]])})
    >>> get_masks(state)
    {'w': Array([[ True, False]], dtype=bool)}
    """
    if not any(map(holds_masks, jax.tree.leaves(opt_state, is_leaf=holds_masks))):
        raise ValueError(_no_masks(opt_state))

    def other(path: Any, there: Any, mask: Any) -> Any:
        if there is None:
            return None
        dtype = getattr(mask, "dtype", type(mask).__name__)
        if np.shape(mask) != jnp.shape(there) or dtype != jnp.bool_:
            where = jax.tree_util.keystr(path)
            got = None if mask is None else f"{dtype}{list(np.shape(mask))}"
            raise ValueError(
                f"expected a mask of shape {list(jnp.shape(there))} at {where}, as in the optimizer's "
                f"state, got {got}"
            )
        # A copy: a step that donates the state would otherwise delete the caller's.
        return jnp.array(mask)

    def with_masks(node: Any) -> Any:
        if not holds_masks(node):
            return node
        fitted = fit_masks(masks, node.masks)
        if difference := first_difference(node.masks, fitted):
            raise ValueError(
                f"expected masks like those of the optimizer's state, got (its own against these) "
                f"{difference}"
            )
        found = jax.tree_util.tree_map_with_path(other, node.masks, fitted, is_leaf=is_none)
        begun = {"explored": lambda: jax.tree.map(jnp.copy, found)}
        begun["spare"] = lambda: jnp.zeros_like(node.spare)
        anew = {name: begin() for name, begin in begun.items() if name in node._fields}
        return node._replace(masks=found, **anew)

    return jax.tree.map(with_masks, opt_state, is_leaf=holds_masks)


def holds_masks(state: Any) -> bool:
    """Whether a node of a state is a transformation's that holds masks.

    It is told from the caller's own params with a field ``masks`` (and moments, sums and updates of
    that structure), whose leaves are floats, and from a word a leaf about them (``optax.zero_nans``),
    whose leaves are scalars.

    Args:
        state: Any node.

    Returns:
        Whether it is a NamedTuple with a field of masks.
    """
    return "masks" in getattr(state, "_fields", ()) and _are_masks(state.masks)


def as_bool(masks: PyTree) -> PyTree:
    """Masks as bool again, after a wrapper that computes with states has made integers of them.

    Args:
        masks: A tree of masks.

    Returns:
        The same tree, of bool arrays.
    """
    return jax.tree.map(lambda mask: mask if mask.dtype == jnp.bool_ else mask != 0, masks)


def without_boxes(tree: PyTree) -> PyTree:
    """Takes out of their boxes the leaves of a state that an ``nnx.Optimizer`` keeps.

    It boxes them by ``nnx.OptVariable`` and ``nnx.OptArray``, whatever the params were boxed by.

    Args:
        tree: A tree of masks.

    Returns:
        The tree with bare leaves; any other as it is.
    """

    def is_box(node: Any) -> bool:
        return any(base.__name__ == "OptState" for base in type(node).__mro__) and not is_none(node)

    def content(node: Any) -> Any:
        return jax.tree.leaves(node, is_leaf=lambda inner: inner is not node)[0]

    return jax.tree.map(lambda node: content(node) if is_box(node) else node, tree, is_leaf=is_box)


def fit_masks(masks: PyTree, params: PyTree) -> PyTree:
    """Gives masks the structure of the params where only boxes around leaves tell them apart.

    Boxes are those of ``nnx.Param`` or of Linen's partitioned params: nodes with one leaf. ``None`` may
    stand for a whole subtree without masks, as ``optax.masked`` leaves it behind.

    Args:
        masks: A tree of masks.
        params: The params that they are meant for.

    Returns:
        Masks with the structure of the params; the same masks where that cannot be had.
    """
    alike = jax.tree.structure(masks, is_leaf=is_none) == jax.tree.structure(params, is_leaf=is_none)
    if masks is None or alike:
        return masks

    def boxed(mask: Any, part: Any) -> Any:
        structure = jax.tree.structure(part, is_leaf=is_none)
        if mask is not None and not is_box(part, structure):
            raise ValueError("a mask for a subtree")
        return structure.unflatten([mask] * structure.num_leaves)

    def bare(_: Any, part: Any) -> Any:
        mask, structure = jax.tree.flatten(part, is_leaf=is_none)
        if not is_box(part, structure):
            raise ValueError("a subtree of masks for a leaf")
        return mask[0]

    def is_box(part: Any, structure: Any) -> bool:
        return structure.num_leaves == 1 and not isinstance(part, dict | list | tuple)

    for fit in (
        lambda: jax.tree.map(boxed, masks, params, is_leaf=is_none),
        lambda: jax.tree.map(bare, params, masks, is_leaf=is_none),
    ):
        try:
            return fit()
        except (ValueError, TypeError):
            continue
    return masks


def plain_path(path: Any) -> str:
    """A leaf's path without the boxes at its end: ``['kernel']`` of ``['kernel'].value``.

    Every attribute ``value`` at the end counts as one: a path alone does not tell a box from a field that
    is called so, and trees with boxes must have the paths of trees without.

    Args:
        path: The key path.

    Returns:
        As ``jax.tree_util.keystr`` writes it.
    """
    while len(path) > 1 and getattr(path[-1], "name", None) == "value":
        path = path[:-1]
    return jax.tree_util.keystr(path)


def _are_masks(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    dtypes = [getattr(leaf, "dtype", None) for leaf in leaves]
    countable = all(d is not None and (d == jnp.bool_ or jnp.issubdtype(d, jnp.integer)) for d in dtypes)
    return countable and any(jnp.ndim(leaf) for leaf in leaves)


def _joined(first: Any, last: Any, path: tuple[Any, ...], names: str) -> Any:
    """The masks of two transformations: the last one's where both have some."""
    if first is None or last is None:
        return last if first is None else first
    children, structure = jax.tree.flatten(first, is_leaf=lambda node: node is not first)
    if jax.tree_util.treedef_is_leaf(structure):
        if jnp.shape(first) != jnp.shape(last) or _revives(first, last):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"expected transformations whose masks agree, got {names}, of which the last keeps "
                f"weights {f'at {where} ' if where else ''}that an earlier one prunes: give the last one "
                "the masks to begin with (dissipate(..., masks=masks), not hold_masks before it), or "
                "read one part of the state at a time, get_masks(opt_state[0])"
            )
        return last
    keys = [key for (key, *_), _ in jax.tree_util.tree_flatten_with_path(first, _is_child_of(first))[0]]
    others = jax.tree.leaves(last, is_leaf=_is_child_of(last))
    if len(others) != len(children):
        raise ValueError(f"expected masks of one structure, got different ones from {names}")
    return structure.unflatten(
        [
            _joined(one, other, (*path, key), names)
            for key, one, other in zip(keys, children, others, strict=True)
        ]
    )


def _is_child_of(parent: Any) -> Any:
    return lambda node: node is not parent


def _revives(first: Any, last: Any) -> bool:
    known = not is_traced(first) and not is_traced(last)
    return known and bool(np.any(np.asarray(last) & ~np.asarray(first)))


def _no_masks(opt_state: Any) -> str:
    def is_restored(node: Any) -> bool:
        return isinstance(node, dict) and "masks" in node and _are_masks(node["masks"])

    if any(map(is_restored, jax.tree.leaves(opt_state, is_leaf=is_restored))):
        return (
            "expected an optimizer state with a transformation that holds masks, got one restored "
            "without its types, where a dict holds the masks: restore it with a target, tx.init(params)"
        )
    return (
        "expected a transformation that holds masks in this optimizer state, got none; add "
        "pruning.hold_masks or pruning.dissipate at the end of the chain"
    )
