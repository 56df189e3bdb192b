"""Means over batches: several batches count as one batch of all their examples would."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pruning.scores.binary_scaling import widened
from pruning.trees.leaves import PyTree


def mean_over_batches(derivative: Callable[[Any], PyTree], batches: Sequence[Any]) -> PyTree:
    """The mean over all examples of what is itself a mean over a batch, such as a derivative.

    Args:
        derivative: ``derivative(batch)`` gives a tree of float arrays.
        batches: A list of batches; where there are several, the leaves of each share their leading
            axis, its size n_b.

    Returns:
        The mean of these trees, each weighted by n_b, in their dtypes. It is summed in float32 at least:
        a sum in bfloat16 stands still once it is 256 times as large as what is added.

    Raises:
        ValueError: If this is no sequence of batches (but a batch, or an iterator), or a batch has no
            examples.
    """
    check_batches(batches)
    if len(batches) == 1:
        return derivative(batches[0])
    sizes = [_batch_size(batch, place) for place, batch in enumerate(batches)]
    _check_alike(batches)
    part, total = None, None
    for batch, size in zip(batches, sizes, strict=True):
        part = derivative(batch)
        weighted = jax.tree.map(lambda leaf, n=size: widened(leaf) * (n / sum(sizes)), part)
        total = weighted if total is None else jax.tree.map(jnp.add, total, weighted)
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), total, part)


def check_batches(batches: Any) -> None:
    """Checks that batches are a sequence: (x, y) is one batch in most code, and would pass for two.

    Args:
        batches: What a caller gives.

    Raises:
        ValueError: If it is a batch, an iterator, or empty, or a batch has no examples.
    """
    name = type(batches).__name__
    if isinstance(batches, tuple) and (hasattr(batches, "_fields") or any(map(_is_array, batches))):
        raise ValueError(
            f"expected a sequence of batches, got a {name} of arrays; a single batch goes in a list: "
            "[batch]"
        )
    if isinstance(batches, list | tuple):
        if not batches:
            raise ValueError("expected at least one batch, got an empty sequence")
        for place, batch in enumerate(batches):
            if 0 in _leading_sizes(batch):
                raise ValueError(f"expected batches of one or more examples, got none in batch {place}")
        return
    if hasattr(batches, "__iter__") and not hasattr(batches, "keys") and not _is_array(batches):
        raise ValueError(
            f"expected a sequence of batches, got a {name}, which may not be read twice; take some: "
            "list(itertools.islice(loader, 4))"
        )
    raise ValueError(
        f"expected a sequence of batches, got a {name}; a single batch goes in a list: [batch]"
    )


def _check_alike(batches: Sequence[Any]) -> None:
    """[x, y] is one batch as loaders yield it, and would pass for two."""
    arrays = [batch for batch in batches if _is_array(batch)]
    kinds = {(str(batch.dtype), tuple(batch.shape[1:]), batch.ndim) for batch in arrays}
    if arrays and (len(arrays) < len(batches) or len(kinds) > 1):
        found = [
            f"{batch.dtype}{list(batch.shape)}" if _is_array(batch) else type(batch).__name__
            for batch in batches
        ]
        raise ValueError(
            f"expected a sequence of batches that are alike, got {', '.join(found[:4])}: a single batch "
            "[x, y] goes in a list: [[x, y]] or [(x, y)] (arrays of several shapes that are each a whole "
            "batch: [(x1,), (x2,)])"
        )


def _is_array(batch: Any) -> bool:
    return hasattr(batch, "ndim") and hasattr(batch, "dtype")


def _leading_sizes(batch: Any) -> set[int]:
    return {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)}


def _batch_size(batch: Any, place: int) -> int:
    sizes = _leading_sizes(batch)
    if len(sizes) != 1:
        raise ValueError(
            "expected every batch to hold arrays that share a leading axis, its examples, got "
            f"leading sizes {sorted(sizes)} in batch {place}; a single batch goes in a list: [batch]"
        )
    return sizes.pop()
