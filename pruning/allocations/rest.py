"""What is left to the other layers where some are kept dense."""

from pruning.allocations.layers import check_concrete
from pruning.masks.counting import pruned_count
from pruning.masks.tree import count_prunable
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable, prunable_params


def sparsity_of_rest(
    params: PyTree, sparsity: Scalar, *, rest: Prunable, prunable: Prunable = prunable
) -> float:
    r"""The sparsity of the leaves that may be pruned, such that *all* prunable leaves have a given one.

    .. math:: s_{rest} = \lfloor s\,n + 10^{-6} \rfloor \,/\, n_{rest}

    A layer is kept dense by leaving it out of ``prunable=``; sparsities then count the rest alone. With
    this one for the rest, as many weights go as if all layers shared in the sparsity::

        rest = prunable_except("first", "head")
        own = sparsity_of_rest(params, 0.9, rest=rest)
        masks = random_masks(key, params, own, allocation=erdos_renyi_kernel, prunable=rest)

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction s of all n prunable weights to remove, in [0, 1); concrete.
        rest: ``rest(path, leaf)`` says which leaves are not kept dense.
        prunable: ``prunable(path, leaf)`` says which leaves count, dense or not.

    Returns:
        A sparsity in [0, 1) of the :math:`n_{rest}` weights that both take; selection removes exactly as
        many of these as the sparsity says of all.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, nothing is prunable or nothing is left to
            be pruned, or the rest has no more weights than are to go.

    Source: Evci et al. 2020 (arXiv 1911.11134) keeps first layers dense, of which its budgets
    take no account; the authors of sparsimony count them, as here.

    >>> import jax.numpy as jnp
    >>> params = {"first": jnp.ones((10, 10)), "second": jnp.ones((30, 10))}
    >>> sparsity_of_rest(params, 0.6, rest=lambda path, leaf: leaf.shape[0] == 30)
    0.8
    """
    check_concrete(sparsity)
    both = lambda path, leaf: prunable(path, leaf) and rest(path, leaf)  # noqa: E731
    size, left = (count_prunable(prunable_params(params, which)) for which in (prunable, both))
    removed = pruned_count(sparsity, size)
    if removed >= left:
        raise ValueError(
            f"expected a sparsity below {left / size:.4g}, got {sparsity}: it removes {removed} of "
            f"{size} weights, {size - left} of which are kept dense; ask for less or keep fewer dense"
        )
    return removed / left
