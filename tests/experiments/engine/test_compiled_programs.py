"""Compiled programs are kept where the user has not said otherwise."""

import os
import platform
import subprocess
import sys

import jax
import pytest
from jax._src import compilation_cache

from experiments.engine.compiled_programs import CheckedCache, keep_compiled_programs
from tests.damage import cut, flipped

NAMES = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """JAX's settings, as they are without a user's; restored afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.setattr(compilation_cache, "get_file_cache", compilation_cache.get_file_cache)
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_user_s_cache_folder(config, tmp_path):
    keep_compiled_programs()
    path = tmp_path / "pruning-at-init" / platform.node()
    assert config.jax_compilation_cache_dir == str(path)
    assert path.is_dir()
    assert config.jax_compilation_cache_max_size > 0  # so that JAX locks it


def test_a_user_s_folder_stays(config, tmp_path):
    config.update("jax_compilation_cache_dir", "elsewhere")
    keep_compiled_programs()
    assert config.jax_compilation_cache_dir == "elsewhere"
    assert not list(tmp_path.iterdir())


def test_a_disabled_cache_stays_disabled(config, tmp_path):
    config.update("jax_enable_compilation_cache", False)
    try:
        keep_compiled_programs()
    finally:
        config.update("jax_enable_compilation_cache", True)
    assert config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_made_is_said(config, tmp_path):
    (tmp_path / "pruning-at-init").write_text("in the way")
    with pytest.warns(UserWarning, match="compiled programs are not kept"):
        keep_compiled_programs()
    assert config.jax_compilation_cache_dir is None


class Files:
    """A cache as JAX's: a file an entry, and one that is there is not replaced."""

    def __init__(self, path):
        self.path = path

    def get(self, key):
        file = self.path / f"{key}-cache"
        return file.read_bytes() if file.exists() else None

    def put(self, key, value):
        file = self.path / f"{key}-cache"
        if not file.exists():
            file.write_bytes(value)


def test_no_damaged_program_is_run_and_it_is_kept_anew(tmp_path, capsys):
    cache = CheckedCache(Files(tmp_path), str(tmp_path))
    assert cache.get("a") is None
    cache.put("a", b"machine code")
    whole = (tmp_path / "a-cache").read_bytes()
    for content in [*flipped(whole), *cut(whole)]:
        (tmp_path / "a-cache").write_bytes(content)
        assert cache.get("a") is None
        said = f"a program is compiled again: {tmp_path / 'a-cache'} is damaged"
        assert said in capsys.readouterr().out
        cache.put("a", b"machine code")
        assert cache.get("a") == b"machine code"


COMPILE = """
import jax, jax.numpy as jnp
from experiments.engine import compiled_programs
compiled_programs.SHORTEST_COMPILATION = 0
compiled_programs.keep_compiled_programs()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))[0, 0])
print(sum(event.endswith("cache_hits") for event in hits), "hits")
"""


@pytest.mark.slow
def test_jax_s_own_cache_is_the_one_that_is_checked(tmp_path):
    """In processes of their own: JAX opens its cache once."""
    environment = dict(os.environ, XDG_CACHE_HOME=str(tmp_path), JAX_PLATFORMS="cpu")
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def compile_it():
        done = subprocess.run(
            [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    first = compile_it()
    second = compile_it()
    assert (first[0], first[-1]) == (second[0], "0 hits")
    assert second[-1] != "0 hits"
    for file in tmp_path.rglob("*-cache"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    third = compile_it()
    assert (third[-2], third[-1]) == (first[0], "0 hits")
    assert "a program is compiled again" in third[0]
    assert compile_it() == second
