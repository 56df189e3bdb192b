"""An optimizer's slots: what its state keeps for each weight, such as momentum and Adam's moments.

They are found by their place: the path of a slot ends with that of its param, and both have one shape.
That holds for every optax optimizer that keeps a number for each weight, whatever wraps it. An optimizer
that keeps something else (a row's sum, all params in one array) is refused by the name of its state.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pruning.transforms.states import without_hidden
from pruning.trees.leaves import PyTree, is_float, is_none

Path = tuple[str, ...]


class _Param(NamedTuple):
    """A param, as its slots are known by.

    Attributes:
        shape: The param's shape.
        place: Where its mask stands among the leaves of the masks; None where it has none.
    """

    shape: tuple[int, ...]
    place: int | None


def check_slots(state: Any, masks: PyTree, params: PyTree, name: str) -> None:
    """Checks that all that an optimizer keeps can be told apart by weight.

    Args:
        state: The optimizer's state.
        masks: A tree of masks.
        params: The params.
        name: What wraps the optimizer, for the error.

    Raises:
        ValueError: If something has a param's place but not its shape, is as long as all params together,
            or gradients are accumulated inside.
    """
    for node in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, optax.MultiStepsState)):
        if isinstance(node, optax.MultiStepsState):
            raise ValueError(
                f"expected an optimizer that does not accumulate gradients inside {name}, which would "
                f"see those of the last batch alone: write optax.MultiSteps({name}(optimizer, ...), k)"
            )
    known = _params(masks, params)
    total = sum(math.prod(param.shape) for param in known.values())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not is_float(leaf) or leaf.size <= 1:  # A count, a rate, a key, a mask, a placeholder.
            continue
        found = _param_at(path, known) or _param_above(path, known)
        is_flat = found is None and leaf.size == total and len(known) > 1
        if is_flat or (found and found.place is not None and jnp.shape(leaf) != found.shape):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"expected an optimizer with a number for each weight inside {name}, got an array of "
                f"shape {jnp.shape(leaf)} at {where} of its state: what it keeps of a weight that "
                "returns could not be put to 0"
            )


def zero_slots(state: Any, chosen: PyTree, params: PyTree) -> Any:
    """Puts to 0 what an optimizer keeps of some weights.

    Args:
        state: The optimizer's state.
        chosen: A tree like masks: True for these weights.
        params: The params.

    Returns:
        The state, of the same structure and dtypes.
    """
    known, leaves = _params(chosen, params), jax.tree.leaves(chosen)

    def zeroed(path: Any, leaf: Any) -> Any:
        found = _param_at(path, known) if is_float(leaf) else None
        if found is None or found.place is None or jnp.shape(leaf) != found.shape:
            return leaf
        return jnp.where(leaves[found.place], jnp.zeros_like(leaf), leaf)

    return jax.tree_util.tree_map_with_path(zeroed, state)


def _params(masks: PyTree, params: PyTree) -> dict[Path, _Param]:
    """All params by the words of their paths."""
    found, place = {}, 0
    of_leaf = jax.tree.leaves(masks, is_leaf=is_none)
    leaves = jax.tree_util.tree_leaves_with_path(without_hidden(params), is_leaf=is_none)
    for (path, leaf), mask in zip(leaves, of_leaf, strict=True):
        found[_words(path)] = _Param(getattr(leaf, "shape", ()), None if mask is None else place)
        place += mask is not None
    return found


def _param_at(path: Any, known: dict[Path, _Param]) -> _Param | None:
    """The param whose path a path ends with, the longest of several."""
    words = _words(path)
    return next((known[words[k:]] for k in range(len(words) + 1) if words[k:] in known), None)


def _param_above(path: Any, known: dict[Path, _Param]) -> _Param | None:
    """The param in whose place a state has a list or a dict, in which the path goes on."""
    while path and not isinstance(path[-1], jax.tree_util.GetAttrKey):
        path = path[:-1]
        if path and (found := _param_at(path, known)):
            return found
    return None


def _words(path: Any) -> Path:
    """A path without the boxes at its end, whatever kinds its keys have."""
    while len(path) > 1 and getattr(path[-1], "name", None) == "value":
        path = path[:-1]
    words = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in path)
    return tuple(str(word) for word in words)
