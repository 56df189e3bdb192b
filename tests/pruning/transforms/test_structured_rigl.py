"""Constant fan-in and N:M RigL: updates by hand, and the structure at every step of every optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning

# --- one update by hand ---------------------------------------------------------------------------


def updated(make, weights, gradients, *, kept=None, checks=1, **knobs):
    """A kernel after checks at every step, its momentum and the state; all momentum was 1 at first."""
    params = {"w": jnp.array(weights)}
    masks = {"w": params["w"] != 0 if kept is None else jnp.array(kept)}
    tx = make(optax.sgd(0.1, momentum=0.9), masks, check_every=1, stop_after=checks, **knobs)
    state = tx.init(params)
    state, update = state._replace(inner=jax.tree.map(jnp.ones_like, state.inner)), jax.jit(tx.update)
    for _ in range(checks):
        updates, state = update({"w": jnp.array(gradients)}, state, params)
        params = optax.apply_updates(params, updates)
    (momentum,) = jax.tree.leaves(state.inner)
    return params["w"], momentum, state


@pytest.mark.slow
def test_what_goes_is_ranked_over_the_layer_and_comes_within_the_unit():
    """K = 2 of 4: both of the second unit's go; 3 returns with what it had, the first input is new."""
    weights = [[9.0, 0.0], [8.0, 0.0], [0.0, 3.0], [0.0, 4.0]]
    gradients = [[0.0, -5.0], [0.0, 0.5], [7.0, 6.0], [7.0, 0.0]]
    found, momentum, state = updated(pruning.constant_fan_in_rigl, weights, gradients, drop_fraction=0.5)
    np.testing.assert_array_equal(state.masks["w"].T, [[1, 1, 0, 0], [1, 0, 1, 0]])
    np.testing.assert_array_equal(found.T, [[9, 8, 0, 0], [0, 0, 3, 0]])
    np.testing.assert_array_equal(momentum.T, [[1, 1, 1, 1], [0, 1, 1, 1]])


@pytest.mark.slow
def test_groups_grow_back_to_n():
    """K = 2 of 4: both of the second group's go; of them 2 returns, and the last input is new."""
    weights, gradients = [4.0, 3, 0, 0, 1, 2, 0, 0], [0.0, 0, 9, 9, 0, -7, 5, 6]
    found, momentum, state = updated(
        pruning.n_m_rigl,
        *(np.array([row]).T for row in (weights, gradients)),
        n=2,
        m=4,
        drop_fraction=0.5,
    )
    np.testing.assert_array_equal(state.masks["w"].ravel(), [1, 1, 0, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(found.ravel(), [4, 3, 0, 0, 0, 2, 0, 0])
    np.testing.assert_array_equal(momentum.ravel(), [1, 1, 1, 1, 1, 1, 1, 0])


ALL = {"ablatable": pruning.prunable}
# Units of 4 inputs each, a unit a line.
IDLE = np.array([[9.0, 8, 0, 0], [7, 6, 0, 0], [0, 0, 1, 2]]).T
WANTED = np.array([[0.0, 0, 1, 5], [0, 0, 4, 2], [0, 0, 9, 9]]).T


def test_an_idle_unit_gives_its_weights_to_the_others():
    """Salient are 9, 8, 7, 6 and the pruned of gradients 5 and 4; the third unit has none of two.

    Its gradients are of kept weights. Two units share 6 weights: each grows one.
    """
    found, momentum, state = updated(
        pruning.constant_fan_in_rigl, IDLE, WANTED, drop_fraction=0.34, salient_fraction=0.5, **ALL
    )
    np.testing.assert_array_equal(state.masks["w"].T, [[1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.T, [[9, 8, 0, 0], [7, 6, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(momentum.T, [[1, 1, 1, 0], [1, 1, 0, 1], [1, 1, 1, 1]])
    assert state.spare.tolist() == [0]
    knobs = {"drop_fraction": 0.34, "salient_fraction": 0.5, **ALL}
    again = updated(pruning.constant_fan_in_rigl, IDLE, WANTED, checks=2, **knobs)[2].masks["w"]
    assert not again[:, 2].any()  # Though its gradients, of pruned weights now, are the largest.


@pytest.mark.slow
def test_what_goes_with_a_unit_is_all_that_goes():
    """The third unit has one salient weight, 10, of the two that it needs; K = 2 are its own."""
    weights = np.array([[9.0, 8, 0, 0], [7, 1, 0, 0], [0, 0, 10, 2]]).T
    state = updated(
        pruning.constant_fan_in_rigl, weights, WANTED, drop_fraction=0.34, salient_fraction=0.6, **ALL
    )[2]
    np.testing.assert_array_equal(state.masks["w"].T, [[1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]])


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs",
    [{}, {"salient_fraction": 0.0, **ALL}, {"ablatable": pruning.prunable_except("w")}],
    ids=["by default", "nothing is salient enough", "where it may not"],
)
def test_no_unit_goes(knobs):
    masks = updated(pruning.constant_fan_in_rigl, IDLE, WANTED, drop_fraction=0.34, **knobs)[2].masks
    np.testing.assert_array_equal(masks["w"].sum(0), [2, 2, 2])


@pytest.mark.slow
@pytest.mark.parametrize(("salient_fraction", "left"), [(0.5, 3), (0.51, 2)])
def test_as_many_salient_weights_as_asked_are_enough(salient_fraction, left):
    """The third unit has one of its two, by the gradient 6 of an input that it lacks."""
    gradients = WANTED + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [6, 0, 0, 0]]).T
    state = updated(
        pruning.constant_fan_in_rigl,
        IDLE,
        gradients,
        drop_fraction=0.34,
        salient_fraction=salient_fraction,
        **ALL,
    )[2]
    counts = state.masks["w"].sum(0)
    np.testing.assert_array_equal(counts, [6 // left] * left + [0] * (3 - left))


@pytest.mark.slow
def test_a_fraction_that_float32_rounds_up_asks_for_no_weight_more():
    """0.6 of 25 are 15, and 15.000001 in float32; the second unit has 15 of the 40 largest."""
    weights = np.zeros((60, 2), np.float32)
    weights[:25] = np.stack([np.full(25, 3.0), np.where(np.arange(25) < 15, 2.0, 1.0)], 1)
    knobs = {"drop_fraction": 0.2, "salient_fraction": 0.6, **ALL}
    gradients = np.zeros_like(weights)
    gradients[59, 0] = 1
    state = updated(pruning.constant_fan_in_rigl, weights, gradients, **knobs)[2]
    np.testing.assert_array_equal(state.masks["w"].sum(0), [25, 25])


def test_idle_units_go_under_strict_promotion_too():
    knobs = {"drop_fraction": 0.34, "salient_fraction": 0.5, **ALL}
    with jax.numpy_dtype_promotion("strict"):
        masks = updated(pruning.constant_fan_in_rigl, IDLE, WANTED, **knobs)[2].masks
    assert pruning.count_kept(masks) == np.count_nonzero(IDLE)


@pytest.mark.slow
def test_what_cannot_be_shared_out_waits_for_the_next_ablation():
    """Four units of 2: three would have 2 2/3 each, two have 4. The third is idle without the last."""
    weights = np.array([[9.0, 8, 0, 0], [7, 6, 0, 0], [5, 4, 0, 0], [0, 0, 1, 2]]).T
    gradients = np.array([[0.0, 0, 1, 5], [0, 0, 4, 2], [0, 0, 0, 0], [0, 0, 0, 0]]).T
    knobs = {"drop_fraction": 0.25, "salient_fraction": 0.6, **ALL}
    for checks, fan_ins, spare in ((1, [2, 2, 2, 0], 2), (2, [4, 4, 0, 0], 0)):
        state = updated(pruning.constant_fan_in_rigl, weights, gradients, checks=checks, **knobs)[2]
        np.testing.assert_array_equal(state.masks["w"].sum(0), fan_ins)
        assert state.spare.tolist() == [spare]
    assert pruning.set_masks(state._replace(spare=jnp.array([3])), state.masks).spare.tolist() == [0]


@pytest.mark.slow
def test_as_many_units_stay_as_the_weights_need():
    """Two inputs, so 4 weights need two units: the salient one, and the first of those that are not."""
    weights = [[1.0, 2, 3, 4], [0, 0, 0, 0]]
    state = updated(
        pruning.constant_fan_in_rigl,
        weights,
        [[0.0, 0, 0, 0], [0, 0, 5, 0]],
        drop_fraction=1.0,
        salient_fraction=1.0,
        **ALL,
    )[2]
    np.testing.assert_array_equal(state.masks["w"], [[1, 0, 1, 0], [1, 0, 1, 0]])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_a_unit_without_any_gradient_keeps_what_it_has(dtype):
    """The second would lose both; a gradient that float16 hardly holds is one for the first."""
    weights = jnp.array([[0.0, 0.0], [8.0, 0.0], [1.0, 3.0], [0.0, 4.0]], dtype)
    gradients = jnp.array([[6e-8, 0], [0, 0], [0, 0], [0, 0]], dtype)
    found, _, state = updated(
        pruning.constant_fan_in_rigl, weights, gradients, kept=weights != 0, drop_fraction=0.75
    )
    np.testing.assert_array_equal(state.masks["w"].T, [[1, 1, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(found.T, [[0, 8, 0, 0], [0, 0, 3, 4]])
    assert state.blind == 0


@pytest.mark.slow
def test_stacked_layers_and_other_layouts_are_as_each_layer_alone():
    weights, gradients = (jax.random.normal(jax.random.key(seed), (2, 8, 6)) for seed in (0, 1))
    select = {
        "fan_in": lambda w, **how: pruning.constant_fan_in_masks(w, 0.5, **how),
        "n_m": lambda w, **how: pruning.n_m_masks(w, 2, 4, **how),
    }
    make = {
        "fan_in": lambda *given, **how: pruning.constant_fan_in_rigl(
            *given, salient_fraction=0.9, **ALL, **how
        ),
        "n_m": lambda *given, **how: pruning.n_m_rigl(*given, n=2, m=4, **how),
    }

    def masks(name, weights, gradients, **how):
        kept = select[name]({"w": jnp.abs(weights)}, **how)["w"]
        kernel = jnp.where(kept, weights, 0)
        return updated(make[name], kernel, gradients, kept=kept, drop_fraction=0.5, **how)[2].masks["w"]

    for name in make:
        of_one = jax.jit(lambda *pair, name=name: masks(name, *pair))
        alone = [of_one(*pair) for pair in zip(weights, gradients, strict=True)]
        together = masks(name, weights, gradients, layout=pruning.stacked_layout())
        np.testing.assert_array_equal(together, alone)
        turned = masks(name, weights[0].T, gradients[0].T, layout=pruning.equinox_layout)
        np.testing.assert_array_equal(turned.T, alone[0])


# --- at every step --------------------------------------------------------------------------------

PARAMS = {
    "body": {"kernel": jax.random.normal(jax.random.key(0), (16, 24)) / 4, "bias": jnp.zeros(24)},
    "head": {"kernel": jax.random.normal(jax.random.key(1), (24, 4)) / 4},
}
SCORES = pruning.random_scores(jax.random.key(2), PARAMS)
OPTIMIZERS = {
    "momentum": lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.02),
}


def of_units(inner, masks, **knobs):
    body = pruning.prunable_except("head")
    return pruning.constant_fan_in_rigl(
        inner, masks, ablatable=body, salient_fraction=0.6, drop_fraction=0.3, **knobs
    )


def of_groups(inner, masks, **knobs):
    return pruning.n_m_rigl(inner, masks, n=2, m=4, drop_fraction=0.4, **knobs)


METHODS = {
    "units": (of_units, lambda scores: pruning.constant_fan_in_masks(scores, 0.75)),
    "groups": (of_groups, lambda scores: pruning.n_m_masks(scores, 2, 4)),
}


def loss(params, number):
    x, y = (jax.random.normal(jax.random.key(n), (16, 16)) for n in (7, 8))
    hidden = jax.nn.relu(jnp.roll(x, number, 1) @ params["body"]["kernel"] + params["body"]["bias"][None])
    return jnp.mean((hidden @ params["head"]["kernel"] - y[:, :4]) ** 2)


def started(tx, masks):
    params = pruning.apply_masks(PARAMS, masks)
    return params, tx.init(params)


def trained(tx, start, numbers):
    """The state, and after each step: params, masks and all floats that are kept of weights."""

    def step(carry, number):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, number), state, params)
        params, kept = optax.apply_updates(params, updates), pruning.get_masks(state)
        floats = (leaf for leaf in jax.tree.leaves(state.inner) if leaf.ndim == 2)
        return (params, state), (params, kept, list(floats))

    return jax.lax.scan(step, start, numbers)


def optimizer(method, name, masks):
    return METHODS[method][0](OPTIMIZERS[name](), masks, check_every=4, stop_after=50)


@functools.cache
def program(method, name):
    """``trained`` from the first masks, a start and the steps' numbers: twelve, for all tests."""
    return jax.jit(lambda masks, *given: trained(optimizer(method, name, masks), *given))


@pytest.mark.parametrize("method", [pytest.param("units", marks=pytest.mark.slow), "groups"])
@pytest.mark.parametrize("name", [pytest.param("momentum", marks=pytest.mark.slow), "adam"])
def test_the_structure_zeros_and_slots_hold_at_every_step(method, name):
    first = METHODS[method][1](SCORES)
    carry, parts = started(optimizer(method, name, first), first), []
    for place in range(0, 60, 12):
        carry, part = program(method, name)(first, carry, jnp.arange(place, place + 12))
        parts.append(part)
    params, masks, slots = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    assert carry[1].blind == 0
    for layer, size in (("body", 384), ("head", 96)):
        kept = np.concatenate([first[layer]["kernel"][None], masks[layer]["kernel"]])
        new = kept[1:] & ~kept[:-1]
        moved = new.any((1, 2))
        assert not moved[[i for i in range(60) if (i + 1) % 4 or i >= 50]].any()
        assert moved.sum() > 8
        weights = np.asarray(params[layer]["kernel"])
        assert (weights[~kept[1:]] == 0).all()
        assert (weights[new] == 0).all()
        of_layer = [slot for slot in slots if slot[0].size == size]
        assert len(of_layer) == (1 if name == "momentum" else 2)
        assert all((np.asarray(slot)[new] == 0).all() for slot in of_layer)
        if method == "groups":
            assert (kept.reshape(61, -1, 4, kept.shape[-1]).sum(2) == 2).all()
            continue
        fan_ins = kept.sum(1)
        most, active = fan_ins.max(1), (fan_ins > 0)
        assert ((fan_ins == most[:, None]) | ~active).all()
        assert not (active[1:] & ~active[:-1]).any()
        total, at_first = fan_ins.sum(1), fan_ins[0].sum()
        assert ((total <= at_first) & (total > at_first - active.sum(1))).all()
        ablated, more = not active[-1].all(), most[-1] > most[0]
        assert (ablated, more) == (layer == "body", layer == "body")


def test_known_masks_are_read_where_params_are_traced():
    masks = {"w": jnp.array([[1, 0], [1, 1]]) > 0}
    make = lambda params: pruning.constant_fan_in_rigl(  # noqa: E731
        optax.sgd(0.1), masks, check_every=1, stop_after=1
    ).init(params)
    with pytest.raises(ValueError, match="got 1 to 2 at"):
        jax.jit(make)({"w": jnp.ones((2, 2))})


@pytest.mark.slow
def test_it_is_the_same_under_vmap():
    for method, (_, select) in METHODS.items():
        run, numbers = program(method, "adam"), jnp.arange(12)
        masks = [select(pruning.random_scores(jax.random.key(seed), PARAMS)) for seed in range(2)]
        each = [(first, started(optimizer(method, "adam", first), first)) for first in masks]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        together, _ = jax.jit(jax.vmap(run, (0, 0, None)))(*stacked, numbers)
        for place, one in enumerate(each):
            alone, _ = run(*one, numbers)
            for found, expected in zip(*map(jax.tree.leaves, (together, alone)), strict=True):
                np.testing.assert_allclose(found[place], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_part_of_the_params_is_enough():
    """As ``optax.partition`` shows a transformation those that are its own."""
    masks = METHODS["units"][1](SCORES)
    sparse = of_units(optax.sgd(0.1), masks, check_every=1, stop_after=1)
    tx = optax.partition({"sparse": sparse, "dense": optax.sgd(0.1)}, {"body": "sparse", "head": "dense"})
    params = pruning.apply_masks(PARAMS, masks | {"head": {"kernel": None}})
    step = jax.jit(lambda params, state: tx.update(jax.grad(loss)(params, 0), state, params))
    _, state = step(params, tx.init(params))
    found = pruning.get_masks(state)["body"]["kernel"]
    assert (found != masks["body"]["kernel"]).any()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_through_masks_are_reported_and_move_nothing():
    for make, select in METHODS.values():
        masks = select(SCORES)
        params = pruning.apply_masks(PARAMS, masks)
        tx = make(optax.sgd(0.1), masks, check_every=1, stop_after=9)
        gradients = jax.jit(jax.grad(lambda p, m=masks: loss(pruning.apply_masks(p, m), 0)))(params)
        with pytest.raises(ValueError, match="rigl: expected gradients of the dense network, got 0"):
            tx.update(gradients, tx.init(params), params)
        _, state = jax.jit(tx.update)(gradients, tx.init(params), params)
        assert state.blind == 1
        jax.tree.map(np.testing.assert_array_equal, state.masks, masks)


UNEVEN = {"a": jnp.ones((4, 2), bool), "b": jnp.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]]) > 0}
KNOBS = {"check_every": 1, "stop_after": 1}


@pytest.mark.parametrize(
    ("make", "knobs", "says"),
    [
        (pruning.constant_fan_in_rigl, {}, r"one number of weights for all units .* 0 to 4 at \['b'\]"),
        (pruning.n_m_rigl, {"n": 4, "m": 4}, r"keep 4 of every 4 inputs, .* 0 to 4 at \['b'\]"),
        (pruning.n_m_rigl, {"n": 2, "m": 3}, r"3 to divide the 4 inputs of \['a'\]"),
        (pruning.n_m_rigl, {"n": 5, "m": 4}, "n from 1 to m, got n = 5 and m = 4"),
        (
            pruning.constant_fan_in_rigl,
            {"salient_fraction": 1.5},
            r"salient_fraction in \[0, 1\], got 1.5",
        ),
        (
            pruning.constant_fan_in_rigl,
            {"layout": pruning.stacked_layout("b")},
            r"0 to 4 at \['b'\]\[1\]",
        ),
    ],
)
def test_masks_without_the_structure_are_refused(make, knobs, says):
    masks = UNEVEN if "layout" not in knobs else {"b": jnp.stack([jnp.zeros((4, 3), bool), UNEVEN["b"]])}
    with pytest.raises(ValueError, match=says):
        make(optax.sgd(0.1), masks, **KNOBS, **knobs)
