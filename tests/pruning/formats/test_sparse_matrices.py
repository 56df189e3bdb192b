"""SciPy and JAX read the matrices back, and multiply by them as the dense kernels do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import pruning
from train.models import make_model

LENET = jax.tree.map(
    jnp.asarray,
    jax.jit(make_model("lenet-5", num_classes=3).init)(jax.random.key(0), jnp.ones((1, 16, 16, 1))),
)["params"]
MASKS = pruning.random_masks(jax.random.key(1), LENET, 0.9)


def matrix(kernel):
    """(out, everything else)."""
    return np.moveaxis(np.asarray(kernel), -1, 0).reshape(kernel.shape[-1], -1)


def test_compressed_rows_are_those_of_the_masked_kernels():
    rows, masked = pruning.sparse_rows(LENET, MASKS), pruning.apply_masks(LENET, MASKS)
    for layer in LENET:
        found, kernel = rows[layer]["kernel"], masked[layer]["kernel"]
        read = scipy.sparse.csr_array((found.data, found.indices, found.indptr), found.shape)
        assert read.has_canonical_format
        np.testing.assert_array_equal(read.toarray(), matrix(kernel))
    assert rows["conv1"]["bias"] is None


def test_compressed_blocks_are_those_of_the_masked_kernels():
    dense = {"w": LENET["dense1"]["kernel"]}
    masks = pruning.block_masks(pruning.magnitude_scores(dense), 0.8, block=(5, 4))
    found = pruning.sparse_blocks(dense, masks, block=(4, 5))["w"]
    assert found.data.shape == (250, 4, 5)
    read = scipy.sparse.bsr_array((found.data, found.indices, found.indptr), found.shape)
    np.testing.assert_array_equal(read.toarray(), matrix(pruning.apply_masks(dense, masks)["w"]))


def test_the_layout_says_what_a_row_is():
    params = {"query": {"kernel": jnp.arange(24.0).reshape(2, 3, 4)}}
    rows = pruning.sparse_rows(params, pruning.full_masks(params))["query"]["kernel"]
    assert rows.shape == (12, 2)
    out_first = pruning.sparse_rows(
        {"w": jnp.arange(6.0).reshape(2, 3)}, {"w": jnp.ones((2, 3), bool)}, layout=pruning.equinox_layout
    )
    assert out_first["w"].shape == (2, 3)


def test_coordinates_multiply():
    sparse = pruning.sparse_coordinates(LENET, MASKS)["dense1"]["kernel"]
    kernel = pruning.apply_masks(LENET, MASKS)["dense1"]["kernel"]
    np.testing.assert_array_equal(sparse.todense(), kernel)
    x = jax.random.normal(jax.random.key(2), (2, len(kernel)))
    np.testing.assert_allclose(jax.jit(lambda x, w: x @ w)(x, sparse), x @ kernel, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_named():
    params = {"blocks": {"kernel": jnp.ones((2, 4, 6))}}
    masks = pruning.full_masks(params)
    with pytest.raises(ValueError, match=r"one layer at \['blocks'\]\['kernel'\], got a stack of \(2,\)"):
        pruning.sparse_rows(params, masks, layout=pruning.stacked_layout("blocks"))
    params = {"w": jnp.ones((4, 6))}
    masks = pruning.full_masks(params)
    with pytest.raises(
        ValueError, match=r"blocks of \(4, 2\) to divide the 6 outputs and 4 inputs of \['w'\]"
    ):
        pruning.sparse_blocks(params, masks, block=(4, 2))
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda p: pruning.sparse_rows(p, masks)["w"].data)(params)


@pytest.mark.parametrize("block", [4, (2.0, 1), (2,), (2, 2, 2), (0, 1), None])
def test_a_block_is_two_whole_numbers(block):
    params = {"w": jnp.ones((4, 6))}
    with pytest.raises(
        ValueError, match="a block as two whole numbers, outputs and inputs, of 1 or more"
    ):
        pruning.sparse_blocks(params, pruning.full_masks(params), block=block)


@pytest.mark.parametrize("shape", [(3, 0), (0, 3)])
def test_a_kernel_without_weights_is_an_empty_matrix(shape):
    rows = pruning.sparse_rows({"w": np.ones(shape)}, {"w": np.ones(shape, bool)})["w"]
    assert rows.shape == shape[::-1]
    assert rows.indptr.tolist() == [0] * (shape[1] + 1)
