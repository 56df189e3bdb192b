from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pruning

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"no oracle arrays at {ORACLES}")

LENET300 = {"Dense_0": (784, 300), "Dense_1": (300, 100), "Dense_2": (100, 10)}
LENET5 = {"Conv_0": (5, 5, 1, 20), "Conv_1": (5, 5, 20, 50), "Dense_0": (800, 500), "Dense_1": (500, 10)}

# From the arrays of the next test, so that this file stands alone.
KERNEL_SPARSITIES = [
    (LENET300, 0.8, [0.8377587692759044, 0.5306379155435759, 0.0]),
    (LENET300, 0.95, [0.9615158673256002, 0.8886658301965704, 0.08149309912170644]),
    (LENET300, 0.3, [0.33954081632653066, 0.0, 0.0]),
    (LENET5, 0.8, [0.0, 0.8131014492753623, 0.8101811594202899, 0.0]),
    (LENET5, 0.95, [0.2738837703756202, 0.9625230333097095, 0.9619374557051736, 0.0]),
]


def network(shapes):
    """Params of these shapes, with a bias in each layer; nothing is allocated."""
    return {
        layer: {
            "kernel": jax.ShapeDtypeStruct(shape, jnp.float32),
            "bias": jax.ShapeDtypeStruct(shape[-1:], jnp.float32),
        }
        for layer, shape in shapes.items()
    }


def kernels(tree):
    assert all(layer["bias"] is None for layer in tree.values())
    return [layer["kernel"] for layer in tree.values()]


@pytest.mark.parametrize(("shapes", "sparsity", "expected"), KERNEL_SPARSITIES)
def test_erdos_renyi_kernel_equals_the_reference(shapes, sparsity, expected):
    found = kernels(pruning.erdos_renyi_kernel(network(shapes), sparsity))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@needs_oracles
@pytest.mark.parametrize(
    ("file", "shapes"), [("jaxpruner_lenet300", LENET300), ("jaxpruner_lenet5", LENET5)]
)
@pytest.mark.parametrize(
    ("tag", "allocation"), [("erk", pruning.erdos_renyi_kernel), ("uniform", pruning.uniform)]
)
def test_every_sparsity_of_the_oracles(file, shapes, tag, allocation):
    oracle = np.load(ORACLES / f"{file}.npz")
    sparsities = {name.split("/")[2] for name in oracle.files if name.startswith(f"sparsity/{tag}/")}
    assert sparsities >= {"0.8", "0.9", "0.95"}
    for sparsity in sparsities:
        found = kernels(allocation(network(shapes), float(sparsity)))
        expected = [oracle[f"sparsity/{tag}/{sparsity}/{layer}/kernel"] for layer in shapes]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_uniform_by_hand():
    assert kernels(pruning.uniform(network(LENET5), 0.8)) == [0.8] * 4


def test_erdos_renyi_by_hand():
    # Ratios (4+4)/16 = 1/2 and (8+8)/64 = 1/4; 80 weights, 40 to keep:
    # eps (16/2 + 64/4) = 40, eps = 5/3, densities 5/6 and 5/12.
    params = network({"a": (4, 4), "b": (8, 8)})
    np.testing.assert_allclose(kernels(pruning.erdos_renyi(params, 0.5)), [1 / 6, 7 / 12], rtol=1e-12)


def test_erdos_renyi_does_not_count_the_kernel_and_the_kernel_form_does():
    # 3x3, 2 -> 4 and a dense 4 -> 2; 72 + 8 weights, 20 to keep.
    # Plain: both ratios (2+4)/8, so the density is 1/4 in both.
    # Kernel: (3+3+2+4)/72 = 1/6 and 6/8; eps (12 + 6) = 20, and 10/9 * 3/4 < 1: densities 5/27, 5/6.
    params = network({"a": (3, 3, 2, 4), "b": (4, 2)})
    np.testing.assert_allclose(kernels(pruning.erdos_renyi(params, 0.75)), [0.75, 0.75], rtol=1e-12)
    np.testing.assert_allclose(
        kernels(pruning.erdos_renyi_kernel(params, 0.75)), [22 / 27, 1 / 6], rtol=1e-12
    )


def test_a_layer_that_would_exceed_density_one_is_dense_and_the_rest_makes_up_for_it():
    # (100, 100) ratio 1/50, (2, 2) ratio 1; sparsity 1/2 keeps 5002; the small one is dense.
    found = kernels(pruning.erdos_renyi(network({"a": (100, 100), "b": (2, 2)}), 0.5))
    np.testing.assert_allclose(found, [1 - 4998 / 10_000, 0], rtol=1e-12)


def test_capping_can_take_several_rounds():
    # Ratios 0.11, 0.5, 1; first c is dense, then b; a has 510 - 20 of its 1000 weights left.
    shapes = {"a": (10, 100), "b": (4, 4), "c": (2, 2)}
    found = kernels(pruning.erdos_renyi(network(shapes), 0.5))
    assert found[1] == found[2] == 0.0
    assert found[0] * 1000 == pytest.approx(510)


def test_layers_of_one_ratio_are_capped_together():
    found = kernels(pruning.erdos_renyi(network({"a": (50, 50), "b": (2, 2), "c": (2, 2)}), 0.9))
    assert found[1] == found[2]


shapes = st.lists(st.lists(st.integers(1, 30), min_size=2, max_size=4).map(tuple), min_size=1, max_size=5)


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
@given(shapes=shapes, percent=st.integers(0, 99))
def test_the_total_is_kept_and_every_layer_is_in_range(allocation, shapes, percent):
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = allocation(params, percent / 100)
    sizes = [np.prod(shape) for shape in shapes]
    assert all(0 <= sparsity < 1 for sparsity in found)
    removed = float(np.dot(found, sizes))
    assert removed == pytest.approx(np.floor(percent / 100 * sum(sizes)), abs=1e-6 * sum(sizes))


def test_the_sparsity_of_uniform_may_be_traced():
    masks = jax.jit(lambda s: pruning.random_masks(jax.random.key(0), {"w": jnp.ones((4, 5))}, s))(0.75)
    assert int(masks["w"].sum()) == 5


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
def test_a_traced_sparsity_is_an_error_where_it_must_be_known(allocation):
    with pytest.raises(ValueError, match="concrete sparsity"):
        jax.jit(lambda s: allocation({"w": jnp.ones((2, 2))}, s))(0.5)


def test_a_predicate_of_the_caller_is_asked():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(4)}
    for allocation in (pruning.uniform, pruning.erdos_renyi, pruning.erdos_renyi_kernel):
        found = allocation(params, 0.5, prunable=lambda path, leaf: leaf.ndim == 1)
        assert found["kernel"] is None
        assert found["bias"] == pytest.approx(0.5)


def test_random_masks_take_any_allocation():
    params = {"a": jnp.ones((10, 10)), "b": jnp.ones((2, 2))}
    masks = pruning.random_masks(jax.random.key(0), params, 0.5, allocation=pruning.erdos_renyi_kernel)
    assert masks["b"].all()
    assert int((~masks["a"]).sum()) == 52


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
def test_a_layer_without_weights_is_harmless(allocation):
    found = allocation({"empty": jnp.ones((0, 3)), "full": jnp.ones((2, 2))}, 0.5)
    assert found["full"] == pytest.approx(0.5)
