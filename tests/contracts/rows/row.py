"""A row of the contract table.

Its `run(key, params)` is one call of the member, for params in any container and dtype; its
`check(result, params)` says what must hold. What is particular to a member stands in its row.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Row:
    run: Callable[[jax.Array, Any], Any]
    check: Callable[[Any, Any], None]
    _: KW_ONLY
    keyed: bool = False  # another key gives another result
    traced: bool = True  # may be called under jit and vmap
    grads: bool = False  # the result is float and differentiable in the params
    promotes: bool = False  # in half precision it needs JAX's implicit promotion of dtypes
    composed: bool = False  # made of members that run in every container and dtype: compiled alone
    heavy: bool = False  # takes a second: under jit and vmap only where slow tests run
