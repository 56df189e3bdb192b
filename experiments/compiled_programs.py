"""Compiled programs are kept between runs, in the user's cache folder, by JAX's own cache."""

import platform
import warnings
from typing import Any

import jax
import platformdirs

MOST_BYTES = 4 * 2**30
SHORTEST_COMPILATION = 0.2  # seconds


def keep_compiled_programs() -> None:
    """Keeps what this process compiles, and uses what earlier ones did; once a process, before JAX runs.

    Nothing is changed where ``jax_compilation_cache_dir`` (``JAX_COMPILATION_CACHE_DIR``) is set, or the
    cache is disabled (``JAX_ENABLE_COMPILATION_CACHE=false``). The folder is the machine's: on a shared
    home folder, programs compiled for one CPU would not run on another.

    Warns:
        UserWarning: If the folder cannot be made; programs are compiled anew then.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    path = platformdirs.user_cache_path("pruning-at-init") / platform.node()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
        return
    config.update("jax_compilation_cache_dir", str(path))
    # With a bound JAX locks the folder, and several processes may share it.
    config.update("jax_compilation_cache_max_size", MOST_BYTES)
    config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_COMPILATION)
