"""How models are initialised, by the names that recipes take. Biases start at zero."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

KAIMING_NORMAL = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
ONES = jax.nn.initializers.ones


def _kaiming_signed_constant(
    key: jax.Array, shape: Any, dtype: Any = None, out_sharding: Any = None
) -> jax.Array:
    normal = KAIMING_NORMAL(key, shape, dtype, out_sharding)
    return jnp.sign(normal) * jnp.asarray(math.sqrt(2 / math.prod(shape[:-1])), normal.dtype)


INITIALIZERS: dict[str, Initializer] = {
    "kaiming-normal": KAIMING_NORMAL,
    "glorot-normal": jax.nn.initializers.variance_scaling(1.0, "fan_avg", "normal"),
    "kaiming-signed-constant": _kaiming_signed_constant,
}
"""Kernel initializers by name. Plain normals: jax's own of these names cut the tails at two
standard deviations, PyTorch's and the papers' do not. The signed constant, plus or minus the standard
deviation of "kaiming-normal", is that of supermasks (Zhou et al. 2019, arXiv 1905.01067, section 4)."""

SCALE_INITIALIZERS: dict[str, Initializer] = {
    "ones": ONES,
    "uniform": jax.nn.initializers.uniform(1.0),
}
"""Initializers of BatchNorm's scales by name. "uniform" draws from U(0, 1), as the recipes of Frankle,
Dziugaite, Roy and Carbin 2021 (arXiv:2009.08576) do."""
