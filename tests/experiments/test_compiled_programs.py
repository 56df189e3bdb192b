"""Compiled programs are kept where the user has not said otherwise."""

import platform

import jax
import pytest

from experiments.compiled_programs import keep_compiled_programs

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
