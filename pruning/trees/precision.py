"""Dtypes: in which to compute, and which are too short to say what is meant.

JAX promotes neither float8 to float32 nor, where ``jax_numpy_dtype_promotion`` is "strict", anything to
anything; here the dtype is always chosen by hand.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def at_least_float32(dtype: Any) -> Any:
    """The dtype in which what is short is computed and summed.

    Args:
        dtype: Of an array.

    Returns:
        The dtype itself, or float32 where it is shorter, no float, or NumPy's float64 without x64.
    """
    short = not jnp.issubdtype(dtype, jnp.inexact) or jnp.dtype(dtype).itemsize < 4
    return jnp.dtype(jnp.float32) if short else jax.dtypes.canonicalize_dtype(dtype)


def wider(first: Any, second: Any) -> Any:
    """A dtype that holds every value of two dtypes.

    Args:
        first: The dtype of a weight.
        second: The dtype of its update.

    Returns:
        The one that both are, or their promotion.
    """
    if jnp.dtype(first) == jnp.dtype(second):
        return jnp.dtype(first)
    # What has a byte is promoted by nothing, and holds no number that a bfloat16 does not.
    both = [jnp.dtype(jnp.bfloat16 if jnp.dtype(d).itemsize == 1 else d) for d in (first, second)]
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(*both)


def sum_of(parts: Sequence[jax.Array]) -> jax.Array:
    """The sum of arrays whose dtypes may differ.

    Args:
        parts: Float arrays of one shape.

    Returns:
        Their sum, in a dtype that holds every value of all and of float32.
    """
    dtype = functools.reduce(wider, (part.dtype for part in parts), jnp.dtype(jnp.float32))
    return sum((part.astype(dtype) for part in parts), start=jnp.zeros((), dtype))


def check_precise(**numbers: Any) -> None:
    """Checks that hyperparameters have not been rounded to a short dtype.

    Args:
        **numbers: Fractions by name: numbers, or arrays of them.

    Raises:
        ValueError: If one is a bfloat16, a float16 or shorter, traced or not.
    """
    for name, value in numbers.items():
        for part in value if isinstance(value, list | tuple) else [value]:
            dtype = getattr(part, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
                raise ValueError(
                    f"expected {name} in Python numbers, float32 or longer, got {dtype}, which rounds "
                    "(0.99 is 0.988 in bfloat16); optax.inject_hyperparams casts arrays and floats to "
                    "the params' dtype unless it is given hyperparam_dtype=jnp.float32"
                )


def check_zero(path: Any, leaf: Any) -> None:
    """Checks that a weight can be pruned, which is to be 0.

    Args:
        path: The leaf's key path.
        leaf: Anything with a dtype.

    Raises:
        ValueError: If its dtype has no zero, as float8_e8m0fnu.
    """
    # As a Python float: compared as it is, the 0 would become what the dtype has in its place.
    if jnp.issubdtype(leaf.dtype, jnp.floating) and float(jnp.finfo(leaf.dtype).min) >= 0:
        where = jax.tree_util.keystr(path)
        raise ValueError(
            f"expected weights of a dtype that has a zero, for pruned ones, at {where}, got {leaf.dtype}"
        )
