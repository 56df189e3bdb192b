import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
PARAMS = {"w": jnp.arange(1.0, 9).reshape(2, 4), "b": jnp.zeros(4)}


def first_weight_counts(params, masks):
    """Trains to 10 where the mask keeps the first weight, to 1 elsewhere; the sums are known too."""
    size = jnp.where(masks["w"][0, 0], 10.0, 1.0)
    trained = {"w": jnp.where(masks["w"], size, 0), "b": params["b"] + size}
    return trained, {"w": jnp.where(masks["w"], -size, 0), "b": None}


def search(train_fn=first_weight_counts, **knobs):
    knobs = {"k": 6, "sparsity": 0.5, "fitness": pruning.weight_fitness, **knobs}
    return jax.jit(lambda key: pruning.k_starts(key, PARAMS, train_fn, **knobs))(KEY)


@pytest.mark.parametrize(
    "fitness", [pruning.weight_fitness, pruning.gradient_fitness, pruning.combined_fitness]
)
def test_the_winner_is_the_one_we_know(fitness):
    masks = pruning.candidate_masks(KEY, PARAMS, k=6, sparsity=0.5)
    keeps_first = np.asarray(masks["w"][:, 0, 0])
    assert 0 < keeps_first.sum() < 6
    found = search(fitness=fitness)
    assert int(found.winner) == keeps_first.argmax()
    np.testing.assert_array_equal(found.masks["w"], masks["w"][found.winner])


def test_the_winner_goes_on_from_its_trained_params():
    found = search()
    expected, _ = first_weight_counts(PARAMS, found.masks)
    np.testing.assert_array_equal(found.params["w"], expected["w"])
    np.testing.assert_array_equal(found.params["b"], expected["b"])
    assert found.fitness[found.winner] == 10


def test_training_starts_from_masked_params():
    seen = search(lambda params, masks: (params, params))
    np.testing.assert_array_equal(seen.params["w"], np.where(seen.masks["w"], PARAMS["w"], 0))


def test_one_candidate_is_the_random_mask_of_its_key():
    found = search(k=1)
    alone = pruning.random_masks(jax.random.split(KEY, 1)[0], PARAMS, 0.5)
    assert int(found.winner) == 0
    assert found.fitness.shape == (1,)
    np.testing.assert_array_equal(found.masks["w"], alone["w"])


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_chunks_change_nothing(chunk_size):
    whole, chunked = (
        search(fitness=pruning.combined_fitness),
        search(fitness=pruning.combined_fitness, chunk_size=chunk_size),
    )
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_candidates_differ_and_have_exact_counts():
    masks = np.asarray(pruning.candidate_masks(KEY, PARAMS, k=8, sparsity=0.7)["w"])
    assert (masks.sum(axis=(1, 2)) == 3).all()
    assert len({mask.tobytes() for mask in masks}) > 4


def test_an_allocation_and_a_predicate_reach_the_candidates():
    params = {"a": jnp.ones((10, 10)), "b": jnp.ones((2, 2)), "c": jnp.ones((2, 2))}
    masks = pruning.candidate_masks(
        KEY,
        params,
        k=2,
        sparsity=0.5,
        allocation=pruning.erdos_renyi,
        prunable=lambda path, leaf: path[0].key != "c",
    )
    assert masks["c"] is None
    assert masks["b"].all()
    assert (~masks["a"]).sum(axis=(1, 2)).tolist() == [52, 52]


# Two candidates, three kept weights each over two layers, one not prunable.
STACKED = {
    "a": jnp.array([[[1.0, -2.0]], [[-4.0, 9.0]]]),
    "b": jnp.array([[[3.0, 7.0]], [[5.0, 6.0]]]),
    "c": jnp.ones((2, 1)),
}
SUMS = {
    "a": jnp.array([[[2.0, 2.0]], [[-1.0, 8.0]]]),
    "b": jnp.array([[[-2.0, 8.0]], [[1.0, 1.0]]]),
    "c": None,
}
KEPT = {
    "a": jnp.array([[[True, True]], [[True, False]]]),
    "b": jnp.array([[[True, False]], [[True, True]]]),
    "c": None,
}


def test_fitness_by_hand():
    assert pruning.weight_fitness(STACKED, SUMS, KEPT).tolist() == [(1 + 2 + 3) / 3, (4 + 5 + 6) / 3]
    assert pruning.gradient_fitness(STACKED, SUMS, KEPT).tolist() == [(2 + 2 + 2) / 3, (1 + 1 + 1) / 3]
    # Two values standardise to -1 and 1, whatever they are; here the parts disagree.
    np.testing.assert_allclose(pruning.combined_fitness(STACKED, SUMS, KEPT), [0, 0], atol=1e-6)
    np.testing.assert_allclose(pruning.combined_fitness(STACKED, STACKED, KEPT), [-2, 2], rtol=1e-6)


THREE, DEVIATION = [1.0, 2.0, 3.0], 1.5**0.5


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1e-6, 2e-6, 3e-6], THREE, [-2 * DEVIATION, 0, 2 * DEVIATION]),  # whatever their scale
        (
            [0.7, 0.7, 0.7],
            THREE,
            [-DEVIATION, 0, DEVIATION],
        ),  # no difference adds nothing
        ([1.0, np.nan, 3.0], [1.0, np.nan, 3.0], [-2, np.nan, 2]),  # NaN leaves the others alone
    ],
)
def test_standardised_parts_by_hand(one, other, expected):
    found = pruning.add_standardised(jnp.array(one), jnp.array(other))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e38])
def test_standardised_parts_may_be_of_any_size(scale):
    parts, same = jnp.array([1.0, 2.0, 3.0]), jnp.ones(3)
    found = pruning.add_standardised(parts * scale, same)
    np.testing.assert_allclose(found, pruning.add_standardised(parts, same), atol=1e-5)


def test_of_two_candidates_fitnesses_that_disagree_tie_exactly():
    """Also where they nearly agree, and rounding would decide."""
    rng = np.random.default_rng(0)
    for one, other in rng.uniform(0.03, 0.04, (50, 2)).astype(np.float32):
        first, second = jnp.array([one, one + 1e-6]), jnp.array([other + 3e-6, other])
        assert jax.jit(pruning.add_standardised)(first, second).tolist() == [0, 0]


def test_what_is_pruned_does_not_count_even_if_it_is_nan():
    params = {"a": jnp.where(KEPT["a"], STACKED["a"], jnp.nan), "b": STACKED["b"], "c": STACKED["c"]}
    assert pruning.weight_fitness(params, SUMS, KEPT).tolist() == [2, 5]


def test_half_precision_is_summed_in_float32():
    params, masks = {"w": jnp.ones((1, 64, 64), jnp.bfloat16)}, {"w": jnp.ones((1, 64, 64), bool)}
    fitness = pruning.weight_fitness(params, None, masks)
    assert fitness.dtype == jnp.float32
    assert fitness.tolist() == [1.0]


def diverging(value):
    """Training in which the candidates that keep the first weight diverge."""

    def train(params, masks):
        bad = jnp.where(masks["w"][0, 0], value, 1.0)
        trained = jax.tree.map(lambda p: p * bad, params)
        return trained, {"w": trained["w"], "b": None}

    return train


@pytest.mark.parametrize(
    "fitness", [pruning.weight_fitness, pruning.gradient_fitness, pruning.combined_fitness]
)
def test_a_candidate_that_is_nan_never_wins(fitness):
    found = search(diverging(jnp.nan), fitness=fitness)
    assert not bool(found.masks["w"][0, 0])
    assert np.isfinite(found.fitness[found.winner])
    assert np.isfinite(found.params["w"]).all()


def test_a_candidate_that_is_infinite_does_not_make_the_others_nan():
    parts, fine = jnp.array([1.0, jnp.inf, 3.0]), jnp.array([1.0, 2.0, 3.0])
    combined = pruning.add_standardised(parts, fine)
    assert np.isfinite(combined[jnp.array([0, 2])]).all()


def test_what_has_diverged_loses_against_any_finite_fitness():
    masks = {"w": jnp.ones((4, 1, 1), bool)}
    fitness = jnp.array([jnp.nan, jnp.inf, -1e30, -jnp.inf])
    assert int(pruning.fittest(masks, masks, fitness).winner) == 2


def test_ties_go_to_the_lower_index():
    masks = {"w": jnp.ones((3, 1, 1), bool)}
    assert int(pruning.fittest(masks, masks, jnp.array([1.0, 2.0, 2.0])).winner) == 1


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"k": 0}, "k >= 1"),
        ({"k": 2.0}, r"k >= 1, a whole number, got 2\.0"),
        ({"chunk_size": 0}, "chunk_size >= 1"),
        ({"chunk_size": -3}, "chunk_size >= 1"),
        ({"sparsity": 1.0}, r"in \[0, 1\)"),
        ({"sparsity": float("nan")}, r"in \[0, 1\)"),
    ],
)
def test_bad_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        search(**knobs)


@pytest.mark.parametrize("fitness", [jnp.zeros(2), jnp.zeros((3, 1)), jnp.float32(0)])
def test_a_fitness_of_another_shape_is_an_error(fitness):
    masks = {"w": jnp.ones((3, 1, 1), bool)}
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        pruning.fittest(masks, masks, fitness)


@pytest.mark.parametrize(
    ("params", "masks", "got"),
    [
        ({"w": jnp.ones((4, 2))}, {"w": jnp.ones((3, 4, 2), bool)}, r"\(4, 2\) at \['params'\]\['w'\]"),
        ({"w": jnp.ones((3, 2))}, {"w": jnp.bool(True)}, r"\(\) at \['masks'\]\['w'\]"),
        ({}, {"w": None}, "got no arrays"),
    ],
)
def test_trees_without_one_leading_axis_have_no_fittest(params, masks, got):
    with pytest.raises(ValueError, match=f"one leading axis with an entry for each candidate, .*{got}"):
        pruning.fittest(params, masks, jnp.zeros(3))


@pytest.mark.parametrize("second", [jnp.ones(2), jnp.ones((3, 1)), 1.0])
def test_fitnesses_of_two_shapes_cannot_be_added(second):
    with pytest.raises(ValueError, match=r"one shape \(K,\), got \(3,\) and"):
        pruning.add_standardised(jnp.ones(3), second)


def test_candidates_without_a_mask_have_no_fitness():
    with pytest.raises(ValueError, match="expected masks of at least one leaf"):
        pruning.weight_fitness({"w": jnp.ones((3, 2, 2))}, {}, {"w": None})


@pytest.mark.parametrize(
    "fitness",
    [
        [1, 9, 9, 7],
        jnp.array([2**24, 2**24 + 1, 2**24 + 1, 3], jnp.uint32),
        jnp.array([False, True, True, False]),
    ],
)
def test_the_fittest_by_numbers_that_are_no_floats(fitness):
    masks = {"w": jnp.ones((4, 1, 1), bool)}
    assert int(pruning.fittest_candidate(fitness)) == 1
    assert int(pruning.fittest(masks, masks, fitness).winner) == 1


@pytest.mark.slow
def test_a_whole_equinox_model_is_searched():
    """Its functions are the same for all candidates, and come back with the winner."""
    model = eqx.nn.MLP(2, 2, 4, 1, key=KEY)

    @eqx.filter_jit
    def train_fn(model, masks):
        arrays = eqx.filter(model, eqx.is_array)
        tx = optax.chain(pruning.accumulate_gradients(), optax.sgd(0.1), pruning.hold_masks(masks))
        gradients = eqx.filter_grad(lambda model: jnp.sum(model(jnp.ones(2)) ** 2))(model)
        updates, state = tx.update(gradients, tx.init(arrays), arrays)
        return eqx.apply_updates(model, updates), optax.tree.get(state, "gradient_sums")

    knobs = {"k": 3, "sparsity": 0.5, "fitness": pruning.combined_fitness}
    found = pruning.k_starts(KEY, model, train_fn, **knobs)
    assert found.params.activation is model.activation
    assert found.params(jnp.ones(2)).shape == (2,)
    weight, mask = (np.asarray(tree.layers[0].weight) for tree in (found.params, found.masks))
    assert mask.sum() == 4
    assert (weight[~mask] == 0).all()
    chunked = pruning.k_starts(KEY, model, train_fn, chunk_size=2, **knobs)
    np.testing.assert_allclose(chunked.fitness, found.fitness, rtol=1e-6)
    assert chunked.params.activation is model.activation


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda params: (params, params, params),
            "got 3 values; batch statistics belong into the params",
        ),
        (lambda params: params, "got dict"),
        (lambda params: ((params, params), params), r"at \['w'\], where the masks are, got \[0\]\['b'\]"),
        (
            lambda params: ({"w": params["w"][:1]}, params),
            r"shape \(6, 2, 4\) at \['w'\].*shape \(6, 1, 4\)",
        ),
    ],
)
def test_a_train_fn_that_returns_something_else_is_told_what_to_return(returned, message):
    with pytest.raises(ValueError, match=message) as error:
        search(lambda params, masks: returned(params))
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)
