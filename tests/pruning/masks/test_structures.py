"""Structured masks: groups along the contracting axes, exact counts, ties, layouts, references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from tests.pruning.oracles import FOLDER, needs_oracles

KEY = jax.random.key(0)
DENSE = {"dense": {"kernel": jax.random.uniform(KEY, (8, 6))}}
CONV = {"conv": {"kernel": jax.random.uniform(KEY, (3, 3, 8, 4))}}


@needs_oracles
@pytest.mark.parametrize("case", ["dense_16_10", "dense_24_7", "conv_3x3_8_5", "conv_1x1_16_6"])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_n_of_m_are_the_references(case, n, m):
    """Without ties, and with them by our rule, the lower index."""
    with np.load(FOLDER / "nm_masks.npz") as file:
        for name, rule in ((case, ""), (f"{case}_ties", "_lower_index")):
            kernel = {"w": jnp.asarray(file[f"{name}/kernel"])}
            found = pruning.n_m_masks(pruning.magnitude_scores(kernel), n, m)
            np.testing.assert_array_equal(found["w"], file[f"{name}/mask_{n}_{m}{rule}"].astype(bool))


def test_groups_lie_along_the_inputs():
    dense = pruning.n_m_masks(DENSE, 2, 4)["dense"]["kernel"]
    np.testing.assert_array_equal(dense.reshape(2, 4, 6).sum(1), 2)
    conv = pruning.n_m_masks(CONV, 1, 4)["conv"]["kernel"]
    np.testing.assert_array_equal(conv.reshape(3, 3, 2, 4, 4).sum(3), 1)
    torch = {"w": jax.random.uniform(KEY, (6, 8, 3, 3))}
    found = pruning.n_m_masks(torch, 2, 4, layout=pruning.equinox_layout)["w"]
    np.testing.assert_array_equal(found.reshape(6, 2, 4, 3, 3).sum(2), 2)
    # Attention: in is first of query's kernel, and heads and their dimension lead into out's.
    attention = {
        "attention": {
            "query": {"kernel": jax.random.uniform(KEY, (8, 2, 3))},
            "out": {"kernel": jax.random.uniform(KEY, (2, 2, 5))},
        }
    }
    found = pruning.n_m_masks(attention, 2, 4)["attention"]
    np.testing.assert_array_equal(found["query"]["kernel"].reshape(2, 4, 2, 3).sum(1), 2)
    np.testing.assert_array_equal(found["out"]["kernel"].sum((0, 1)), 2)


@pytest.mark.parametrize(
    ("tree", "n", "m", "says"),
    [
        (DENSE, 5, 4, "n from 1 to m, got n = 5 and m = 4"),
        (DENSE, 0, 4, "n from 1 to m, got n = 0"),
        (DENSE, 2, 3, r"3 to divide the 8 inputs of \['dense'\]\['kernel'\] \(axes \(0,\) of \(8, 6\)\)"),
        ({"w": jnp.full((4, 1), jnp.nan)}, 1, 4, "NaN"),
    ],
)
def test_groups_that_do_not_fit_are_refused(tree, n, m, says):
    with pytest.raises(ValueError, match=says):
        pruning.n_m_masks(tree, n, m)


@pytest.mark.slow
def test_every_unit_keeps_as_many():
    for sparsity in (0.0, 0.3, 0.9):
        found = pruning.constant_fan_in_masks(DENSE | CONV, sparsity)
        dense, conv = found["dense"]["kernel"], found["conv"]["kernel"]
        np.testing.assert_array_equal((~dense).sum(0), pruning.pruned_count(sparsity, 8))
        np.testing.assert_array_equal((~conv).sum((0, 1, 2)), pruning.pruned_count(sparsity, 72))
    lowest = jnp.min(jnp.where(dense, DENSE["dense"]["kernel"], jnp.inf), 0)
    assert (jnp.where(dense, 0, DENSE["dense"]["kernel"]) < lowest[None]).all()


def test_units_and_blocks_go_whole_and_the_lowest_first():
    kernel = CONV["conv"]["kernel"]
    found = pruning.channel_masks(CONV, 0.5)["conv"]["kernel"]
    sums = kernel.sum((0, 1, 2))
    np.testing.assert_array_equal(found, jnp.broadcast_to(sums >= jnp.sort(sums)[2], kernel.shape))
    found = pruning.block_masks(CONV, 0.7, block=(4, 2))["conv"]["kernel"]
    blocks = found.reshape(9, 2, 4, 2, 2).transpose(0, 1, 3, 2, 4).reshape(36, 8)
    assert set(blocks.sum(1).tolist()) == {0, 8}
    sums = kernel.reshape(9, 2, 4, 2, 2).sum((2, 4)).ravel()
    np.testing.assert_array_equal(blocks[:, 0], sums >= jnp.sort(sums)[pruning.pruned_count(0.7, 36)])


@pytest.mark.slow
def test_stacked_layers_are_selected_each_by_itself():
    stacked = {
        "blocks": {"kernel": jax.random.uniform(KEY, (3, 8, 6)) * jnp.array([1, 9, 99])[:, None, None]}
    }
    layout = pruning.stacked_layout("blocks")
    for select in (
        lambda tree, **how: pruning.n_m_masks(tree, 2, 4, **how),
        lambda tree, **how: pruning.constant_fan_in_masks(tree, 0.5, **how),
        lambda tree, **how: pruning.channel_masks(tree, 0.5, **how),
        lambda tree, **how: pruning.block_masks(tree, 0.5, block=(4, 3), **how),
    ):
        found = select(stacked, layout=layout)["blocks"]["kernel"]
        for place in range(3):
            alone = select({"w": stacked["blocks"]["kernel"][place]})["w"]
            np.testing.assert_array_equal(found[place], alone)


@pytest.mark.parametrize(
    ("block", "sparsity", "says"),
    [
        ((3, 2), 0.5, r"blocks of \(3, 2\) to divide the 8 inputs and 6 outputs of \['dense'\]"),
        ((0, 2), 0.5, "expected a block as two whole numbers"),
        ((2, 2), 1.0, r"sparsity in \[0, 1\)"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(block, sparsity, says):
    with pytest.raises(ValueError, match=says):
        pruning.block_masks(DENSE, sparsity, block=block)


@pytest.mark.slow
def test_sums_of_a_short_dtype_neither_tie_nor_overflow():
    steps = jnp.arange(1, 9, dtype=jnp.float16)
    large = {"w": jnp.broadcast_to(40 * steps, (2000, 8))}  # Sums of 80,000 and more.
    kept = pruning.channel_masks(large, 0.5)["w"][0]
    assert kept.tolist() == [False] * 4 + [True] * 4
    blocks = pruning.block_masks(large, 0.5, block=(2000, 1))["w"][0]
    assert blocks.tolist() == kept.tolist()
    units = 1 + jax.random.uniform(jax.random.key(0), (1024, 64)).astype(jnp.bfloat16)
    exact = pruning.channel_masks({"w": units.astype(jnp.float32)}, 0.5)
    np.testing.assert_array_equal(pruning.channel_masks({"w": units}, 0.5)["w"], exact["w"])


@pytest.mark.parametrize(("n", "m"), [(1.5, 4), (1, 4.0), (0, 4), (5, 4)])
def test_groups_are_whole_numbers(n, m):
    with pytest.raises(ValueError, match=f"whole numbers, n from 1 to m, got n = {n} and m = {m}"):
        pruning.n_m_masks({"w": jnp.ones((8, 4))}, n, m)


@pytest.mark.parametrize("block", [2, (2,), (2.0, 2), (0, 2)])
def test_blocks_are_two_whole_numbers(block):
    with pytest.raises(ValueError, match="expected a block as two whole numbers"):
        pruning.block_masks({"w": jnp.ones((8, 4))}, 0.5, block=block)
