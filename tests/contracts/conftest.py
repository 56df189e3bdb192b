import jax
import pytest

from tests.compilations import let_programs_go


@pytest.fixture(autouse=True)
def quick_compilation_and_strict_promotion():
    """Hundreds of small programs run once each: compiling them well would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.numpy_dtype_promotion("strict"):
        yield
    jax.config.update("jax_disable_most_optimizations", False)
    let_programs_go()
