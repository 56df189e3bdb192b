"""The reference implementations' networks and arrays (see the README beside them), in JAX.

Params keep the reference's names and layouts: convolutions (out, in, height, width), linear layers
(out, in), images (batch, channels, height, width). Everything is float64 unless asked otherwise.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

FOLDER = Path(__file__).parents[2].parent / "shared" / "oracles"
needs_oracles = pytest.mark.skipif(
    not (FOLDER / "mlp_state.npz").is_file(), reason=f"no oracle arrays at {FOLDER}"
)


def load(case, dtype="float64"):
    """(params, images x, labels y) of mlp or conv."""
    with np.load(FOLDER / f"{case}_state.npz") as file:
        params = {
            name.removeprefix("state/"): jnp.asarray(file[name], dtype)
            for name in file.files
            if name.startswith("state/")
        }
        return params, jnp.asarray(file["x"], dtype), jnp.asarray(file["y"])


def expected_scores(case, method, precision):
    """By name; unnormalised, as the reference's times what it divided them by."""
    with np.load(FOLDER / f"{case}_scores_{method}.npz") as file:
        norm = float(file["norm64"]) if "norm64" in file.files else 1.0
        head = f"score{precision}/"
        return {n.removeprefix(head): file[n] * norm for n in file.files if n.startswith(head)}


def expected_masks(case, method, density):
    with np.load(FOLDER / f"{case}_masks.npz") as file:
        head = f"mask64/{method}/d{density}/"
        return {n.removeprefix(head): file[n] != 0 for n in file.files if n.startswith(head)}


def mlp(params, x):
    x = jax.nn.relu(_linear(params, "0", x))
    x = jax.nn.relu(_linear(params, "2", x))
    return _linear(params, "4", x)


def conv(params, x):
    x = jax.nn.relu(_conv(params, "0", x))
    x = jax.nn.relu(_conv(params, "2", x))
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height // 2, 2, width // 2, 2).max((3, 5))
    return _linear(params, "6", x.reshape(n, -1))


NETWORKS = {"mlp": mlp, "conv": conv}


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _linear(params, layer, x):
    return x @ params[f"{layer}.weight"].T + params[f"{layer}.bias"][None]


def _conv(params, layer, x):
    y = jax.lax.conv_general_dilated(x, params[f"{layer}.weight"], (1, 1), ((1, 1), (1, 1)))
    return y + params[f"{layer}.bias"][None, :, None, None]
