import jax
import pytest


@pytest.fixture(autouse=True)
def quick_compilation():
    """Hundreds of small programs run once each: compiling them well would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
