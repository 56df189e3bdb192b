import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning

PARAMS = {"w": jnp.ones((1, 2)), "b": jnp.ones(2)}
HALF = jnp.array([[True, False]])
MASKS = {"w": jnp.array([[True, False]]), "b": None}
GRADIENTS = [{"w": jnp.array([[g, -2 * g]]), "b": jnp.ones(2)} for g in (1.0, -10.0, 100.0, -1000.0)]


def sums_after(tx, gradients=GRADIENTS, params=PARAMS):
    state, update = tx.init(params), jax.jit(tx.update)
    for gradient in gradients:
        updates, state = update(gradient, state)
        for one, other in zip(jax.tree.leaves(updates), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_array_equal(one, other)
    return optax.tree.get(state, "gradient_sums")


@pytest.mark.parametrize(
    ("window", "absolute", "signed"),
    [
        ({}, 1111, -909),
        ({"first": 2}, 1110, -910),
        ({"last": 2}, 11, -9),
        ({"first": 2, "last": 3}, 110, 90),
        ({"first": 3, "last": 3}, 100, 100),
        ({"first": 5}, 0, 0),
        ({"first": 4, "last": 9}, 1000, -1000),
    ],
)
def test_sums_over_a_window_of_steps(window, absolute, signed):
    assert sums_after(pruning.accumulate_gradients(**window))["w"].tolist() == [[absolute, 2 * absolute]]
    assert sums_after(pruning.accumulate_signed_gradients(**window))["w"].tolist() == [
        [signed, -2 * signed]
    ]


def test_only_prunable_leaves_are_summed_and_in_float32():
    params = {"w": jnp.ones((1, 2), jnp.bfloat16), "b": jnp.ones(2, jnp.bfloat16)}
    gradient = {"w": jnp.full((1, 2), 1.0, jnp.bfloat16), "b": params["b"]}
    sums = sums_after(pruning.accumulate_gradients(), [gradient] * 300, params)
    assert sums["b"] is None
    assert sums["w"].dtype == jnp.float32
    assert sums["w"].tolist() == [[300, 300]]  # bfloat16 stops at 256


def test_the_sums_are_found_in_a_chain_and_are_of_raw_gradients():
    tx = optax.chain(pruning.accumulate_gradients(), optax.adam(0.1), pruning.hold_masks(MASKS))
    state = tx.init(PARAMS)
    for gradient in GRADIENTS:
        _, state = tx.update(gradient, state, PARAMS)
    assert optax.tree.get(state, "gradient_sums")["w"].tolist() == [[1111, 2222]]


@pytest.mark.parametrize("form", [pruning.accumulate_gradients, pruning.accumulate_signed_gradients])
@pytest.mark.parametrize("window", [{"first": 0}, {"first": -1}, {"first": 3, "last": 2}, {"last": 0}])
def test_a_window_that_is_empty_is_an_error(form, window):
    with pytest.raises(ValueError, match=r"expected (first|last) >= [13], a whole number of steps"):
        form(**window)


def test_accumulating_over_a_window_that_is_a_hyperparameter():
    tx = optax.inject_hyperparams(pruning.accumulate_gradients)(first=2)
    state = tx.init(PARAMS)
    for _ in range(3):
        _, state = jax.jit(tx.update)({"w": jnp.ones((1, 2)), "b": jnp.ones(2)}, state)
    assert optax.tree.get(state, "gradient_sums")["w"].tolist() == [[2, 2]]


def test_no_masks_is_an_error():
    with pytest.raises(ValueError, match=r"got none; add pruning\.hold_masks"):
        pruning.get_masks(optax.adam(0.1).init(PARAMS))


def test_several_masks_are_an_error_that_names_them():
    tx = optax.chain(pruning.hold_masks(MASKS), pruning.dissipate(0.1, check_every=1, stop_after=1))
    with pytest.raises(ValueError, match="HoldMasksState, DissipateState"):
        pruning.get_masks(tx.init(PARAMS))


def dissipating(masks):
    return pruning.dissipate(0.0, check_every=9, stop_after=9, masks=masks)


ADD_UP = {
    "accumulate_gradients": pruning.accumulate_gradients(),
    "accumulate_signed_gradients": pruning.accumulate_signed_gradients(),
}
PRUNE = {
    "dissipate": dissipating(None),
    "dissipate_settled": pruning.dissipate_settled(0.1, check_every=1, stop_after=1),
    "dissipate_to": pruning.dissipate_to(np.array([0.5]), check_every=1),
    "gradual_magnitude": pruning.gradual_magnitude([0.5], check_every=1),
}
HOLD = {"hold_masks": pruning.hold_masks(MASKS)}
HOLD["hold_outside"] = pruning.hold_outside(HOLD["hold_masks"])


@pytest.mark.parametrize("name", PRUNE | HOLD)
def test_the_update_asks_for_params_in_any_chain(name):
    tx = (PRUNE | HOLD)[name]
    for chained in (tx, optax.chain(optax.sgd(0.1), tx)):
        with pytest.raises(ValueError, match=f"{name} needs the params"):
            chained.update(PARAMS, chained.init(PARAMS))


@pytest.mark.parametrize("tx", (ADD_UP | PRUNE).values(), ids=ADD_UP | PRUNE)
def test_a_tree_with_nothing_prunable_is_an_error(tx):
    for params in ({"b": jnp.ones(2)}, {}):
        with pytest.raises(ValueError, match="prunable"):
            tx.init(params)


@pytest.mark.parametrize("tx", (ADD_UP | PRUNE | HOLD).values(), ids=ADD_UP | PRUNE | HOLD)
def test_optax_can_map_over_the_states(tx):
    tx = optax.chain(optax.adam(0.1), tx)
    state = tx.init(PARAMS)
    mapped = optax.tree.map_params(tx, lambda leaf: leaf, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)


def test_what_optax_maps_over_becomes_masks_again():
    tx = optax.chain(pruning.accumulate_gradients(), HOLD["hold_masks"])
    kept = optax.tree.map_params(tx, lambda leaf: leaf == leaf, tx.init(PARAMS))
    assert pruning.get_masks(kept)["w"].tolist() == [[True, True]]


@pytest.mark.parametrize("form", [pruning.hold_masks, dissipating])
@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"w": jnp.ones((2, 1), bool), "b": None}, r"shape \(1, 2\) at \['w'\]"),
        ({"w": jnp.ones((1, 2)), "b": None}, r"bool mask at \['w'\]"),
        ({"w": MASKS["w"]}, "structure"),
        ({"w": None, "b": None}, "nothing is prunable"),
    ],
)
def test_masks_that_do_not_fit_are_an_error(form, masks, message):
    with pytest.raises(ValueError, match=message):
        form(masks).init(PARAMS)


@pytest.mark.parametrize("form", [pruning.hold_masks, dissipating])
def test_the_caller_may_donate_params_and_state_and_keep_the_masks(form):
    masks = {"w": MASKS["w"] & True, "b": None}
    tx = optax.chain(optax.sgd(0.1), form(masks))
    params = jax.tree.map(jnp.copy, PARAMS)
    jax.jit(lambda p, s: tx.update(p, s, p), donate_argnums=(0, 1))(params, tx.init(params))
    assert masks["w"].tolist() == [[True, False]]
    tx.init(PARAMS)


def test_masks_of_another_shape_or_none_are_not_set():
    state = pruning.hold_masks(MASKS).init(PARAMS)
    for wrong, got in ((jnp.ones((2, 1), bool), r"bool\[2, 1\]"), (True, r"bool\[\]"), (None, "None")):
        with pytest.raises(ValueError, match=rf"expected a mask of shape \[1, 2\] at .*got {got}"):
            pruning.set_masks(state, {"w": wrong, "b": None})


def test_masks_of_another_structure_are_not_set():
    state = pruning.hold_masks(MASKS).init(PARAMS)
    with pytest.raises(ValueError, match=r"its own against these. \['b'\] against nothing"):
        pruning.set_masks(state, {"w": HALF})


def test_masks_that_were_set_may_be_donated_with_the_state():
    """Of two transformations that hold them each has its own."""
    masks = {"w": MASKS["w"] & True, "b": None}
    tx = optax.chain(pruning.hold_masks(masks), optax.sgd(0.1), pruning.hold_masks(masks))
    state = pruning.set_masks(tx.init(PARAMS), masks)
    jax.jit(lambda s: tx.update(PARAMS, s, PARAMS), donate_argnums=0)(state)
    assert masks["w"].tolist() == [[True, False]]


def test_accumulated_gradients_of_a_callers_own_prunable_leaves():
    everything = lambda path, leaf: True  # noqa: E731
    params = {"w": jnp.ones((1, 2)), "b": jnp.ones(2)}
    for make in (pruning.accumulate_gradients, pruning.accumulate_signed_gradients):
        tx = make(prunable=everything)
        _, state = tx.update({"w": -params["w"], "b": -params["b"]}, tx.init(params))
        sums = optax.tree.get(state, "gradient_sums")
        masks = pruning.full_masks(params, prunable=everything)
        stack = lambda tree: jax.tree.map(lambda leaf: leaf[None], tree)  # noqa: E731
        fitness = pruning.gradient_fitness(stack(params), stack(sums), stack(masks))
        np.testing.assert_allclose(fitness, [1.0])
    assert optax.tree.get(pruning.accumulate_gradients().init(params), "gradient_sums")["b"] is None


@pytest.mark.parametrize("form", [pruning.hold_masks, dissipating])
def test_masks_of_what_a_wrapper_hides_whole_are_left_out(form):
    """``optax.masked`` takes one word for all of a subtree."""
    params = {"encoder": {"w": jnp.ones((1, 2))}, "head": {"w": jnp.ones((1, 2)), "b": jnp.ones(2)}}
    masks = {"encoder": {"w": jnp.array([[True, False]])}, "head": {"w": HALF, "b": None}}
    tx = optax.masked(form(masks), {"encoder": True, "head": False})
    updates, state = tx.update(params, tx.init(params), params)
    assert updates["encoder"]["w"].tolist() == [[1, -1]]
    assert updates["head"]["w"].tolist() == [[1, 1]]
    assert pruning.get_masks(state)["encoder"]["w"].tolist() == [[True, False]]


def test_no_default_is_a_function():
    """``optax.inject_hyperparams`` would take it for a schedule."""
    made = [
        function
        for function in (getattr(pruning, name) for name in pruning.__all__)
        if getattr(function, "__annotations__", {}).get("return") is optax.GradientTransformationExtraArgs
    ]
    assert len(made) >= 13
    for function in made:
        defaults = [parameter.default for parameter in inspect.signature(function).parameters.values()]
        assert not [value for value in defaults if callable(value) and not isinstance(value, type)], (
            function
        )


def test_the_decay_of_pruned_weights_may_be_injected():
    inject = optax.inject_hyperparams(pruning.decay_pruned, static_args=("mask_fn",))
    tx = inject(decay=lambda step: 0.5 * step, mask_fn=lambda params: MASKS)
    state = tx.init(PARAMS)
    for expected in (1.0, 1.5):
        updates, state = tx.update(PARAMS, state, PARAMS)
        assert updates["w"].tolist() == [[1.0, expected]]
