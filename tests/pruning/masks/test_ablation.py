"""Ablations change one thing, do change it, and leave the rest alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pruning

KEYS = jax.random.split(jax.random.key(0), 6000)
select = jax.jit(pruning.global_masks)
shuffle = jax.jit(pruning.shuffle_masks)
shuffle_with_every_key = jax.jit(jax.vmap(pruning.shuffle_masks, in_axes=(0, None)))

TREES = st.fixed_dictionaries(
    {"u": hnp.arrays(bool, (3, 5)), "v": hnp.arrays(bool, (2, 1, 4)), "b": st.none()}
)


@settings(deadline=None)
@given(st.integers(0, 2**31), TREES)
def test_shuffling_keeps_as_many_weights_in_every_layer(seed, masks):
    """Of empty and full layers too."""
    found = shuffle(jax.random.key(seed), masks)
    assert found["b"] is None
    for name in ("u", "v"):
        assert found[name].shape == masks[name].shape
        assert found[name].sum() == masks[name].sum()


TWO_OF_FOUR = jnp.array([[True, True], [False, False]])


def places(mask):
    """A number for each of the six ways to keep two of four, of many masks."""
    ways = [sum(1 << i for i in two) for two in itertools.combinations(range(4), 2)]
    return np.searchsorted(sorted(ways), np.asarray(mask).reshape(-1, 4) @ (1 << np.arange(4)))


def test_every_arrangement_is_as_likely_as_another():
    """Shuffling rows or columns alone would leave some out; 1000 +- 29 of each are expected."""
    found = places(shuffle_with_every_key(KEYS, {"w": TWO_OF_FOUR})["w"])
    np.testing.assert_allclose(np.bincount(found, minlength=6), 1000, atol=150)


def test_layers_are_shuffled_independently():
    """Of the 36 pairs of arrangements each comes 167 +- 13 times."""
    masks = shuffle_with_every_key(KEYS, {"u": TWO_OF_FOUR, "v": TWO_OF_FOUR.T})
    pairs = 6 * places(masks["u"]) + places(masks["v"])
    np.testing.assert_allclose(np.bincount(pairs, minlength=36), 6000 / 36, atol=65)


@pytest.mark.slow
def test_a_layer_is_shuffled_by_its_place_whatever_the_others_hold():
    key, others = jax.random.key(3), {"u": jnp.ones((9, 9), bool), "b": None}
    mask = jnp.arange(100).reshape(10, 10) < 50
    expected = shuffle(key, {"u": TWO_OF_FOUR, "w": mask})["w"]
    assert (shuffle(key, {**others, "w": mask})["w"] == expected).all()


def test_inverting_keeps_the_other_end():
    scores = {"u": jnp.array([[5.0, -6.0, 4.0]]), "v": jnp.array([[2.0], [0.0]]), "b": None}
    inverted = pruning.invert_scores(scores)
    kept = select(inverted, 0.6)
    assert kept["u"].tolist() == [[False, True, False]]
    assert kept["v"].tolist() == [[False], [True]]
    assert kept["b"] is None


def test_inverting_keeps_exactly_what_else_would_go_first():
    scores = pruning.random_scores(jax.random.key(0), {"u": jnp.ones((30, 20)), "v": jnp.ones((40, 10))})
    for tenths in (1, 5, 9):
        lowest = select(pruning.invert_scores(scores), tenths / 10)
        highest = select(scores, 1 - tenths / 10)
        assert jax.tree.map(lambda low, high: bool((low != high).all()), lowest, highest) == {
            "u": True,
            "v": True,
        }


def test_inverted_ties_still_go_to_the_lower_index():
    scores = pruning.invert_scores({"w": jnp.array([[1.0, 1.0, 0.0, 1.0]])})
    assert select(scores, 0.5)["w"].tolist() == [[True, False, True, False]]


def initial(key):
    of_w, of_b = jax.random.split(key)
    return {"w": jax.random.normal(of_w, (4, 5)), "b": jax.random.normal(of_b, (5,))}


def test_reinitialising_draws_all_anew_under_the_same_masks():
    before = initial(jax.random.key(0))
    masks = {"w": before["w"] > 0, "b": None}
    after = pruning.reinitialise(jax.random.key(1), initial, masks)
    drawn = initial(jax.random.key(1))
    np.testing.assert_array_equal(after["w"], np.where(masks["w"], drawn["w"], 0))
    np.testing.assert_array_equal(after["b"], drawn["b"])
    assert ((after["w"] != before["w"]) | ~masks["w"]).all()
    assert (after["b"] != before["b"]).all()


def test_reinitialising_needs_masks_of_those_params():
    with pytest.raises(ValueError, match=r"shape \(4, 5\) at \['w'\], got \(5, 4\)"):
        pruning.reinitialise(jax.random.key(0), initial, {"w": jnp.ones((5, 4), bool), "b": None})


# --- new weights by each unit's own fan-in --------------------------------------------------------

FAN_INS = jnp.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]) > 0  # 4, 1, 0, 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_unit_s_weights_are_divided_by_the_root_of_its_own_fan_in(dtype):
    """With gain 6 by hand: 3 where four weights are kept, 6 where one is."""
    key, params = jax.random.key(5), {"b": jnp.ones(4), "w": jnp.full((4, 4), 9, dtype)}
    found = pruning.sparse_kaiming_normal(key, params, {"b": None, "w": FAN_INS}, gain=6.0)
    normal = jax.random.normal(jax.random.fold_in(key, 0), (4, 4))
    by_hand = np.where(FAN_INS, normal * np.array([[3, 6, 0, 0]]), 0)
    assert found["w"].dtype == dtype
    np.testing.assert_array_equal(found["w"], jnp.asarray(by_hand, dtype))
    np.testing.assert_array_equal(found["b"], params["b"])


@pytest.mark.slow
def test_the_spread_is_that_of_what_leads_in():
    """Over a convolution's window and inputs; the sum of n squares is off by sqrt(2 / n) of itself."""
    params = {"conv": {"kernel": jnp.zeros((3, 3, 64, 40))}, "dense": {"kernel": jnp.zeros((900, 40))}}

    def drawn(leaf):
        shares = jnp.broadcast_to(jnp.linspace(0.02, 1, 40), leaf.shape)
        return jax.random.uniform(jax.random.key(1), leaf.shape) < shares

    masks = jax.tree.map(drawn, params)
    found = pruning.sparse_kaiming_normal(jax.random.key(0), params, masks)
    for name, inputs in (("conv", (0, 1, 2)), ("dense", (0,))):
        mask, weights = (np.asarray(tree[name]["kernel"]) for tree in (masks, found))
        counts = mask.sum(inputs)
        assert counts.min() < 40 < 500 < counts.max()
        squares = (weights.astype(np.float64) ** 2).sum(inputs)  # 2 / f a weight, so 2 a unit
        np.testing.assert_array_less(abs(squares / 2 - 1), 4 * np.sqrt(2 / counts))
        assert squares.mean() == pytest.approx(2, rel=0.05)


@pytest.mark.slow
def test_units_are_found_in_stacks_and_other_layouts():
    key, mask = jax.random.key(0), jax.random.uniform(jax.random.key(1), (3, 6, 5)) < 0.5
    drawn = jax.random.normal(jax.random.fold_in(key, 0), (3, 6, 5))
    fan_in = jnp.maximum(mask.sum(1, keepdims=True), 1)
    expected = jnp.where(mask, drawn * jnp.sqrt(2 / fan_in), 0)
    params = {"w": jnp.ones((3, 6, 5))}
    for layout in (
        pruning.stacked_layout(),
        lambda path, leaf: pruning.Axes(inputs=(1,), outputs=(0, 2)),
    ):
        found = pruning.sparse_kaiming_normal(key, params, {"w": mask}, layout=layout)["w"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_no_weights_can_be_drawn_for_is_refused():
    params = {"w": jnp.ones((4, 5))}
    with pytest.raises(ValueError, match=r"shape \(4, 5\) at \['w'\], got \(5, 4\)"):
        pruning.sparse_kaiming_normal(jax.random.key(0), params, {"w": jnp.ones((5, 4), bool)})
    for gain in (0.0, -1.0, float("inf"), float("nan"), "2"):
        with pytest.raises(ValueError, match="a finite gain > 0, got"):
            pruning.sparse_kaiming_normal(
                jax.random.key(0), params, pruning.full_masks(params), gain=gain
            )
