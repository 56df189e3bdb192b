import jax
import pytest


@pytest.fixture
def quick_compilation():
    """For large programs that run on a handful of numbers; leaves the results' exactness untested."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
