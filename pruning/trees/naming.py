"""What the names of leaves tell: which are biases, scales, statistics, class tokens, position embeddings.

The shape alone does not: attention's biases have the shape (heads, head_dim), a convolution's bias in
Equinox is (C, 1, 1), position embeddings are (1, length, D), Haiku's running means are (1, C), and a
stack of layers (``nn.scan``, ``nnx.vmap``, a vmapped Equinox module) gives every bias and scale one axis
more. The names are those of Flax Linen and NNX, Equinox, Haiku, Keras and PyTorch.
"""

import re
from collections.abc import Iterable
from typing import Any

_BIAS = re.compile(r"(.*_)?bias(es)?|bias_.*|offset|beta")
_SCALE = re.compile(r"(.*_)?(scale|scales|gain|gamma)|layer_?scale|(weight|kernel)_g|negative_slope")
_CLASS_TOKEN = re.compile(
    r"cls|(cls|class|dist|distillation|mask|register|reg|prefix)_?(token|tokens|emb|embed|embedding)"
)
_POSITION = re.compile(
    r"(.*_)?pos(ition|itional|itions)?_?(emb|embs|embed|embeds|embedding|embeddings|enc|encoding|table|bias)?(_table|_bias)?(_\d+)?"
    r"|wpe|relative_(attention|position)_bias(_table)?|rel_pos_[hw]"
)
_NORMALISATION = re.compile(
    r"(.*_)?((batch|layer|group|instance|rms|l2)?_?norms?(ali[sz]ation)?|ln|bn|gn)(\d+d)?(_\w{1,2}|\d\w?)?"
)
_STATISTIC = re.compile(r"(running|moving)_(mean|var|variance)")
_MOVING_AVERAGE = re.compile(r"(.*_)?(ema|exponential_moving_average)(_\d+)?")
_PRELU = re.compile(r"p_?re_?lu(_\d+)?")
_REPARAMETRIZATION = re.compile(r".*(weight|spectral)_?norm.*")

# Names that say what kind of array it is, so that only the module's name says what it is for.
_PLAIN = frozenset({"weight", "w", "embedding", "embeddings", "table"})


class LeafPath(tuple):
    """A key path that also knows what stands beside the leaf, for predicates and layouts.

    Attributes:
        siblings: The names of all leaves and containers that are in the same container.
        aunts: The same of the container one level further out.
        boxes: How many entries at its end are boxes round the leaf (``nnx.Param``, partitioned params).
    """

    siblings: frozenset[str]
    aunts: frozenset[str]
    boxes: int

    def __new__(
        cls, path: Iterable[Any], siblings: Iterable[str] = (), aunts: Iterable[str] = (), boxes: int = 0
    ) -> "LeafPath":
        """Takes an ordinary key path, the names beside its last two entries, and how many are boxes."""
        self = super().__new__(cls, path)
        self.siblings, self.aunts, self.boxes = frozenset(siblings), frozenset(aunts), boxes
        return self


def leaf_paths(paths: Iterable[tuple[Any, ...]]) -> list[LeafPath]:
    """Adds to each path of a tree what stands beside its leaf.

    Args:
        paths: The key paths of all leaves of a tree.

    Returns:
        The same paths. An attribute ``value`` is a box where no other leaf is in its container.
    """
    paths = [tuple(path) for path in paths]
    children: dict[tuple[Any, ...], set[Any]] = {}
    for path in paths:
        for depth in range(len(path)):
            children.setdefault(path[:depth], set()).add(path[depth])

    def bare_of(path: tuple[Any, ...]) -> tuple[Any, ...]:
        bare = path
        while len(bare) > len(without_boxes(path)) and len(children[bare[:-1]]) == 1:
            bare = bare[:-1]
        return bare

    bare_paths = [bare_of(path) for path in paths]
    of_container: dict[tuple[Any, ...], set[str]] = {}
    for bare in bare_paths:
        for depth in range(len(bare)):
            of_container.setdefault(bare[:depth], set()).add(_word(bare[depth]))

    def beside(bare: tuple[Any, ...], levels: int) -> Iterable[str]:
        return of_container[bare[:-levels]] if len(bare) >= levels else ()

    return [
        LeafPath(path, beside(bare, 1), beside(bare, 2), len(path) - len(bare))
        for path, bare in zip(paths, bare_paths, strict=True)
    ]


def without_boxes(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """A path without the boxes that Flax puts round a leaf (``nnx.Param``, partitioned params).

    Args:
        path: A key path. A ``LeafPath`` also tells a box from an attribute that is called ``value``.

    Returns:
        The path without the attributes ``value`` at its end.
    """
    if isinstance(path, LeafPath):
        return path[: len(path) - path.boxes]
    while len(path) > 1 and getattr(path[-1], "name", None) in ("value", "raw_value"):
        path = path[:-1]
    return path


def words(path: tuple[Any, ...]) -> list[str]:
    """The names along a path, in lower case with underscores; ``"dense/kernel"`` is two names.

    Args:
        path: A key path.

    Returns:
        The names; an index counts as one.
    """
    return [_snake(name) for name in names_along(path)]


def names_along(path: tuple[Any, ...]) -> list[str]:
    """The names along a path as they are written; ``"dense/kernel"`` is two names.

    Args:
        path: A key path.

    Returns:
        The names; an index counts as one.
    """
    return [part for entry in without_boxes(path) for part in _parts(_text(entry))]


def are_names(names: Iterable[Any]) -> bool:
    """Whether all are names, or several in one, as ``"mlp/~/linear_1"``, that may stand along a path."""
    return all(isinstance(name, str) and _parts(name) for name in names)


def is_named(path: tuple[Any, ...], names: Iterable[str]) -> bool:
    """Whether one of some names stands along a path.

    Args:
        path: A key path.
        names: As they are written. ``"dec/blocks"`` is two names that follow each other, in one key or
            in two.

    Returns:
        Whether one does.
    """
    along = names_along(path)
    runs = [_parts(name) for name in names]
    return any(along[at : at + len(run)] == run for run in runs for at in range(len(along)))


def is_auxiliary(path: tuple[Any, ...]) -> bool:
    """Whether a leaf is a bias, scale, running statistic, class token or position embedding by its name.

    Args:
        path: Its key path. A ``LeafPath`` also tells a bias ``b`` from a kernel that is called so: a
            bias stands beside a ``w``.

    Returns:
        Whether it is one of them.
    """
    *parents, name = words(path) or [""]
    if any(p.fullmatch(name) for p in (_BIAS, _SCALE, _STATISTIC, _CLASS_TOKEN, _POSITION)):
        return True
    siblings = getattr(path, "siblings", frozenset())
    if re.fullmatch(r"b_?\d*", name):
        # Beside an `a` as well it is one of two factors, as in LoRA.
        weights = {name.replace("b", other, 1) for other in ("w", "weight", "kernel")}
        kernels = any(sibling in weights or sibling.startswith("w_") for sibling in siblings)
        return kernels and name.replace("b", "a", 1) not in siblings
    if name == "g":  # weight normalisation
        return bool(siblings & {"v", "layer"})
    parent = next((word for word in reversed(parents) if not word.isdigit()), "")
    if "batch_stats" in parents or _MOVING_AVERAGE.fullmatch(parent):
        return True
    if name == "alpha":  # the slopes of Keras's PReLU
        return bool(_PRELU.fullmatch(parent))
    if name not in _PLAIN | {"mean", "var"} or _REPARAMETRIZATION.fullmatch(parent):
        return False
    normalises = name in ("weight", "w", "mean", "var") and _NORMALISATION.fullmatch(parent)
    return bool(normalises or _POSITION.fullmatch(parent))


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[/.]", text) if part not in ("", "~")]


def _text(entry: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _word(entry: Any) -> str:
    return (re.split(r"[/.]", _snake(_text(entry)))[-1]) or ""


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().lstrip("_")
