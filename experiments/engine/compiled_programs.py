"""Compiled programs are kept between runs, in the user's cache folder, by JAX's own cache.

JAX compresses them without a checksum where it finds zstandard, and never replaces one that it cannot
read. Machine code that has changed on the disk is not to be run, so every entry ends with a hash, and
one that does not fit it is removed and compiled again.
"""

import hashlib
import platform
import warnings
from pathlib import Path
from typing import Any

import jax
import platformdirs

MOST_BYTES = 4 * 2**30
SHORTEST_COMPILATION = 0.2  # seconds

_MARK = b"sha256:"
_END = len(_MARK) + hashlib.sha256().digest_size


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
    _check_entries()


class CheckedCache:
    """JAX's cache with a hash at the end of each entry."""

    def __init__(self, cache: Any, path: str) -> None:
        """Wraps a cache.

        Args:
            cache: JAX's, which keeps an entry in a file "KEY-cache".
        """
        self._cache, self._path = cache, Path(path)

    def get(self, key: str) -> bytes | None:
        """An entry as it was put; None if there is none, or it is damaged."""
        entry = self._cache.get(key)
        if entry is None:
            return None
        content, end = entry[:-_END], entry[-_END:]
        if end == _end_of(content):
            return content
        file = self._path / f"{key}-cache"
        print(f"a program is compiled again: {file} is damaged, or of an earlier version")
        file.unlink(missing_ok=True)
        return None

    def put(self, key: str, value: bytes) -> None:
        """Keeps an entry."""
        self._cache.put(key, value + _end_of(value))


def _end_of(content: bytes) -> bytes:
    return _MARK + hashlib.sha256(content).digest()


def _check_entries() -> None:
    """Wraps the cache that JAX is going to open; where its inside is another one, it stays as it is."""
    try:
        from jax._src import compilation_cache
    except ImportError:
        return
    make: Any = getattr(compilation_cache, "get_file_cache", None)
    if make is None or hasattr(make, "checked"):
        return

    def checked(path: str) -> tuple[Any, str] | None:
        made = make(path)
        return made and (CheckedCache(made[0], made[1]), made[1])

    checked.checked = True  # type: ignore[attr-defined]
    compilation_cache.get_file_cache = checked
