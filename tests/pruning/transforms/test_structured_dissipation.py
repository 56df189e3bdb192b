"""Dissipating gradients with structure: it holds at every step, counts are exact, what moved stays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning

STEPS, MEMBERS = 7, 2
SPARSITIES = [0.25, 0.5, 0.75]
SHAPES = {"a": (8, 4), "b": (4, 8)}
LEVELS = np.array([0.375, 0.625])  # Between the sparsities.


def n_of_four(scores, sparsity):
    """3, 2 and then 1 of every 4 inputs."""
    each = [pruning.n_m_masks(scores, n, 4) for n in (3, 2, 1)]
    return jax.tree.map(lambda *masks: jnp.stack(masks)[jnp.sum(sparsity > LEVELS)], *each)


def in_blocks(leaf):
    """By the block of 2 inputs and 2 outputs, whose weights come last."""
    rows, columns = leaf.shape[-2] // 2, leaf.shape[-1] // 2
    parts = leaf.reshape(*leaf.shape[:-2], rows, 2, columns, 2).swapaxes(-3, -2)
    return parts.reshape(*leaf.shape[:-2], -1, 4)


def in_groups(leaf):
    """By the output and every 4 inputs of it, which come last."""
    return leaf.swapaxes(-1, -2).reshape(*leaf.shape[:-2], leaf.shape[-1], -1, 4)


# The selection, and the sets of weights that its structure is made of, along the last axis.
WHOLE = {
    "channels": (pruning.channel_masks, lambda leaf: leaf.swapaxes(-1, -2)),
    "blocks": (functools.partial(pruning.block_masks, block=(2, 2)), in_blocks),
}
EQUAL = {
    "fan-in": (pruning.constant_fan_in_masks, lambda leaf: leaf.swapaxes(-1, -2)),
    "n of 4": (n_of_four, in_groups),
}


@pytest.fixture(scope="module")
def histories():
    """Of each structure weights and masks after every step of two members, all compiled together."""
    draw = np.random.default_rng(0)
    start = {k: jnp.asarray(draw.normal(size=shape), jnp.float32) for k, shape in SHAPES.items()}
    updates = {
        k: jnp.asarray(draw.normal(size=(MEMBERS, STEPS, *shape)), jnp.float32)
        for k, shape in SHAPES.items()
    }

    def run(select, sparsities, updates):
        # Momentum and weight decay would revive what is not held.
        tx = optax.chain(
            optax.add_decayed_weights(0.1),
            optax.sgd(0.1, momentum=0.9),
            pruning.dissipate_to(sparsities, check_every=2, select=select),
        )

        def step(carry, gradients):
            params, state = carry
            moves, state = tx.update(gradients, state, params)
            params = optax.apply_updates(params, moves)
            return (params, state), (params, pruning.get_masks(state))

        return jax.lax.scan(step, (start, tx.init(start)), updates)[1]

    # The second member keeps what its first check leaves.
    sparsities = jnp.array([SPARSITIES, [0.25] * 3])

    @jax.jit
    def everything(updates):
        return {
            name: jax.vmap(functools.partial(run, select))(sparsities, updates)
            for name, (select, _) in (WHOLE | EQUAL).items()
        }

    return jax.device_get(everything(updates))


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE | EQUAL)
def test_structure_holds_at_every_step_and_counts_are_exact(histories, name):
    (weights, masks), sets = histories[name], (WHOLE | EQUAL)[name][1]
    by_step = [[0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75], [0, *[0.25] * 6]]
    for k in SHAPES:
        # The scan's steps come first after vmap's members.
        removed = np.mean(~masks[k], axis=(-1, -2))
        np.testing.assert_array_equal(removed, by_step)
        shares = np.mean(~sets(masks[k]), axis=-1)
        if name in WHOLE:
            assert set(np.unique(shares)) == {0, 1}
        else:
            assert (shares == removed.reshape(*removed.shape, *[1] * (shares.ndim - 2))).all()
        assert (weights[k][~masks[k]] == 0).all()
        assert (weights[k][masks[k]] != 0).all()
        assert not (masks[k][:, 1:] & ~masks[k][:, :-1]).any()  # What went does not return.


def kept(weights, initial, sparsity, select, start=None):
    """The masks after one check of a layer that ends up at these weights."""
    initial, weights = ({"w": jnp.asarray(leaf, jnp.float32)} for leaf in (initial, weights))
    masks = None if start is None else {"w": jnp.asarray(start, bool)}
    tx = pruning.dissipate_to([sparsity], check_every=1, select=select, masks=masks)
    moves = jax.tree.map(jnp.subtract, weights, initial)
    return np.asarray(
        pruning.get_masks(tx.update(moves, tx.init(initial), initial)[1])["w"], int
    ).tolist()


def test_units_are_judged_by_the_sum_of_relative_displacements():
    """1.5, 2 and 1.2: the large weight of the last unit has moved the furthest, but not in proportion."""
    initial, weights = [[1, 1, 10], [2, 4, 1]], [[2, 3, 20], [3, 4, 1.2]]
    assert kept(weights, initial, 0.5, pruning.channel_masks) == [[1, 1, 0], [1, 1, 0]]
    assert kept(weights, initial, 0.7, pruning.channel_masks) == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.slow
def test_what_is_pruned_already_counts_as_nothing_and_goes_first():
    initial = np.ones((2, 4))
    # The first unit is gone; of the second one weight has moved far, of the third none.
    start, weights = [[0, 0, 1, 1], [0, 1, 1, 1]], [[1, 1, 1, 1.1], [1, 1.5, 1, 1]]
    found = [kept(weights, initial, s, pruning.channel_masks, start) for s in (0.25, 0.5, 0.75)]
    assert found == [
        [[0, 0, 1, 1], [0, 1, 1, 1]],
        [[0, 0, 0, 1], [0, 1, 0, 1]],
        [[0, 0, 0, 0], [0, 1, 0, 0]],
    ]
    # A single weight that has not moved outlives one that is pruned, though that has the lower index.
    fan_in = pruning.constant_fan_in_masks
    found = kept(np.ones((4, 1)), np.ones((4, 1)), 0.5, fan_in, [[0], [1], [1], [1]])
    assert found == [[0], [1], [1], [0]]


@pytest.mark.slow
def test_what_began_at_zero_is_displaced_the_most_and_its_sums_are_finite():
    """Three weights of the second unit began at 0, two of the first and of the third, which lost one."""
    initial = [[0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 1, 1]]
    start = [[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]
    weights = [[1, 1, 1, 9], [1, 1, 1, 9], [1, 1, 1, 9]]
    for sparsity, units in ((0.25, [0, 1, 2]), (0.5, [0, 1]), (0.75, [1])):
        found = kept(weights, initial, sparsity, pruning.channel_masks, start)
        assert np.flatnonzero(np.any(found, axis=0)).tolist() == units


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no layout beside select"):
        pruning.dissipate_to([0.5], check_every=1, select=n_of_four, layout=pruning.flax_layout)
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 4\) at \['w'\], got \(4, 2\)"):
        kept(np.ones((2, 4)), np.ones((2, 4)), 0.5, lambda scores, s: {"w": jnp.ones((4, 2), bool)})


def test_a_selection_that_finds_nothing_to_rank_removes_nothing():
    """No weight has moved at the first check: a warm-up from rate 0, say."""
    initial = [[3.0, 1.0, 2.0, 4.0]]
    assert kept(initial, initial, 0.25, pruning.global_masks) == [[1, 1, 1, 1]]
    assert kept([[3.0, 1.0, 3.0, 9.0]], initial, 0.5, pruning.global_masks) == [[0, 0, 1, 1]]
