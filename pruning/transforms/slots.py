"""An optimizer's slots: what its state keeps for each weight, such as momentum and Adam's moments.

They are found by their place: the path of a slot ends with that of its param, and both have one shape.
Where it ends with the paths of several, as that of Adam's ``mu`` does in a network with a module ``mu``,
the params begin where nothing but params lies below. That holds for every optax optimizer that keeps a
number for each weight, whatever wraps it. An optimizer that keeps something else (a row's sum, all params
in one array) is refused by the name of its state.
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
    for (path, leaf), at in zip(
        jax.tree_util.tree_leaves_with_path(state), _params_at(state, known), strict=True
    ):
        if not is_float(leaf) or leaf.size <= 1:  # A count, a rate, a key, a mask, a placeholder.
            continue
        found = at or _param_above(path, known)
        is_flat = found is None and leaf.size == total
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
    known, to_zero = _params(chosen, params), jax.tree.leaves(chosen)

    def zeroed(leaf: Any, found: _Param | None) -> Any:
        if not is_float(leaf) or found is None or found.place is None or jnp.shape(leaf) != found.shape:
            return leaf
        return jnp.where(to_zero[found.place], jnp.zeros_like(leaf), leaf)

    leaves, structure = jax.tree.flatten(state)
    return structure.unflatten(map(zeroed, leaves, _params_at(state, known)))


def _params(masks: PyTree, params: PyTree) -> dict[Path, _Param]:
    """All params by the words of their paths."""
    found, place = {}, 0
    of_leaf = jax.tree.leaves(masks, is_leaf=is_none)
    leaves = jax.tree_util.tree_leaves_with_path(without_hidden(params), is_leaf=is_none)
    for (path, leaf), mask in zip(leaves, of_leaf, strict=True):
        found[_words(path)] = _Param(getattr(leaf, "shape", ()), None if mask is None else place)
        place += mask is not None
    return found


def _params_at(state: Any, known: dict[Path, _Param]) -> list[_Param | None]:
    """For each leaf of a state the param whose path its own ends with, if any.

    Of several that below whose beginning there are no other leaves than params', then the longest.
    """
    paths = [_words(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    mixed = {path[: len(path) - len(end)] for path in paths for end in _ends(path) if end not in known}
    found = []
    for path in paths:
        ends = [end for end in _ends(path) if end in known]
        pure = [end for end in ends if path[: len(path) - len(end)] not in mixed]
        found.append(known[(pure or ends)[0]] if ends else None)
    return found


def _param_above(path: Any, known: dict[Path, _Param]) -> _Param | None:
    """The param in whose place a state has a list or a dict, in which the path goes on."""
    while path and not isinstance(path[-1], jax.tree_util.GetAttrKey):
        path = path[:-1]
        ends = [end for end in _ends(_words(path)) if end in known]
        if path and ends:
            return known[ends[0]]
    return None


def _ends(path: Path) -> list[Path]:
    """What a path ends with, the longest first."""
    return [path[start:] for start in range(len(path) + 1)]


def _words(path: Any) -> Path:
    """A path without the boxes at its end, whatever kinds its keys have."""
    while len(path) > 1 and getattr(path[-1], "name", None) == "value":
        path = path[:-1]
    words = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in path)
    return tuple(str(word) for word in words)
