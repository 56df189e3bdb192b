"""Numbers as arguments: of things, whole and at least one; fractions."""

from typing import Any

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
        if not is_traced(value) and not (is_number(value) and 0 <= value <= 1):
            raise ValueError(f"expected {name} in [0, 1], got {value!r}")


def is_number(value: Any) -> bool:
    """Whether a value that is known is one number, of Python or in an array without axes."""
    return np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.number)


def is_whole(value: Any) -> bool:
    """Whether a value that is known is a whole number, of Python or in an array without axes."""
    return np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.integer)
