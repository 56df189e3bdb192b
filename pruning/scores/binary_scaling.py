"""Powers of two as common factors: exact, so that they change neither a score's digits nor a ranking.

A product of many derivatives may leave the range of its float type although its digits and its rank
are sound. Scaled by a power of two on the way in and back on the way out it does not; and where the
result itself is out of range, it keeps as much of the factor as it needs.
"""

import jax
import jax.numpy as jnp
import numpy as np

from pruning.trees.leaves import PyTree

NOTHING = -(2**20)
"""The exponent of zero."""


def score_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of scores of weights of a dtype: the same, but float32 for weights of 8 bits or fewer.

    Args:
        dtype: A floating-point dtype.

    Returns:
        A dtype that holds the products and differences that scores are.
    """
    longer = jnp.finfo(dtype).bits > 8
    return jax.dtypes.canonicalize_dtype(dtype) if longer else jnp.dtype(jnp.float32)


def widened(leaf: jax.Array) -> jax.Array:
    """An array in a dtype to compute in.

    Args:
        leaf: A float array.

    Returns:
        The same in float32, or as it is if that is no wider.
    """
    return leaf if jnp.finfo(leaf.dtype).bits >= 32 else leaf.astype(jnp.float32)


def is_narrow(dtype: jnp.dtype) -> bool:
    """Whether a dtype has a smaller range than float32, as float16 has and bfloat16 has not.

    Args:
        dtype: A floating-point dtype.

    Returns:
        Whether derivatives in it may need a loss scale.
    """
    return jnp.finfo(dtype).minexp > jnp.finfo(jnp.float32).minexp


def exponent(tree: PyTree) -> jax.Array:
    r"""The exponent of the largest magnitude x of a tree: :math:`2^{e-1} \le x < 2^e`.

    Args:
        tree: Float arrays.

    Returns:
        An int32 scalar; ``NOTHING`` for zeros alone, 0 where a value is not finite.
    """
    leaves = [widened(leaf) for leaf in jax.tree.leaves(tree)]
    widest = max((leaf.dtype for leaf in leaves), key=lambda dtype: jnp.finfo(dtype).bits)
    # Once for all leaves: in each it would take longer to compile than the score itself.
    each = jnp.stack([jnp.max(jnp.abs(leaf)).astype(widest) for leaf in leaves])
    largest = jax.lax.optimization_barrier(jnp.max(each))
    found = jnp.frexp(largest)[1].astype(jnp.int32)
    found = jnp.where(jnp.isfinite(largest), found, np.int32(0))
    return jnp.where(largest == 0, np.int32(NOTHING), found)


def power_of_two(shift: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """:math:`2^k` in a dtype, bit for bit.

    Args:
        shift: The exponent k, an int32 scalar; beyond the normal numbers of the dtype the nearest.
        dtype: A floating-point dtype.

    Returns:
        A scalar.
    """
    info = jnp.finfo(dtype)
    wide = jnp.finfo(jnp.float64 if info.bits == 64 else jnp.float32)
    shift = jnp.clip(shift, max(info.minexp, wide.minexp), min(info.maxexp, wide.maxexp) - 1)
    integer = jnp.int64 if wide.bits == 64 else jnp.int32
    bits = (shift.astype(integer) + (wide.maxexp - 1)) << wide.nmant
    return jax.lax.bitcast_convert_type(bits, wide.dtype).astype(dtype)


def times_power(tree: PyTree, shift: jax.Array) -> PyTree:
    r""":math:`x \cdot 2^k`, exact where the dtype holds it.

    Args:
        tree: Float arrays.
        shift: The exponent k, an int32 scalar of any size.

    Returns:
        A tree like ``tree``.
    """
    # From the smallest number of a dtype to the largest it takes more than one factor that it holds.
    third = shift // 3
    parts = (third, third, shift - 2 * third)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(tree)}
    factors = {dtype: [power_of_two(part, dtype) for part in parts] for dtype in dtypes}
    factors = jax.lax.optimization_barrier(factors)

    def multiply(leaf: jax.Array) -> jax.Array:
        first, second, third = factors[leaf.dtype]
        return leaf * first * second * third

    return jax.tree.map(multiply, tree)


def within_range(tree: PyTree, shift: jax.Array, like: PyTree) -> PyTree:
    """A tree times :math:`2^k`, or as near to that as its dtype holds it.

    Where the largest number would overflow, or be so small that numbers of the square of the dtype's
    precision below it would underflow, all keep a common factor, a power of two.

    Args:
        tree: Float arrays, float32 at least.
        shift: The exponent k, an int32 scalar.
        like: The same tree in the dtypes that the result is to have.

    Returns:
        A tree like ``tree``, in those dtypes.
    """
    infos = [jnp.finfo(leaf.dtype) for leaf in jax.tree.leaves(like)]
    lowest = max(info.minexp + 2 * info.nmant for info in infos)
    highest = min(info.maxexp for info in infos) - 1
    largest = exponent(tree)
    target = jnp.clip(largest + shift, np.int32(lowest), np.int32(highest))
    shift = jnp.where(largest == NOTHING, np.int32(0), target - largest)
    return jax.tree.map(lambda leaf, to: leaf.astype(to.dtype), times_power(tree, shift), like)
