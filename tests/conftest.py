"""What holds for every test: no silent rank promotion; warnings are errors (pyproject.toml)."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
