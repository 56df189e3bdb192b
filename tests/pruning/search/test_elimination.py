import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(5)
PARAMS = {"w": jnp.arange(1.0, 9).reshape(2, 4)}


def keep(params, masks, epoch):
    return params, params


def mean_weight(params, sums, masks):
    return pruning.weight_fitness(params, sums, masks)


def search(train_fn=keep, fitness=mean_weight, k=5, sparsity=0.5):
    knobs = {"k": k, "sparsity": sparsity, "fitness": fitness}
    return jax.jit(lambda key: pruning.successive_elimination(key, PARAMS, train_fn, **knobs))(KEY)


@pytest.mark.slow
def test_with_constant_fitness_the_best_candidate_of_k_starts_wins():
    found = search()
    whole = pruning.k_starts(
        KEY, PARAMS, lambda p, m: (p, p), k=5, sparsity=0.5, fitness=pruning.weight_fitness
    )
    assert int(found.winner) == int(whole.winner)
    np.testing.assert_array_equal(found.masks["w"], whole.masks["w"])
    np.testing.assert_allclose(found.fitness, whole.fitness, rtol=1e-6)


@pytest.mark.parametrize("k", [5, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 8))])
def test_half_of_the_candidates_go_after_each_epoch(k):
    sizes = []

    def counting(params, sums, masks):
        sizes.append(len(masks["w"]))
        return jnp.arange(float(len(masks["w"])))

    search(fitness=counting, k=k)
    epochs = max(1, math.ceil(math.log2(k)))
    assert sizes == [math.ceil(k / 2**epoch) for epoch in range(epochs)]


def test_survivors_train_on_and_see_their_epoch():
    def add_epoch(params, masks, epoch):
        trained = {"w": jnp.where(masks["w"], params["w"] + 10**epoch, 0)}
        return trained, trained

    found = search(add_epoch, k=5)  # three epochs: 1 + 10 + 100
    expected = np.where(found.masks["w"], PARAMS["w"] + 111, 0)
    np.testing.assert_array_equal(found.params["w"], expected)


@pytest.mark.slow
def test_fitness_holds_the_last_epoch_of_each():
    epochs = iter([jnp.array([0.0, 3.0, 2.0, 1.0]), jnp.array([10.0, 20.0])])
    found = search(fitness=lambda params, sums, masks: next(epochs), k=4)
    assert found.fitness.tolist() == [0, 10, 20, 1]
    assert int(found.winner) == 2
    masks = pruning.candidate_masks(KEY, PARAMS, k=4, sparsity=0.5)
    np.testing.assert_array_equal(found.masks["w"], masks["w"][2])


def test_counts_as_fitness_keep_the_fittest():
    def count(trained, sums, masks):
        first = jnp.array([1, 5, 9, 7], jnp.uint32)
        return first if len(masks["w"]) == 4 else jnp.arange(len(masks["w"]), dtype=jnp.uint32)

    found = search(fitness=count, k=4)
    assert (int(found.winner), found.fitness.tolist()) == (3, [1, 5, 0, 1])


def test_nan_goes_first():
    epochs = iter([jnp.array([jnp.nan, -3.0, jnp.nan, -2.0]), jnp.array([jnp.nan, -9.0])])
    found = search(fitness=lambda params, sums, masks: next(epochs), k=4)
    assert int(found.winner) == 3


@pytest.mark.parametrize(
    ("knobs", "message"), [({"k": 0}, "k >= 1"), ({"sparsity": 1.0}, r"in \[0, 1\)")]
)
def test_bad_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        search(**knobs)


@pytest.mark.slow
def test_functions_among_the_leaves_come_back_with_the_winner():
    params = {"w": jnp.arange(1.0, 9).reshape(2, 4), "activation": jax.nn.relu}

    def grow(params, masks, epoch):
        return {**params, "w": params["w"] * 2}, {"w": params["w"]}

    found = pruning.successive_elimination(
        jax.random.key(0), params, grow, k=4, sparsity=0.5, fitness=pruning.weight_fitness
    )
    assert found.params["activation"] is jax.nn.relu
    assert found.params["w"].shape == (2, 4)


@pytest.mark.parametrize("shape", [(1,), (), (2,)])
def test_a_fitness_that_is_not_one_number_a_candidate_is_an_error(shape):
    with pytest.raises(ValueError, match=r"expected a fitness of shape \(5,\), got"):
        pruning.successive_elimination(
            KEY, PARAMS, keep, k=5, sparsity=0.5, fitness=lambda *found: jnp.zeros(shape)
        )


@pytest.mark.parametrize(
    ("returned", "got"), [(lambda p: p, "got dict"), (lambda p: (p, p, p), "got 3 values")]
)
def test_a_training_that_returns_no_pair_is_an_error(returned, got):
    with pytest.raises(ValueError, match=rf"train_fn to return \(params, gradient_sums\), {got}"):
        pruning.successive_elimination(
            KEY,
            PARAMS,
            lambda params, masks, epoch: returned(params),
            k=2,
            sparsity=0.5,
            fitness=pruning.weight_fitness,
        )
