"""Gradual magnitude pruning: which weights go when, by network or by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning

PARAMS = {"a": jnp.array([[5.0, 1.0, 7.0, 2.0]]), "b": jnp.array([[3.0, -4.0], [6.0, -8.0]])}


def trained(tx, params, steps, rate=0.0):
    """Params and masks after each step; the gradient is the sign of the weight, times the rate."""
    chain = optax.chain(optax.sgd(1.0), tx)
    state = chain.init(params)
    seen = []
    for _ in range(steps):
        gradients = jax.tree.map(lambda leaf: rate * jnp.sign(leaf), params)
        updates, state = chain.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        seen.append((params, pruning.get_masks(state)))
    return seen


def removed(masks):
    return [int(jnp.sum(~leaf)) for leaf in jax.tree.leaves(masks)]


def test_the_smallest_go_at_each_check_and_stay_away():
    tx = pruning.gradual_magnitude([0.25, 0.5], check_every=2, start_after=1)
    seen = trained(tx, PARAMS, 7)
    assert [sum(removed(masks)) for _, masks in seen] == [0, 0, 2, 2, 4, 4, 4]
    last, masks = seen[-1]
    np.testing.assert_array_equal(last["a"], [[5, 0, 7, 0]])
    np.testing.assert_array_equal(last["b"], [[0, 0], [6, -8]])
    np.testing.assert_array_equal(masks["a"], [[True, False, True, False]])


def test_the_weights_after_the_update_are_judged():
    """Before the step 2 is smaller than 3; the step takes the 3 to 1."""
    tx = optax.chain(optax.sgd(1.0), pruning.gradual_magnitude([0.5], check_every=1))
    params = {"w": jnp.array([[3.0, 2.0]])}
    updates, state = tx.update({"w": jnp.array([[2.0, 0.0]])}, tx.init(params), params)
    np.testing.assert_array_equal(optax.apply_updates(params, updates)["w"], [[0, 2]])
    np.testing.assert_array_equal(pruning.get_masks(state)["w"], [[False, True]])


@pytest.mark.slow
def test_an_allocation_ranks_each_layer_by_itself():
    tx = pruning.gradual_magnitude([0.25, 0.5], check_every=1, allocation=pruning.uniform)
    seen = trained(tx, PARAMS, 2)
    assert [removed(masks) for _, masks in seen] == [[1, 1], [2, 2]]
    np.testing.assert_array_equal(seen[-1][0]["b"], [[0, 0], [6, -8]])
    assert removed(trained(pruning.gradual_magnitude([0.25], check_every=1), PARAMS, 1)[0][1]) == [2, 0]


# Layers whose shares are seldom whole numbers.
UNEVEN = {name: jnp.ones((1, size)) for name, size in zip("abcdef", (1, 7, 13, 31, 64, 148), strict=True)}
RISING = [0.1, 0.15, 0.16, 0.17, 0.4, 0.41, 0.93]


def counts_of_layers(sparsities, allocation, traced=False):
    """How many weights each layer has lost after each check, shape (checks, layers)."""

    def counts(sparsities):
        tx = pruning.gradual_magnitude(sparsities, check_every=1, allocation=allocation)

        def step(state, _):
            _, state = tx.update(UNEVEN, state, UNEVEN)
            return state, jnp.stack([jnp.sum(~mask) for mask in state.masks.values()])

        return jax.lax.scan(step, tx.init(UNEVEN), length=len(sparsities))[1]

    return jax.jit(counts)(jnp.array(sparsities)) if traced else jax.jit(lambda: counts(sparsities))()


def test_no_layer_is_emptied_for_the_total():
    found = counts_of_layers([0.99], pruning.uniform)
    assert found.tolist() == [[leaf.size - 1 for leaf in UNEVEN.values()]]


@pytest.mark.parametrize(
    ("allocation", "traced"),
    [
        pytest.param(pruning.uniform, False, marks=pytest.mark.slow),
        pytest.param(pruning.uniform, True, marks=pytest.mark.slow),
        (pruning.erdos_renyi, False),
        pytest.param(pruning.ideal_gas_quotas, False, marks=pytest.mark.slow),
    ],
)
def test_with_an_allocation_the_network_loses_exactly_the_sparsity(allocation, traced):
    found = counts_of_layers(RISING, allocation, traced)
    assert found.sum(axis=1).tolist() == [pruning.pruned_count(s, 264) for s in RISING]
    for sparsity, check in zip(RISING, np.asarray(found), strict=True):
        layers = allocation(UNEVEN, sparsity).values()
        asked = np.array([s * leaf.size for s, leaf in zip(layers, UNEVEN.values(), strict=True)])
        assert (np.abs(check - asked) < 1 + 1e-6).all()
    assert (np.diff(found, axis=0) >= 0).all()


@pytest.mark.parametrize("kind", [jnp.asarray, np.float32, lambda s: [jnp.float32(v) for v in s]])
def test_an_allocation_takes_arrays_of_sparsities_outside_jit(kind):
    """They are concrete, also where the check's branch is compiled."""
    tx = pruning.gradual_magnitude(kind([0.29]), check_every=1, allocation=pruning.erdos_renyi)
    params = {"a": jnp.arange(1.0, 61.0).reshape(6, 10), "b": jnp.arange(1.0, 41.0).reshape(4, 10)}
    _, state = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    assert sum(int((~mask).sum()) for mask in jax.tree.leaves(state.masks)) == 29


def test_an_allocation_is_over_the_layers_that_have_masks():
    masks = {"a": jnp.ones((2, 4), bool), "b": None}
    tx = pruning.gradual_magnitude([0.5], check_every=1, allocation=pruning.uniform, masks=masks)
    params = {"a": jnp.arange(1.0, 9.0).reshape(2, 4), "b": jnp.ones((2, 4))}
    _, state = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    assert state.masks["b"] is None
    np.testing.assert_array_equal(state.masks["a"], params["a"] > 4)


@pytest.mark.slow
def test_an_allocation_that_spares_layers_on_purpose_is_followed():
    def first_alone(params, sparsity, *, prunable):
        return {name: sparsity if name == "a" else 0.0 for name in params}

    params = {"a": jnp.ones((1, 9)), "b": jnp.ones((1, 9)), "c": jnp.ones((1, 9))}
    tx = pruning.gradual_magnitude([0.5], check_every=1, allocation=first_alone)
    assert removed(trained(tx, params, 1)[-1][1]) == [4, 0, 0]


@pytest.mark.slow
def test_masks_that_prune_one_layer_already_leave_the_others_their_share():
    masks = {"a": jnp.arange(10)[None] < 2, "b": jnp.ones((1, 11), bool), "c": jnp.ones((1, 12), bool)}
    params = jax.tree.map(lambda mask: jnp.ones(mask.shape), masks)
    tx = pruning.gradual_magnitude([0.4], check_every=1, allocation=pruning.uniform, masks=masks)
    assert removed(trained(tx, params, 1)[-1][1]) == [8, 4, 5]


@pytest.mark.slow
def test_sparsities_are_data_under_vmap():
    def last(sparsities):
        return trained(pruning.gradual_magnitude(sparsities, check_every=2), PARAMS, 4)[-1][1]

    sparsities = jnp.array([[0.25, 0.5], [0.5, 0.75], [0.0, 0.0]])
    found = jax.jit(jax.vmap(last))(sparsities)
    counts = sum(jnp.sum(~leaf.reshape(3, -1), axis=1) for leaf in jax.tree.leaves(found))
    assert counts.tolist() == [4, 6, 0]


def test_sparsities_may_be_traced_one_by_one():
    def last(first, second):
        return trained(pruning.gradual_magnitude([first, second], check_every=2), PARAMS, 4)[-1][1]

    assert sum(removed(jax.jit(last)(0.25, 0.5))) == 4


def test_the_cubic_schedule_by_hand():
    found = pruning.cubic_sparsities(0.8, 4, initial=0.16)
    np.testing.assert_allclose(found, [0.8 - 0.64 * left**3 for left in (0.75, 0.5, 0.25, 0)])
    traced = jax.jit(lambda s: pruning.cubic_sparsities(s, 4, initial=0.16))(0.8)
    np.testing.assert_allclose(traced, found, rtol=1e-6)
    assert found[-1] == 0.8


def test_it_begins_with_given_masks():
    masks = {"a": jnp.array([[True, True, False, True]]), "b": jnp.ones((2, 2), bool)}
    tx = pruning.gradual_magnitude([0.25], check_every=1, masks=masks)
    assert removed(trained(tx, PARAMS, 1)[0][1]) == [2, 0]  # the 7 was gone; the 1 goes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pruning.gradual_magnitude([], check_every=1), "a sequence of sparsities"),
        (lambda: pruning.gradual_magnitude([0.5, 0.4], check_every=1), "do not decrease"),
        (lambda: pruning.gradual_magnitude([0.5, 1.0], check_every=1), r"sparsities\[1\]"),
        (lambda: pruning.gradual_magnitude([0.5], check_every=0), "check_every >= 1"),
        (lambda: pruning.gradual_magnitude([0.5], check_every=1, start_after=-1), "start_after >= 0"),
        (lambda: pruning.gradual_magnitude([0.5], check_every=1).init({"b": jnp.ones(2)}), "prunable"),
        (lambda: pruning.cubic_sparsities(0.5, 0), "checks"),
        (lambda: pruning.cubic_sparsities(0.5, 3, initial=0.6), "an initial sparsity up to the last"),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"z": 0.0, "y": 0.9}, r"a sparsity for each layer, got .* \['a'\] against nothing"),
        (0.5, "a sparsity for each layer, got .* a dict against a leaf"),
        (
            {"a": np.full(3, 0.5), "c": 0.3},
            r"one sparsity at \['a'\], or .* got shape \(3,\) for \(4, 2\)",
        ),
        ({"a": 0.5, "c": 1.5}, r"the sparsity of \['c'\] in \[0, 1\)"),
    ],
)
def test_an_allocation_that_does_not_fit_is_refused(given, says):
    params = {"a": jnp.ones((4, 2)), "c": jnp.ones((4, 2))}
    tx = pruning.gradual_magnitude([0.5], check_every=1, allocation=lambda *_, prunable: given)
    with pytest.raises(ValueError, match=says):
        tx.update(params, tx.init(params), params)


@pytest.mark.parametrize(
    "make",
    [pruning.dissipate_to, pruning.gradual_magnitude, lambda *a, **k: pruning.rare_gems(1, 1, *a, **k)],
)
def test_checks_beyond_what_steps_count_are_refused(make):
    with pytest.raises(ValueError, match=r"len\(sparsities\) \* check_every <= 2147483647"):
        make([0.2, 0.5, 0.6], check_every=2**30)
