"""What a compiled program costs besides its run time: seconds to compile it, and bytes."""

import time
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache


def compile_anew(function: Any, *args: Any) -> tuple[Callable[..., Any], float]:
    """Compiles a function as if it had never been compiled, whatever JAX keeps on disk.

    Args:
        function: From ``jax.jit``, not called before.
        *args: What it is compiled for.

    Returns:
        The compiled function (it has ``memory_analysis``), and the seconds of tracing and compiling.
    """
    config: Any = jax.config
    enabled = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX asks once whether there is a cache.
    try:
        start = time.perf_counter()
        compiled = function.lower(*args).compile()
        return compiled, time.perf_counter() - start
    finally:
        config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def temporary_bytes(compiled: Any) -> int:
    """Bytes that a program holds at most besides its arguments and results.

    Args:
        compiled: From ``compile_anew``.
    """
    return compiled.memory_analysis().temp_size_in_bytes


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree.

    Args:
        tree: Of arrays, or of their shapes and dtypes.
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
