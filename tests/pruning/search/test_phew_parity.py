"""PHEW against arrays that its reference implementation produced: probabilities, walks, kept counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from pruning.connectivity.unit_graph import graph_of
from pruning.connectivity.unit_links import find_links
from pruning.search.walks import backward_walks, forward_walks, make_tables
from tests.pruning.oracles import NETWORKS, Arrays, load, needs_oracles

pytestmark = needs_oracles
CASES = ("mlp", "conv")


def kernels_of(params):
    return {name: leaf for name, leaf in params.items() if name.endswith("weight")}


def probabilities(params):
    return jax.jit(lambda p: pruning.path_probabilities(p, layout=pruning.equinox_layout))(
        kernels_of(params)
    )


def network(case, x):
    return lambda params: NETWORKS[case](params, jnp.ones_like(x[:1]))


def test_probabilities_of_the_convolutional_network():
    arrays = Arrays("conv", "phew")
    with jax.enable_x64(True):
        params, _, _ = load("conv")
        found = probabilities(params)
    for name, kernel in found.items():
        for part, head in ((kernel.forward, "forward64"), (kernel.backward, "reverse64")):
            np.testing.assert_allclose(part, arrays[f"{head}/{name}"], rtol=0, atol=1e-12)
        if kernel.position.ndim == 4:
            np.testing.assert_allclose(kernel.position, arrays[f"kernel64/{name}"], rtol=0, atol=1e-12)


def test_probabilities_of_the_mlp():
    arrays = Arrays("mlp", "phew")
    with jax.enable_x64(True):
        params, _, _ = load("mlp")
        found = probabilities(params)
    for name, kernel in found.items():
        at = arrays[f"sample_index/{name}"]
        forward, backward = (
            np.asarray(kernel.forward).T.ravel()[at],
            np.asarray(kernel.backward).ravel()[at],
        )
        np.testing.assert_allclose(forward, arrays[f"sample_forward64/{name}"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(backward, arrays[f"sample_reverse64/{name}"], rtol=0, atol=1e-12)


def walks_from(arrays, walks, ways):
    """Walks' uniform numbers (T, W, 3), those of the last column given (W, T)."""
    steps = len(arrays["walk/steps"]) // 24
    two = arrays["walk/uniforms"].reshape(24, steps, 2)[walks]
    return jnp.asarray(np.concatenate([np.abs(two), ways[..., None]], axis=2).transpose(1, 0, 2))


@pytest.mark.parametrize("case", [pytest.param("mlp", marks=pytest.mark.slow), "conv"])
def test_the_stored_walks_from_their_uniform_numbers(case):
    """The 24 walks, step by step; half of them go backward."""
    arrays = Arrays(case, "phew")
    steps = arrays["walk/steps"].reshape(24, -1, 7)
    names = list(arrays["prunable_names"])
    ways = np.zeros((12, steps.shape[1]))
    if case == "conv":  # the second junction of a walk forward is that into the dense layer: 64 pixels
        ways[:, 1] = (arrays["walk/conv_to_linear_position"] + 0.5) / 64
    with jax.enable_x64(True):
        params, x, _ = load(case)
        places = [sorted(params).index(name) for name in names]
        leaves = dict(zip(places, (params[name] for name in names), strict=True))
        sizes = np.cumsum([0, *(leaf.size for leaf in leaves.values())])
        numbers = {
            at: jnp.arange(leaf.size, dtype=jnp.int32).reshape(leaf.shape) + int(start)
            for (at, leaf), start in zip(leaves.items(), sizes[:-1], strict=True)
        }
        graph = graph_of(find_links(network(case, x), params, frozenset(leaves)))
        turns = np.arange(12)
        first, last = (np.asarray(ends)[turns % len(ends)] for ends in (graph.inputs, graph.outputs))

        @jax.jit
        def walks(leaves, *uniforms):
            tables = make_tables(graph, leaves, numbers)
            ahead = forward_walks(graph, tables, jnp.asarray(first), uniforms[0])
            return ahead, backward_walks(graph, tables, jnp.asarray(last), uniforms[1])

        ahead, back = walks(
            leaves,
            walks_from(arrays, slice(0, None, 2), ways),
            walks_from(arrays, slice(1, None, 2), np.zeros_like(ways)),
        )
    flat = [
        sizes[layer] + np.ravel_multi_index(unit[: leaves[at].ndim], leaves[at].shape)
        for _, _, layer, *unit in steps.reshape(-1, 7)
        for at in [list(leaves)[layer]]
    ]
    expected = np.reshape(flat, steps.shape[:2])
    assert set(steps[0::2, :, 1].ravel()) == {1}
    np.testing.assert_array_equal(np.asarray(ahead).T, expected[0::2])
    np.testing.assert_array_equal(np.asarray(back).T, expected[1::2])


@pytest.mark.slow
@pytest.mark.parametrize(("case", "keys"), [("mlp", 2), ("conv", 8)])
def test_as_many_are_kept_in_each_layer_as_in_runs_of_the_reference(case, keys):
    """The mean over keys is as near to the mean of the runs as these are to each other."""
    params, x, _ = load(case, "float32")

    @jax.jit
    def kept(key, sparsity):
        masks = pruning.phew_masks(key, network(case, x), params, sparsity)
        return jnp.stack([masks[name].sum() for name in kernels_of(params)])

    for density in ("0.1", "0.02"):
        runs = Arrays(case, "phew")[f"runs/kept/d{density}"]
        found = np.array([kept(jax.random.key(seed), 1 - float(density)) for seed in range(keys)])
        assert (abs(found.sum(axis=1) - runs.sum(axis=1).mean()) <= 3).all()  # but for a walk's length
        # Of so few runs the deviation may be small by chance.
        spread = np.maximum(runs.std(axis=0), np.sqrt(runs.mean(axis=0)) / 2)
        error = abs(found.mean(axis=0) - runs.mean(axis=0))
        assert (error < 3 * spread * np.sqrt(1 / keys + 1 / len(runs))).all(), (found, runs)
