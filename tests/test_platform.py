"""The compiler under us computes right numbers. jax 0.10.2 does not on CPU (jax issue 39103)."""

import jax
import jax.numpy as jnp


def test_jit_of_vmapped_matrix_vector_products_is_exact():
    matrix = jnp.eye(3)
    rows = jnp.zeros((32769, 3)).at[:, 0].set(jnp.arange(32769.0))

    def squared_norms(rows):
        return jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)

    assert jax.jit(squared_norms)(rows)[-1] == 32768**2
