"""RigL and SET: the reference's updates, exact counts for ever, and slots of 0 under any optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization

import pruning
from pruning.transforms.regrowth import drop_and_grow
from tests.pruning.oracles import FOLDER, needs_oracles

CASES = ("dense", "dense_half", "conv", "tiny_fraction", "ties", "all_drop")
KEY = jax.random.key(0)
PARAMS = {
    "a": {"kernel": jax.random.normal(KEY, (7, 5)), "bias": jnp.ones(5)},
    "b": {"kernel": jax.random.normal(jax.random.key(1), (5, 9))},
}
MASKS = pruning.random_masks(jax.random.key(2), PARAMS, 0.6)
HELD = pruning.apply_masks(PARAMS, MASKS)


# --- against the reference ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays():
    with np.load(FOLDER / "rigl_set_update.npz") as file:
        return {name: file[name] for name in file.files}


@needs_oracles
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("method", "growth"), [("rigl", "gradient"), ("set", "random")])
def test_one_update_is_the_references(arrays, case, method, growth):
    one = {name: jnp.asarray(arrays[f"{case}/{name}"]) for name in ("weights", "mask", growth)}
    mask = one["mask"].astype(bool)
    found = drop_and_grow(
        {"w": mask},
        {"w": one["weights"]},
        {"w": jnp.abs(one[growth])},
        float(arrays[f"{case}/drop_fraction"]),
        layout=pruning.flax_layout,
    )
    new = arrays[f"{case}/{method}/new_mask"].astype(bool)
    np.testing.assert_array_equal(found.masks["w"], new)


@needs_oracles
@pytest.mark.parametrize(
    "case", [case if case == "conv" else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_weights_and_momentum_are_the_references(arrays, case):
    mask = arrays[f"{case}/mask"].astype(bool)
    params = {"w": jnp.where(mask, arrays[f"{case}/weights"], 0)}
    tx = pruning.rigl(
        optax.sgd(0.1, momentum=0.9),
        {"w": jnp.asarray(mask)},
        check_every=1,
        stop_after=1,
        drop_fraction=float(arrays[f"{case}/drop_fraction"]),
    )
    state = tx.init(params)
    inside = jax.tree.map(lambda _: jnp.asarray(arrays[f"{case}/momentum"]), state.inner)
    gradient = {"w": jnp.asarray(arrays[f"{case}/gradient"])}
    updates, state = tx.update(gradient, state._replace(inner=inside), params)
    kept = arrays[f"{case}/rigl/new_mask"].astype(bool)
    weights = np.where(kept, arrays[f"{case}/rigl/new_weights"], 0)
    np.testing.assert_array_equal(optax.apply_updates(params, updates)["w"], weights)
    (momentum,) = jax.tree.leaves(state.inner)
    np.testing.assert_array_equal(momentum[kept], arrays[f"{case}/rigl/new_momentum"][kept])


@needs_oracles
def test_the_cosine_schedule_is_the_references(arrays):
    fraction = pruning.cosine_drop_fraction(0.3, 25_000)
    assert jax.jit(lambda start: pruning.cosine_drop_fraction(start, 25_000)(0))(0.3) == fraction(0)
    found = [float(fraction(step)) for step in arrays["schedule/steps"]]
    np.testing.assert_allclose(found, arrays["schedule/cosine64"], atol=1e-7)


# --- for ever, under any optimizer ----------------------------------------------------------------

OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.05),
    "adamw": lambda: optax.adamw(optax.cosine_decay_schedule(0.05, 100), weight_decay=0.1),
    "lion": lambda: optax.lion(0.01),
    "muon": lambda: optax.contrib.muon(0.02),
    "rmsprop": lambda: optax.rmsprop(0.01, momentum=0.5),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.05),
    "partition": lambda: optax.partition(
        {"first": optax.adam(0.05), "other": optax.sgd(0.1, momentum=0.9)},
        {"a": {"kernel": "first", "bias": "other"}, "b": {"kernel": "other"}},
    ),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05)),
}
METHODS = {
    "rigl": pruning.rigl,
    "set": lambda *given, **knobs: pruning.sparse_evolutionary(jax.random.key(3), *given, **knobs),
}


def loss(params, target):
    hidden = jnp.tanh(target["x"] @ params["a"]["kernel"] + params["a"]["bias"][None])
    return jnp.mean((hidden @ params["b"]["kernel"] - target["y"]) ** 2)


def target(seed):
    x, y = jax.random.split(jax.random.key(seed))
    return {"x": jax.random.normal(x, (16, 7)), "y": jax.random.normal(y, (16, 9))}


def stepping(tx):
    def step(carry, number):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, target(number)), state, params)
        return (optax.apply_updates(params, updates), state), None

    return step


def of_weights(state, shape):
    """All floats that the optimizer keeps for a kernel: those of its shape, which only it has."""
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return [leaf for leaf in floats if leaf.shape == shape]


def check_for_ever(method, optimizer, steps):
    """Counts, zeros and slots at every step of a scan."""
    tx = METHODS[method](optimizer, MASKS, check_every=3, stop_after=steps - 5, drop_fraction=0.4)

    def watched(carry, number):
        (params, state), _ = stepping(tx)(carry, number)
        wrong, moved = [], []
        for layer in ("a", "b"):
            before, after = (s.masks[layer]["kernel"] for s in (carry[1], state))
            weights, new = params[layer]["kernel"], after & ~before
            wrong += [after.sum() != MASKS[layer]["kernel"].sum(), jnp.any(weights[...] * ~after != 0)]
            wrong += [jnp.any(jnp.where(new, weights, 0) != 0)]
            wrong += [jnp.any(jnp.where(new, s, 0) != 0) for s in of_weights(state.inner, weights.shape)]
            moved.append(jnp.any(new))
        return (params, state), (jnp.stack(wrong), jnp.stack(moved))

    start = (HELD, tx.init(HELD))
    (_, state), (wrong, moved) = jax.jit(lambda c: jax.lax.scan(watched, c, jnp.arange(steps)))(start)
    assert not wrong.any()
    np.testing.assert_array_equal(
        moved.any(1), [(s + 1) % 3 == 0 and s < steps - 5 for s in range(steps)]
    )
    assert state.blind == 0
    explored = pruning.count_kept(state.explored)
    assert pruning.count_kept(MASKS) < explored <= pruning.count_prunable(MASKS)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("rigl", "momentum"),
        pytest.param("set", "momentum", marks=pytest.mark.slow),
        pytest.param("rigl", "adamw", marks=pytest.mark.slow),
        pytest.param("set", "adamw", marks=pytest.mark.slow),
    ],
)
def test_counts_zeros_and_slots_hold_for_ever(method, name):
    check_for_ever(method, OPTIMIZERS[name](), 40)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_they_hold_for_a_thousand_steps_of_every_optimizer(method, name):
    check_for_ever(method, OPTIMIZERS[name](), 1000)


@pytest.mark.parametrize(
    "name",
    [name if name == "partition" else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS],
)
def test_what_every_optimizer_keeps_of_a_new_weight_is_0(name):
    """One check, at which all that is kept of a kernel was 1."""
    tx = pruning.rigl(OPTIMIZERS[name](), MASKS, check_every=1, stop_after=1, drop_fraction=0.5)
    state = tx.init(HELD)
    number = lambda leaf: jnp.ones_like(leaf) if leaf.ndim == 2 else leaf  # noqa: E731
    inner = jax.tree.map(number, state.inner)
    gradients = jax.grad(loss)(HELD, target(0))
    _, after = jax.jit(tx.update)(gradients, state._replace(inner=inner), HELD)
    found = 0
    for layer in ("a", "b"):
        new = after.masks[layer]["kernel"] & ~MASKS[layer]["kernel"]
        assert new.any()
        for slots in of_weights(after.inner, new.shape):
            np.testing.assert_array_equal(slots, ~new)
            found += 1
    assert found == sum(len(of_weights(state.inner, leaf.shape)) for leaf in jax.tree.leaves(MASKS))


@pytest.mark.slow
def test_it_is_the_same_under_vmap_and_goes_on_from_a_checkpoint():
    """Twelve steps in two halves, so that one program serves all of them."""
    made = lambda masks: pruning.rigl(optax.adam(0.05), masks, check_every=4, stop_after=10)  # noqa: E731

    def begun(masks):
        held = pruning.apply_masks(PARAMS, masks)
        return held, made(masks).init(held)

    def six_steps(masks, carry, numbers):
        return jax.lax.scan(stepping(made(masks)), carry, numbers)[0]

    def twelve_steps(run, masks, carry):
        half = run(masks, carry, jnp.arange(6))
        return half, run(masks, half, jnp.arange(6, 12))

    masks = [pruning.random_masks(jax.random.key(seed), PARAMS, 0.6) for seed in range(2)]
    starts = [begun(one) for one in masks]
    run = jax.jit(six_steps)
    (half, first), (_, second) = (twelve_steps(run, *pair) for pair in zip(masks, starts, strict=True))
    alone = first, second
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
    several = jax.jit(jax.vmap(six_steps, (0, 0, None)))
    _, together = twelve_steps(several, stack(masks), stack(starts))
    for place, expected in enumerate(alone):
        jax.tree.map(
            lambda a, b, i=place: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),
            together,
            expected,
        )
        found = jax.tree.map(lambda leaf, i=place: leaf[i], pruning.get_masks(together[1]))
        jax.tree.map(np.testing.assert_array_equal, found, pruning.get_masks(expected[1]))
    stored = serialization.from_bytes(half, serialization.to_bytes(half))
    ended = run(masks[0], stored, jnp.arange(6, 12))
    jax.tree.map(np.testing.assert_array_equal, ended, first)


def test_around_it_accumulated_gradients_decide():
    """Two batches; the second alone would grow another weight."""
    params, masks = {"w": jnp.array([[1.0, 0.0, 0.0]])}, {"w": jnp.array([[True, False, False]])}
    tx = optax.MultiSteps(
        pruning.rigl(optax.sgd(0.1), masks, check_every=1, stop_after=1, drop_fraction=1.0), 2
    )
    state = tx.init(params)
    for gradient in ([[0.0, 9.0, 0.0]], [[0.0, 0.0, 5.0]]):
        _, state = tx.update({"w": jnp.array(gradient)}, state, params)
    np.testing.assert_array_equal(pruning.get_masks(state)["w"], [[False, True, False]])


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_through_masks_are_reported_and_move_nothing():
    tx = pruning.rigl(optax.sgd(0.1), MASKS, check_every=1, stop_after=9)
    gradients = jax.grad(lambda p: loss(pruning.apply_masks(p, MASKS), target(0)))(HELD)
    with pytest.raises(ValueError, match="rigl: expected gradients of the dense network, got 0"):
        tx.update(gradients, tx.init(HELD), HELD)
    _, state = jax.jit(tx.update)(gradients, tx.init(HELD), HELD)
    assert state.blind == 1
    jax.tree.map(np.testing.assert_array_equal, state.masks, MASKS)
    tx = METHODS["set"](optax.sgd(0.1), MASKS, check_every=1, stop_after=9)
    _, state = tx.update(gradients, tx.init(HELD), HELD)  # It asks nothing of gradients.
    assert state.blind == 0


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"drop_fraction": 1.5}, r"drop_fraction in \[0, 1\], got 1.5"),
        ({"drop_fraction": float("nan")}, "drop_fraction"),
        ({"drop_fraction": 0.3j}, r"drop_fraction in \[0, 1\]"),
        ({"drop_fraction": jnp.bfloat16(0.3)}, "bfloat16"),
        ({"drop_fraction": "0.3"}, r"drop_fraction in \[0, 1\], got '0.3'"),
        ({"check_every": 0}, "check_every"),
        ({"stop_after": -1}, "stop_after"),
    ],
)
def test_numbers_out_of_range_are_refused(knobs, says):
    for method in METHODS.values():
        with pytest.raises(ValueError, match=says):
            method(optax.sgd(0.1), MASKS, **{"check_every": 1, "stop_after": 1} | knobs)
    for initial in (-0.1, None):
        with pytest.raises(ValueError, match=r"initial in \[0, 1\], got"):
            pruning.cosine_drop_fraction(initial, 10)
    for steps in (0, 2.5):
        with pytest.raises(ValueError, match="steps >= 1, a whole number, got"):
            pruning.cosine_drop_fraction(0.1, steps)


@pytest.mark.parametrize(
    ("fraction", "says"),
    [(-1.0, r"drop_fraction in \[0, 1\], got -1"), (jnp.bfloat16(0.3), "drop_fraction .*bfloat16")],
)
def test_a_schedule_that_returns_no_fraction_is_refused(fraction, says):
    tx = pruning.rigl(
        optax.sgd(0.1), MASKS, check_every=1, stop_after=1, drop_fraction=lambda _: fraction
    )
    with pytest.raises(ValueError, match=says):
        tx.update(HELD, tx.init(HELD), HELD)


def test_the_drop_fraction_may_be_injected():
    inject = optax.inject_hyperparams(pruning.rigl)
    tx = inject(optax.sgd(0.1), MASKS, check_every=1, stop_after=1, drop_fraction=0.5)
    assert tx.init(HELD).hyperparams["drop_fraction"] == 0.5


def test_other_masks_begin_what_is_explored_anew():
    tx = pruning.rigl(optax.sgd(0.1), pruning.full_masks(HELD), check_every=1, stop_after=1)
    state = pruning.set_masks(tx.init(HELD), MASKS)
    jax.tree.map(np.testing.assert_array_equal, state.explored, MASKS)


@pytest.mark.slow
@pytest.mark.parametrize("method", [pytest.param("rigl", marks=pytest.mark.slow), "set"])
def test_every_stacked_layer_keeps_its_count(method):
    masks = {"w": jnp.tile(jnp.eye(4, dtype=bool), (2, 1, 1))}
    params = {"w": jnp.where(masks["w"], jnp.array([0.01, 1])[:, None, None], 0.0)}
    settings = {
        "check_every": 1,
        "stop_after": 1,
        "drop_fraction": 0.5,
        "layout": pruning.stacked_layout(),
    }
    tx = (
        pruning.rigl(optax.sgd(0.1), masks, **settings)
        if method == "rigl"
        else pruning.sparse_evolutionary(jax.random.key(0), optax.sgd(0.1), masks, **settings)
    )
    gradients = {"w": jax.random.normal(jax.random.key(1), (2, 4, 4))}
    _, state = tx.update(gradients, tx.init(params), params)
    assert state.masks["w"].sum(axis=(1, 2)).tolist() == [4, 4]
    assert (state.masks["w"] != masks["w"]).any(axis=(1, 2)).all()


def test_a_rounded_drop_fraction_is_refused():
    with pytest.raises(ValueError, match="drop_fraction"):
        pruning.rigl(optax.sgd(0.1), {}, check_every=1, stop_after=1, drop_fraction=jnp.bfloat16(0.3))
