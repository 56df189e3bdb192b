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
# For jax.jit of programs that compute much: tests are compiled without optimisation (tests/conftest.py).
OPTIMISED = {"xla_backend_optimization_level": 3}
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


def mlp(params, x, activation=jax.nn.relu):
    x = activation(_linear(params, "0", x))
    x = activation(_linear(params, "2", x))
    return _linear(params, "4", x)


def conv(params, x, activation=jax.nn.relu):
    x = activation(_conv(params, "0", x))
    x = activation(_conv(params, "2", x))
    # Of equal values in a window the first takes the gradient, as in PyTorch.
    window = (1, 1, 2, 2)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
    return _linear(params, "6", x.reshape(len(x), -1))


NETWORKS = {"mlp": mlp, "conv": conv}


class Arrays:
    """What further references gave: scores (for mlp at some indices) and masks, by variant."""

    def __init__(self, case, method):
        with np.load(FOLDER / f"{case}_{method}.npz") as file:
            self.arrays = {name: file[name] for name in file.files}

    def __getitem__(self, name):
        return self.arrays[name]

    def under(self, head):
        """The arrays whose names go on after a head and a slash, by what they go on with."""
        found = {name: array for name, array in self.arrays.items() if name.startswith(f"{head}/")}
        return {name[len(head) + 1 :]: array for name, array in found.items()}

    def check_scores(self, variant, scores, tolerance=1e-9):
        """To a relative tolerance of each layer's largest score."""
        whole, samples = (self.under(f"{head}/{variant}") for head in ("score64", "sample_score64"))
        assert whole or samples
        for name, expected in (whole or samples).items():
            found = np.asarray(scores[name])
            if not whole:
                found = found.ravel()[self[f"sample_index/{name}"]]
            largest = np.abs(expected).max()
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest, err_msg=name)

    def check_masks(self, variant, masks):
        """Bit for bit."""
        expected = self.under(f"maskbits64/{variant}")
        assert expected
        for name, bits in expected.items():
            mask = np.asarray(masks[name])
            np.testing.assert_array_equal(np.packbits(mask), bits, err_msg=f"{variant}/{name}")


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _linear(params, layer, x):
    x = x @ params[f"{layer}.weight"].T
    return x + params[f"{layer}.bias"][None] if f"{layer}.bias" in params else x


def _conv(params, layer, x):
    y = jax.lax.conv_general_dilated(x, params[f"{layer}.weight"], (1, 1), ((1, 1), (1, 1)))
    return y + params[f"{layer}.bias"][None, :, None, None] if f"{layer}.bias" in params else y
