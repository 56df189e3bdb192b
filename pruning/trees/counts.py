"""Numbers as arguments: of things, whole and at least one; fractions."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from pruning.trees.leaves import is_traced


def check_counts(**counts: Any) -> None:
    """Checks numbers of things that shapes and loops depend on.

    Args:
        **counts: By name.

    Raises:
        ValueError: If one is no whole number of at least 1.
    """
    for name, value in counts.items():
        if is_traced(value) or not is_whole(value) or value < 1:
            raise ValueError(f"expected {name} >= 1, a whole number, got {value!r}")


def check_fractions(**fractions: Any) -> None:
    """Checks fractions; one that is traced cannot be read and passes.

    Args:
        **fractions: By name.

    Raises:
        ValueError: If one is no number in [0, 1].
    """
    for name, value in fractions.items():
        if not may_be(value, lambda number: 0 <= number <= 1):
            raise ValueError(f"expected {name} in [0, 1], got {value!r}")


def may_be(value: Any, allowed: Callable[[Any], bool]) -> bool:
    """Whether a value is one real number that is allowed; one that is traced cannot be read and may be.

    Args:
        value: What a caller has passed for a number.
        allowed: Whether a real number will do.
    """
    if is_traced(value):
        return True
    if np.ndim(value) > 0:
        return False
    dtype = np.asarray(value).dtype  # bfloat16 is a number to jnp alone.
    is_real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    return bool(is_real and allowed(value))


def is_whole(value: Any) -> bool:
    """Whether a value that is known is a whole number, of Python or in an array without axes."""
    return np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.integer)
