"""Numbers of things, as arguments: whole, and at least one."""

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


def is_whole(value: Any) -> bool:
    """Whether a value that is known is a whole number, of Python or in an array without axes."""
    return np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.integer)
