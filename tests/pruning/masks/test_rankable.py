"""Scores that rank nothing, by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import checkify

import pruning

ZEROS = {"u": jnp.zeros((1, 2)), "v": jnp.zeros((2, 1)), "b": None}


def trees(first, second):
    """Two layers, each of one score."""
    return {"u": jnp.full((1, 2), first), "v": jnp.full((2, 1), second), "b": None}


GOOD = [trees(0.0, 1.0), trees(0.0, -1.0), trees(jnp.inf, 0.0), trees(1.0, 1.0), trees(-jnp.inf, 2.0)]
BAD = [
    (ZEROS, "got 0 for all 4 of them: a layer of the network is zero .* underflows in float32"),
    (trees(-0.0, 0.0), "got 0 for all 4"),
    (trees(jnp.inf, -jnp.inf), "got infinity for all 4 of them: a derivative overflows"),
    (trees(1.0, jnp.nan), r"got NaN at \['v'\]"),
    (trees(jnp.nan, jnp.nan), r"got NaN at \['u'\]"),
]


@pytest.mark.parametrize("scores", GOOD)
def test_what_ranks_passes(scores):
    pruning.check_rankable(scores)
    error, _ = checkify.checkify(jax.jit(pruning.check_rankable))(scores)
    error.throw()


@pytest.mark.parametrize(("scores", "message"), BAD)
def test_what_ranks_nothing_is_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        pruning.check_rankable(scores)
    error, _ = checkify.checkify(jax.jit(pruning.check_rankable))(scores)
    assert "expected scores that" in error.get()
    jax.jit(pruning.check_rankable)(scores)  # Cannot be read.


def test_zeros_pass_once_a_weight_is_pruned():
    masks = {"u": jnp.array([[True, False]]), "v": jnp.ones((2, 1), bool), "b": None}
    pruning.check_rankable(ZEROS, masks)
    with pytest.raises(ValueError, match="got 0 for all"):
        pruning.check_rankable(ZEROS, pruning.full_masks(ZEROS))


def test_weights_that_are_pruned_do_not_compete():
    masks = {"u": jnp.zeros((1, 2), bool), "v": jnp.ones((2, 1), bool), "b": None}
    pruning.check_rankable(trees(jnp.nan, 1.0), masks)
    with pytest.raises(ValueError, match="infinity"):
        pruning.check_rankable(trees(1.0, jnp.inf), masks)


def test_masks_must_fit():
    with pytest.raises(ValueError, match="shape"):
        pruning.check_rankable(
            ZEROS, {"u": jnp.ones((1, 1), bool), "v": jnp.ones((2, 1), bool), "b": None}
        )


def test_members_are_checked_side_by_side():
    several = {"u": jnp.array([[[0.0, 1.0]], [[0.0, 0.0]]])}
    error, _ = checkify.checkify(jax.vmap(pruning.check_rankable))(several)
    assert "got 0 for all 2" in error.get()


def test_a_tree_without_scores_is_refused():
    with pytest.raises(ValueError, match="at least one layer of scores, got a tree with none"):
        pruning.check_rankable({"u": None})


SELECTIONS = {
    "prune_remaining": lambda scores: pruning.prune_remaining(scores, pruning.full_masks(scores), 0.5),
    "layerwise_masks": lambda scores: pruning.layerwise_masks(scores, pruning.uniform(scores, 0.5)),
    "n_m_masks": lambda scores: pruning.n_m_masks(scores, 1, 2),
    "constant_fan_in_masks": lambda scores: pruning.constant_fan_in_masks(scores, 0.5),
    "channel_masks": lambda scores: pruning.channel_masks(scores, 0.5),
    "block_masks": lambda scores: pruning.block_masks(scores, 0.5, block=(1, 1)),
}


@pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS)
def test_every_selection_refuses_what_ranks_nothing(select):
    for value in (0.0, jnp.inf):
        with pytest.raises(ValueError, match="expected scores that rank the weights, got"):
            select({"w": jnp.full((2, 2), value)})
    jax.jit(select)({"w": jnp.zeros((2, 2))})  # Cannot be read.


@pytest.mark.parametrize(
    "select", [pruning.channel_masks, lambda s, f: pruning.prune_remaining(s, pruning.full_masks(s), f)]
)
def test_a_fraction_may_be_an_array_that_a_program_closes_over(select):
    half = jnp.float32(0.5)
    assert jax.jit(lambda scores: select(scores, half))({"w": jnp.eye(2)})["w"].sum() == 2


def test_where_nothing_is_to_go_nothing_need_rank():
    scores = {"w": jnp.zeros((2, 2))}
    assert pruning.layerwise_masks(scores, {"w": 0.0})["w"].all()
    assert pruning.channel_masks(scores, 0.0)["w"].all()
    assert pruning.n_m_masks(scores, 2, 2)["w"].all()
    masks = pruning.full_masks(scores)
    assert pruning.prune_remaining(scores, masks, 0.0)["w"].all()
    nothing = jax.tree.map(jnp.logical_not, masks)
    assert not pruning.prune_remaining(scores, nothing, 0.5)["w"].any()
