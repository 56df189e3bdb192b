"""What holds for every test: no silent rank promotion, and a program is compiled once a process.

Warnings are errors (pyproject.toml).
"""

import gc
import os

import jax
import pytest

from tests.compilations import let_programs_go

jax.config.update("jax_numpy_rank_promotion", "raise")
# Read when JAX first computes. Tests compile much and compute little: a small loop compiles in 0.09 s of
# processor time instead of 1.4, and in 0.06 where its code is not divided among threads. What the
# environment sets comes last, and wins.
UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11):  # XLA ends the process at a flag that it does not know, as later ones.
    UNOPTIMISED += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{UNOPTIMISED} {os.environ.get('XLA_FLAGS', '')}"
# Tracing makes many objects that stay: looking through all of them so often takes a sixth of the time.
gc.set_threshold(100_000, 20, 100)


def pytest_collection_finish():
    """What was imported stays: where it is looked through again, that takes a second."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def programs_of_other_modules():
    """Of those that were compiled before few are needed again, and these are on disk (below)."""
    let_programs_go()


@pytest.fixture(scope="session", autouse=True)
def user_cache_folder(tmp_path_factory):
    """Nothing is read from the user's own cache folder, or written to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory):
    """Keeps programs that take long to compile on disk for the session: tests make the same ones anew.

    A folder for each process, since JAX writes them unguarded. It saves a quarter of the time of tests
    that train.
    """
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
