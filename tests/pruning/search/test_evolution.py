import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(7)
PARAMS = {
    "a": jnp.arange(1.0, 13).reshape(3, 4),
    "b": jnp.arange(1.0, 9).reshape(2, 2, 2),
    "c": jnp.ones(3),
}

draw = jax.jit(lambda key, s: pruning.random_masks(key, PARAMS, s))
FRACTIONS = (0.0, 0.3, 1.0)
mutated = {f: jax.jit(lambda key, masks, f=f: pruning.mutate_masks(key, masks, f)) for f in FRACTIONS}
crossed = jax.jit(pruning.crossover_masks)


def counts(masks):
    return [int(mask.sum()) for mask in jax.tree.leaves(masks)]


@pytest.mark.slow
def test_a_traced_fraction_moves_as_many():
    masks, mutate = draw(KEY, 0.5), jax.jit(pruning.mutate_masks)
    for fraction in FRACTIONS:
        expected = mutated[fraction](KEY, masks)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, mutate(KEY, masks, fraction), expected))


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0, 0.99), st.sampled_from(FRACTIONS))
def test_mutation_moves_exactly_its_fraction_in_each_layer(seed, sparsity, fraction):
    first, second = jax.random.split(jax.random.key(seed))
    masks = draw(first, sparsity)
    child = mutated[fraction](second, masks)
    assert counts(child) == counts(masks)
    assert child["c"] is None
    for name in ("a", "b"):
        kept, size = int(masks[name].sum()), masks[name].size
        left = int((masks[name] & ~child[name]).sum())
        assert left == min(int(np.floor(fraction * kept + 1e-6)), size - kept)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0, 0.99))
def test_a_child_has_what_both_have_and_nothing_that_neither_has(seed, sparsity):
    keys = jax.random.split(jax.random.key(seed), 3)
    one, other = draw(keys[0], sparsity), draw(keys[1], sparsity)
    child = crossed(keys[2], one, other)
    assert counts(child) == counts(one)
    for name in ("a", "b"):
        assert not (one[name] & other[name] & ~child[name]).any()
        assert not (child[name] & ~one[name] & ~other[name]).any()


def test_a_child_takes_after_both_parents():
    one, other = ({"w": jnp.arange(100).reshape(10, 10) % 2 == parity} for parity in (0, 1))
    child = pruning.crossover_masks(KEY, one, other)
    assert 12 < int((child["w"] & one["w"]).sum()) < 38  # half of 50, give or take


def grow(params, masks):
    return params, {"a": params["a"], "b": params["b"], "c": None}


def evolve(key=KEY, train_fn=grow, **knobs):
    knobs = {"k": 5, "sparsity": 0.5, "fitness": pruning.weight_fitness, "generations": 3, **knobs}
    return pruning.evolve_masks(key, PARAMS, train_fn, **knobs)


def test_one_generation_is_k_starts():
    found = evolve(generations=1)
    candidates = jax.random.split(KEY)[0]
    expected = pruning.k_starts(
        candidates, PARAMS, grow, k=5, sparsity=0.5, fitness=pruning.weight_fitness
    )
    np.testing.assert_array_equal(found.fitness, expected.fitness)
    np.testing.assert_array_equal(found.masks["a"], expected.masks["a"])


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.slow
def test_the_best_gets_better_and_the_counts_never_change(k):
    """Training is the same in every generation here, so the elite keeps its fitness."""
    run = jax.jit(evolve, static_argnames=("k", "generations"))
    start, end = (run(KEY, k=k, generations=generations) for generations in (1, 6))
    for found in (start, end):
        assert counts(found.masks) == [6, 4]
        assert found.fitness.shape == (k,)
    if k > 2:
        assert float(end.fitness.max()) > float(start.fitness.max())
    else:
        assert float(end.fitness.max()) >= float(start.fitness.max())


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"k": 0}, "k >= 1"),
        ({"generations": 0}, "generations >= 1"),
        ({"generations": 2.0}, r"generations >= 1, a whole number, got 2\.0"),
        ({"mutation": -0.1}, r"in \[0, 1\]"),
        ({"mutation": 1.1}, r"in \[0, 1\]"),
        ({"mutation": float("nan")}, r"in \[0, 1\]"),
        ({"sparsity": 1.0}, r"in \[0, 1\)"),
    ],
)
def test_bad_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        evolve(**knobs)


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        pruning.mutate_masks(KEY, {"w": jnp.ones((2, 2), bool)}, fraction)


@pytest.mark.parametrize(
    "other",
    [
        {"w": jnp.ones((2, 3), bool), "v": jnp.ones((2, 2), bool)},
        {"w": jnp.ones((2, 2), bool)},
        {"w": jnp.ones((2, 2), bool), "v": None},
        {"w": jnp.ones((2, 2)), "v": jnp.ones((2, 2), bool)},
    ],
)
def test_parents_that_do_not_match_are_an_error(other):
    with pytest.raises(ValueError, match=r"expected"):
        pruning.crossover_masks(KEY, {"w": jnp.ones((2, 2), bool), "v": jnp.ones((2, 2), bool)}, other)


def test_counts_as_fitness_keep_the_fittest():
    masks = {"w": jnp.array([[[True, False]], [[False, True]], [[True, True]]])}
    for fitness in [jnp.array([1, 2, 0], jnp.uint32), [1, 2, 0]]:
        survivors = pruning.breed_masks(KEY, masks, fitness, mutation=0.0)["w"][:2, 0]
        assert survivors.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    "masks",
    [{}, {"w": None}, {"w": jnp.bool(True)}, {"w": jnp.ones((2, 3), bool), "v": jnp.ones((3, 3), bool)}],
)
def test_masks_without_one_leading_axis_have_no_children(masks):
    with pytest.raises(ValueError, match="one leading axis with an entry for each candidate"):
        pruning.breed_masks(jax.random.key(0), masks, jnp.ones(2))
