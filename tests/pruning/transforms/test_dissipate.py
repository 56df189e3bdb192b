"""Dissipating gradients against step-by-step references in plain NumPy, and what is hand-computed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pruning

STEPS = 6
SHAPES = {"a": (2, 3), "b": (2, 2)}
SIZE = 10


def displacement(weights, initial):
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.abs(weights - initial)
        return np.where(moved == 0, 0, moved / np.abs(initial)).astype(np.float32)


def follow(initial, updates, start, after_step):
    """Plain training: add the update, let `after_step` renew the masks, zero what they prune."""
    weights, masks = initial, {k: start[k] for k in SHAPES}
    for step in range(1, STEPS + 1):
        weights = {k: weights[k] + updates[k][step - 1] for k in weights}
        masks = after_step(step, weights, masks)
        weights = {k: np.where(masks[k], weights[k], np.float32(0)) for k in weights}
        yield weights, masks


def banded(initial, fraction, check_every, stop_after, *, settled):
    """The rule of `dissipate`, or of `dissipate_settled`."""
    inside_so_far = {k: np.ones(w.shape, bool) for k, w in initial.items()}

    def after_step(step, weights, masks):
        kept = {}
        for k, mask in masks.items():
            inside = np.abs(weights[k] - initial[k]) <= np.float32(fraction) * np.abs(initial[k])
            inside_so_far[k] &= inside
            kept[k] = mask & ~(inside_so_far[k] if settled else inside)
            if not kept[k].any() and mask.any():
                score = np.where(mask, displacement(weights[k], initial[k]), -1)
                kept[k] = np.arange(mask.size).reshape(mask.shape) == score.argmax()
        return kept if step % check_every == 0 and step <= stop_after else masks

    return after_step


def scheduled(initial, tenths, check_every):
    """The rule of `dissipate_to`, one weight after the other."""

    def after_step(step, weights, masks):
        if step % check_every or step > check_every * len(tenths):
            return masks
        masks = {k: mask.copy() for k, mask in masks.items()}
        scores = {k: displacement(weights[k], initial[k]) for k in masks}
        spared = {
            k: (k, int(np.where(masks[k], scores[k], -1).argmax())) for k in masks if masks[k].any()
        }.values()
        while sum(int((~mask).sum()) for mask in masks.values()) < tenths[step // check_every - 1]:
            kept = [(k, i) for k in masks for i in np.flatnonzero(masks[k])]
            worth = lambda at: (at in spared, scores[at[0]].ravel()[at[1]])  # noqa: E731
            lowest = min(worth(at) for at in kept)
            key, index = [at for at in kept if worth(at) == lowest][-1]
            masks[key].ravel()[index] = False
        return masks

    return after_step


def run(transformation, initial, updates):
    """Weights and masks after each step, when the updates are handed to the transformation directly."""

    def step(carry, update):
        params, state = carry
        update, state = transformation.update(update, state, params)
        params = optax.apply_updates(params, update)
        return (params, state), (params, pruning.get_masks(state))

    return jax.lax.scan(step, (initial, transformation.init(initial)), updates)[1]


@jax.jit
def run_dissipate(initial, updates, start, fraction, check_every, stop_after):
    knobs = {"check_every": check_every, "stop_after": stop_after, "masks": start}
    return run(pruning.dissipate(fraction, **knobs), initial, updates)


@jax.jit
def run_settled(initial, updates, start, fraction, check_every, stop_after):
    knobs = {"check_every": check_every, "stop_after": stop_after, "masks": start}
    return run(pruning.dissipate_settled(fraction, **knobs), initial, updates)


@jax.jit
def run_to(initial, updates, start, sparsities, check_every):
    tx = pruning.dissipate_to(sparsities, check_every=check_every, masks=start)
    return run(tx, initial, updates)


# On a grid of eighths weights meet the edge of the band, leave it, come back, and tie.
GRID = st.integers(-8, 8).map(lambda i: i / 8)
NOT_ZERO = GRID.filter(bool)


def tree(elements, leading=()):
    return st.fixed_dictionaries(
        {k: hnp.arrays(np.float32, (*leading, *shape), elements=elements) for k, shape in SHAPES.items()}
    )


MASKS = st.fixed_dictionaries({k: hnp.arrays(bool, shape) for k, shape in SHAPES.items()})
FULL = {k: np.ones(shape, bool) for k, shape in SHAPES.items()}


def assert_follows(history, expected):
    params, masks = history
    for step, (weights, kept) in enumerate(expected):
        for k in SHAPES:
            np.testing.assert_array_equal(
                masks[k][step], kept[k], err_msg=f"masks of {k}, step {step + 1}"
            )
            np.testing.assert_array_equal(params[k][step], weights[k], err_msg=f"{k}, step {step + 1}")
            assert not np.signbit(np.asarray(params[k][step])[~kept[k]]).any()


@pytest.mark.parametrize(("form", "settled"), [(run_dissipate, False), (run_settled, True)])
@settings(deadline=None, max_examples=80)
@given(
    initial=tree(GRID),
    updates=tree(GRID, (STEPS,)),
    start=MASKS,
    fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]),
    check_every=st.integers(1, 4),
    stop_after=st.integers(0, STEPS + 2),
)
def test_the_band_against_the_reference(
    form, settled, initial, updates, start, fraction, check_every, stop_after
):
    history = form(initial, updates, start, fraction, check_every, stop_after)
    rule = banded(initial, fraction, check_every, stop_after, settled=settled)
    assert_follows(history, follow(initial, updates, start, rule))


@settings(deadline=None, max_examples=80)
@given(
    initial=tree(NOT_ZERO),
    updates=tree(GRID, (STEPS,)),
    start=MASKS,
    check_every=st.integers(1, 4),
    # Up to 8 of 10, so that the schedule allows one weight for each of the two layers.
    tenths=st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8)).map(sorted),
)
def test_the_schedule_against_the_reference(initial, updates, start, check_every, tenths):
    sparsities = np.array(tenths, np.float32) / 10
    history = run_to(initial, updates, start, sparsities, check_every)
    assert_follows(history, follow(initial, updates, start, scheduled(initial, tenths, check_every)))


def trail(tx, initial, path):
    """Weight of a (1, n) layer after each step; `path` holds where the optimizer alone would take it."""
    positions = np.array([initial, *path], np.float32)
    params, _ = jax.jit(
        lambda: run(tx, {"w": positions[:1]}, {"w": np.diff(positions, axis=0)[:, None]})
    )()
    return np.asarray(params["w"])[:, 0]


# Two weights that start at 1 with the band [0.75, 1.25]; the second is far away all the time.
AWAY_AND_BACK = [[1.5, 9.0], [1.1, 9.0], [1.1, 9.0], [1.1, 9.0]]


def test_a_weight_that_left_and_came_back_tells_the_readings_apart():
    knobs = {"check_every": 2, "stop_after": 4}
    at_the_check = trail(pruning.dissipate(0.25, **knobs), [1.0, 1.0], AWAY_AND_BACK)
    never_left = trail(pruning.dissipate_settled(0.25, **knobs), [1.0, 1.0], AWAY_AND_BACK)
    np.testing.assert_allclose(at_the_check[:2, 0], [1.5, 0.0])
    np.testing.assert_allclose(never_left[:, 0], [1.5, 1.1, 1.1, 1.1], rtol=1e-6)


def test_a_layer_that_started_at_zero_does_not_empty_the_others():
    """What left 0 is displaced infinitely; the most displaced weight of b is spared before it."""
    params = {"a": jnp.zeros((2, 5)), "b": jnp.ones((2, 5))}
    update = {"a": jnp.ones((2, 5)), "b": jnp.arange(10.0).reshape(2, 5) / 100}
    tx = pruning.dissipate_to(np.array([0.75]), check_every=1)
    kept = pruning.get_masks(tx.update(update, tx.init(params), params)[1])
    assert [int(mask.sum()) for mask in kept.values()] == [4, 1]


@pytest.mark.parametrize(
    "sparsities", [[0.25, 0.5], (0.25, 0.5), np.array([0.25, 0.5]), jnp.array([0.25, 0.5])]
)
def test_the_schedule_may_be_any_sequence(sparsities):
    params = {"w": jnp.ones((2, 2))}
    tx = pruning.dissipate_to(sparsities, check_every=1)
    state = tx.init(params)
    for expected in (0.25, 0.5, 0.5):
        _, state = tx.update(params, state, params)
        assert pruning.sparsity(pruning.get_masks(state)) == expected


@pytest.mark.parametrize(
    "dtypes", [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "float32")]
)
@pytest.mark.parametrize("form", [pruning.dissipate, pruning.dissipate_settled])
def test_params_and_updates_of_different_precision(form, dtypes):
    """1/3 is not a bfloat16: the update that takes it to zero must not be rounded."""
    params = {"w": jnp.array([[1 / 3, 1 / 3]], dtypes[0])}
    updates = {"w": jnp.array([[0.001, 0.7], [0.3, 0.3], [0.3, 0.3]], dtypes[1])[:, None]}
    tx = form(0.1, check_every=1, stop_after=1)
    found, masks = jax.jit(lambda: run(tx, params, updates))()
    assert found["w"].dtype == dtypes[0]
    assert masks["w"][0].tolist() == [[False, True]]
    assert np.asarray(found["w"][:, 0, 0], np.float32).tolist() == [0, 0, 0]
    assert (np.asarray(found["w"][:, 0, 1], np.float32) > 0.9).all()


def test_the_state_is_one_copy_of_the_prunable_weights_and_a_byte_a_weight():
    params = {"w": jnp.ones((30, 20)), "h": jnp.ones((8, 9), jnp.bfloat16), "b": jnp.ones(1000)}
    for tx in (
        pruning.dissipate(0.1, check_every=1, stop_after=1),
        pruning.dissipate_settled(0.1, check_every=1, stop_after=1),
        pruning.dissipate_to(np.array([0.5]), check_every=1),
    ):
        state = tx.init(params)
        updated = jax.jit(tx.update)(params, state, params)[1]
        for each in (state, updated):
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(each))
            assert size == (600 * 4 + 72 * 2) + (600 + 72) + 4


@pytest.mark.parametrize("form", [pruning.dissipate, pruning.dissipate_settled])
@pytest.mark.parametrize(
    ("fraction", "check_every", "stop_after", "message"),
    [
        (-0.1, 1, 1, "fraction >= 0"),
        (float("nan"), 1, 1, "fraction >= 0"),
        (0.1, 0, 1, "check_every >= 1"),
        (0.1, -3, 1, "check_every >= 1"),
        (0.1, 1, -1, "stop_after >= 0"),
        (0.1, 2.5, 5, "check_every >= 1, a whole number"),
        ("0.1", 1, 1, "fraction >= 0"),
        (lambda step: 0.1, 1, 1, "fraction >= 0"),
    ],
)
def test_bad_knobs(form, fraction, check_every, stop_after, message):
    with pytest.raises(ValueError, match=message):
        form(fraction, check_every=check_every, stop_after=stop_after)


@pytest.mark.parametrize(
    ("sparsities", "check_every", "message"),
    [
        ([], 1, "a sequence of sparsities"),
        (0.5, 1, "a sequence of sparsities"),
        ([[0.5]], 1, "a sequence of sparsities"),
        ([0.5, 0.25], 1, "do not decrease"),
        ([0.5, 1.0], 1, r"sparsities\[1\] in \[0, 1\)"),
        ([float("nan")], 1, r"sparsities\[0\] in \[0, 1\)"),
        ([0.5], 0, "check_every >= 1"),
    ],
)
def test_bad_schedules(sparsities, check_every, message):
    with pytest.raises(ValueError, match=message):
        pruning.dissipate_to(np.array(sparsities), check_every=check_every)
