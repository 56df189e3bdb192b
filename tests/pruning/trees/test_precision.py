"""Transformations in short dtypes and under JAX's alarms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from pruning.masks.apportioning import apportioned, quotas
from pruning.trees.precision import at_least_float32, wider

WEIGHTS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
MASKS = {"w": jnp.arange(12).reshape(3, 4) % 2 == 0, "b": None}
# What ranks weights is tested with selection.
BANDS = {
    "hold_masks": lambda: pruning.hold_masks(MASKS),
    "dissipate": lambda: pruning.dissipate(0.1, check_every=2, stop_after=4),
    "dissipate_settled": lambda: pruning.dissipate_settled(0.1, check_every=2, stop_after=4),
}
RANKS = {
    "dissipate_to": lambda: pruning.dissipate_to([0.25, 0.5], check_every=1),
    "gradual_magnitude": lambda: pruning.gradual_magnitude([0.25, 0.5], check_every=1),
}
SUMS = {
    "accumulate_gradients": pruning.accumulate_gradients,
    "accumulate_signed_gradients": pruning.accumulate_signed_gradients,
}
EIGHT_BITS = ["float8_e5m2", "float8_e4m3fnuz"]  # the second has but one zero


def after_three_steps(tx, dtype="float32", weights=WEIGHTS, *, compiled=True):
    """Params and state; every other step moves every weight by 30 %."""
    params = {"w": jnp.array(weights, dtype), "b": jnp.ones(4, dtype)}
    state, update = tx.init(params), jax.jit(tx.update) if compiled else tx.update
    for step in range(3):
        moves = jax.tree.map(
            lambda p, r=0.3 * (step % 2): (p.astype("float32") * r).astype(dtype), params
        )
        moves, state = update(moves, state, params)
        params = optax.apply_updates(params, moves)
    return params, state


def assert_zero_where_pruned(params, state):
    kept = np.asarray(pruning.get_masks(state)["w"])
    assert 0 < kept.sum() <= 12
    assert (np.asarray(params["w"], np.float32)[~kept] == 0).all()


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("make", [*BANDS.values(), *RANKS.values()], ids=[*BANDS, *RANKS])
def test_weights_of_eight_bits_are_pruned(make, dtype):
    params, state = after_three_steps(make(), dtype)
    assert params["w"].dtype == dtype
    assert_zero_where_pruned(params, state)


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("make", SUMS.values(), ids=SUMS)
def test_gradients_of_eight_bits_are_summed_in_float32(make, dtype):
    _, state = after_three_steps(make(), dtype)
    assert state.gradient_sums["w"].dtype == jnp.float32
    moved = (jnp.array(WEIGHTS, dtype).astype("float32") * 0.3).astype(dtype).astype("float32")
    expected = jnp.abs(moved) if make is pruning.accumulate_gradients else moved
    np.testing.assert_array_equal(state.gradient_sums["w"], expected)


@pytest.mark.parametrize("dtype", EIGHT_BITS)
def test_displacement_and_fitness_of_eight_bits_are_float32(dtype):
    now, start = {"w": jnp.full((1, 2), 2, dtype)}, {"w": jnp.ones((1, 2), dtype)}
    assert pruning.displacement_scores(now, start)["w"].tolist() == [[1, 1]]
    masks = {"w": jnp.ones((1, 1, 2), bool)}
    assert pruning.weight_fitness({"w": now["w"][None]}, None, masks).tolist() == [2]


@pytest.mark.parametrize("make", [*BANDS.values(), *SUMS.values()], ids=[*BANDS, *SUMS])
def test_a_dtype_without_a_zero_is_refused(make):
    with pytest.raises(ValueError, match=r"dtype that has a zero.*\['w'\], got float8_e8m0fnu"):
        after_three_steps(make(), "float8_e8m0fnu", np.ones((3, 4)))


@pytest.mark.slow
def test_strict_promotion_of_what_is_apportioned():
    with jax.numpy_dtype_promotion("strict"):
        counts = apportioned(quotas(0.5, [0.5, 0.5], [3, 5]), [3, 5], jnp.zeros(2, jnp.int32))
    assert counts.tolist() == [2, 2]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("make", [*BANDS.values(), *RANKS.values()], ids=[*BANDS, *RANKS])
def test_no_alarm_is_raised(make, compiled):
    """Weights that begin at zero, stay, leave and come back; neither NaN nor infinity on the way."""
    weights = np.where(np.arange(12).reshape(3, 4) < 3, 0, WEIGHTS)
    with jax.debug_nans(True), jax.debug_infs(True):
        params, state = after_three_steps(make(), weights=weights, compiled=compiled)
    assert_zero_where_pruned(params, state)


@pytest.mark.parametrize("fraction", [1.0, 1e9, np.inf])
def test_a_weight_that_left_a_wide_band_stays_out_of_it(fraction):
    """What marks it as gone is a number like others; no band is wide enough to hold it."""
    tx = pruning.dissipate_settled(fraction, check_every=1, stop_after=9)
    params = {"w": jnp.array([[1.0, 1.0]])}
    state = tx.init(params)
    left = state._replace(initial={"w": state.initial["w"].at[0, 0].set(jnp.finfo(jnp.float32).min)})
    kept = tx.update({"w": jnp.zeros((1, 2))}, left, params)[1].masks["w"]
    assert kept.tolist() == [[True, False]]


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_fractions_that_were_rounded_to_the_dtype_of_the_params_are_refused(dtype):
    params = {"w": jnp.ones((3, 4), dtype)}
    for form in (pruning.dissipate, pruning.dissipate_settled):
        knobs = {"fraction": 0.1, "check_every": 1, "stop_after": 2}
        with pytest.raises(ValueError, match=rf"got {dtype}.*hyperparam_dtype=jnp\.float32"):
            optax.inject_hyperparams(form)(**knobs).init(params)
        injected = optax.inject_hyperparams(form, hyperparam_dtype=jnp.float32)(**knobs)
        jax.jit(injected.update)(params, injected.init(params), params)
    for scheduled in (pruning.dissipate_to, pruning.gradual_magnitude):
        knobs = {"sparsities": np.array([0.5]), "check_every": 1}
        with pytest.raises(ValueError, match=rf"got {dtype}.*hyperparam_dtype=jnp\.float32"):
            optax.inject_hyperparams(scheduled)(**knobs).init(params)
        injected = optax.inject_hyperparams(scheduled, hyperparam_dtype=jnp.float32)(**knobs)
        _, state = injected.update(params, injected.init(params), params)
        assert pruning.sparsity(pruning.get_masks(state)) == 0.5
    for whole in (pruning.accumulate_gradients, pruning.accumulate_signed_gradients):
        injected = optax.inject_hyperparams(whole)(first=2)
        _, state = injected.update(params, injected.init(params), params)
        assert state.inner_state.gradient_sums["w"].dtype == jnp.float32
    held = optax.inject_hyperparams(pruning.hold_masks)({"w": params["w"] > 0})
    assert pruning.get_masks(held.init(params))["w"].all()


def test_the_dtypes_that_are_chosen():
    assert at_least_float32(jnp.bfloat16) == at_least_float32(jnp.float8_e5m2) == jnp.float32
    assert at_least_float32(np.float64) == jnp.float32  # As JAX takes NumPy's arrays.
    with jax.enable_x64(True):
        assert at_least_float32(np.float64) == jnp.float64
    assert wider(jnp.bfloat16, jnp.float16) == wider(jnp.float8_e5m2, jnp.float32) == jnp.float32
    assert wider(jnp.float8_e5m2, jnp.float8_e4m3fn) == jnp.bfloat16


def test_strict_promotion_of_float64():
    """The cure for what underflows is float64, so it is as strict as other dtypes."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        params = {"w": jax.random.normal(jax.random.key(0), (4, 4), jnp.float64)}
        batches = [jnp.ones((1, 4), jnp.float64)] * 2
        loss = lambda params, x: jnp.sum(jnp.square(x @ params["w"]))  # noqa: E731
        scores = [
            pruning.magnitude_scores(params),
            pruning.prospr_scores(loss, params, batches, learning_rate=jnp.float32(0.1)),
            pruning.ntk_sap_scores(
                jax.random.key(1),
                lambda key: {"w": jax.random.normal(key, (4, 4), jnp.float32)},
                lambda params, x: x @ params["w"],
                jnp.ones((1, 4), jnp.float32),
                pruning.full_masks(params),
                noise=jnp.float32(0.1),
            ),
        ]
        for of_method in scores:
            assert pruning.count_kept(pruning.global_masks(of_method, 0.5)) == 8
        masks = pruning.global_masks(scores[0], 0.5)
        assert pruning.count_kept(pruning.mutate_masks(jax.random.key(2), masks, 0.5)) == 8
        knobs = {"check_every": 1, "stop_after": 1, "drop_fraction": lambda step: jnp.float64(0.5)}
        tx = pruning.rigl(optax.sgd(0.1), masks, **knobs)
        _, state = jax.jit(tx.update)(params, tx.init(params), pruning.apply_masks(params, masks))
        assert pruning.count_kept(state.masks) == 8
        several = jax.tree.map(lambda leaf: leaf[None], (params, masks))
        assert pruning.weight_fitness(several[0], None, several[1]).dtype == jnp.float64
        assert pruning.cubic_sparsities(0.5, 5, initial=jnp.float32(0.1))[-1] == 0.5


def test_float64_of_numpy_is_taken_without_a_warning(recwarn):
    params = {"w": np.ones((2, 2))}
    masks = pruning.full_masks(params)
    pruning.apply_masks(params, masks)
    pruning.snip_scores(lambda params, x: jnp.sum(x * params["w"]), params, [jnp.ones((2, 2))])
    pruning.initial_gates(params, 0.5)
    pruning.sparse_kaiming_normal(jax.random.key(0), params, masks)
    pruning.accumulate_gradients().init(params)
    assert not recwarn
