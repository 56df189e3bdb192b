"""How models are initialised, by the names that recipes take. Biases start at zero."""

import jax
from jax.nn.initializers import Initializer

KAIMING_NORMAL = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
ONES = jax.nn.initializers.ones

INITIALIZERS: dict[str, Initializer] = {
    "kaiming-normal": KAIMING_NORMAL,
    "glorot-normal": jax.nn.initializers.variance_scaling(1.0, "fan_avg", "normal"),
}
"""Kernel initializers by name. Plain normals: jax's own of these names cut the tails at two
standard deviations, PyTorch's and the papers' do not."""

SCALE_INITIALIZERS: dict[str, Initializer] = {
    "ones": ONES,
    "uniform": jax.nn.initializers.uniform(1.0),
}
"""Initializers of BatchNorm's scales by name. "uniform" draws from U(0, 1), as the recipes of Frankle,
Dziugaite, Roy and Carbin 2021 (arXiv:2009.08576) do."""
