"""The search for a threshold against numpy's stable sort: lowest first, of ties the last one first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pruning.masks import threshold
from pruning.masks.threshold import without_lowest

# Of the keys that a score can have; that of infinity is smaller still.
LARGEST = {"uint32": 2**32 - 2, "uint64": 2**64 - 2}
# Odd sizes in odd places, and a scalar.
LAYOUTS = [[(1,)], [(17,)], [(3, 5), (7,), (2, 1, 3)], [(), (2,), (1, 1)], [(0,), (5,), (0, 3)]]


def expected_marks(keys, number):
    """One flat array of bools."""
    flat = np.concatenate([np.ravel(key) for key in keys])
    from_the_end = np.argsort(flat[::-1], kind="stable")
    marks = np.zeros(flat.size, bool)
    marks[flat.size - 1 - from_the_end[:number]] = True
    return marks


def flat(leaves):
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def as_scores(keys):
    """The float whose key is given; keys without one are NaN, which ranks below all floats."""
    keys = np.asarray(keys)
    top = np.array(1, keys.dtype) << np.array(keys.itemsize * 8 - 1, keys.dtype)
    return np.where(keys >= top, keys ^ top, ~keys).view(f"f{keys.itemsize}")


def ranks(scores):
    """Integers in the order of the scores, by numpy."""
    flat_scores = np.concatenate([np.ravel(leaf) for leaf in scores])
    order = np.where(np.isnan(flat_scores), -np.inf, flat_scores)
    both = np.stack([~np.isnan(flat_scores), order])
    _, places = np.unique(both, axis=1, return_inverse=True)
    return places


def lowest(scores, number):
    kept, _ = without_lowest(scores, [None] * len(scores), number)
    return [~leaf for leaf in kept]


compiled = jax.jit(lowest)


def check(keys, number):
    scores = [as_scores(key) for key in keys]
    found = compiled([jnp.asarray(leaf) for leaf in scores], jnp.int32(number))
    assert [leaf.shape for leaf in found] == [np.shape(key) for key in keys]
    np.testing.assert_array_equal(flat(found), expected_marks([ranks(scores)], number))


def keys_of(dtype, layout):
    largest = LARGEST[dtype]
    few = st.sampled_from([0, 1, 2, 5, largest // 2, largest // 2 + 1, largest - 1, largest])
    elements = few | st.integers(0, largest)
    return st.tuples(*[hnp.arrays(dtype, shape, elements=elements) for shape in layout])


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_small_arrays(dtype, layout, data):
    keys = data.draw(keys_of(dtype, layout))
    number = data.draw(st.integers(0, sum(key.size for key in keys)))
    with jax.enable_x64(True):
        check(keys, number)


LARGE = [(151, 199), (20_001,), (7,)]
SIZES = [151 * 199, 20_001, 7]
SIZE = sum(SIZES)


def split(keys):
    ends = np.cumsum(SIZES)[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(keys, ends), LARGE, strict=True)]


def random_keys(seed):
    return np.random.default_rng(seed).integers(0, LARGEST["uint32"], SIZE, dtype=np.uint32)


LARGE_CASES = {
    "no two alike": np.random.default_rng(0).permutation(SIZE).astype(np.uint32),
    "all over": random_keys(1),
    "a few values": random_keys(2) % 5,
    "one value": np.full(SIZE, 7, np.uint32),
    "the two ends": np.where(random_keys(3) % 2, 0, LARGEST["uint32"]).astype(np.uint32),
    "sorted": np.sort(random_keys(9)),
    "sorted the other way": -np.sort(-random_keys(10).astype(np.int64)),
}


@pytest.mark.parametrize("case", LARGE_CASES)
@pytest.mark.slow
def test_large_arrays(case):
    keys = split(LARGE_CASES[case].astype(np.uint32))
    for number in (0, 1, SIZE // 3, SIZE // 2, SIZE - 1, SIZE):
        check(keys, number)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1), st.integers(0, SIZE))
def test_large_arrays_of_few_or_many_values(seed, values, number):
    check(split(random_keys(seed) % np.uint32(values)), number)


def test_several_counts_side_by_side():
    """Each search goes on while another one still runs, and must not move from where it ended."""
    scores = split(np.random.default_rng(2).integers(0, 5, SIZE).astype(np.float32))
    numbers = [0, 1, 77, SIZE // 5, SIZE // 2, SIZE - 1, SIZE]
    found = jax.jit(jax.vmap(lowest, in_axes=(None, 0)))(scores, jnp.array(numbers, jnp.int32))
    for i, number in enumerate(numbers):
        np.testing.assert_array_equal(flat([leaf[i] for leaf in found]), expected_marks(scores, number))


@pytest.mark.slow
def test_several_arrays_side_by_side():
    names = ("sorted", "one value", "no two alike")
    cases = [ranks([as_scores(LARGE_CASES[name].astype(np.uint32))]).astype(np.float32) for name in names]
    stacked = [jnp.stack(leaves) for leaves in zip(*map(split, cases), strict=True)]
    numbers = [SIZE // 3, 1234, SIZE // 2]
    found = jax.jit(jax.vmap(lowest))(stacked, jnp.array(numbers, jnp.int32))
    for i, (case, number) in enumerate(zip(cases, numbers, strict=True)):
        np.testing.assert_array_equal(flat([leaf[i] for leaf in found]), expected_marks([case], number))


def count_passes(monkeypatch, scores, number):
    """How often the search counts."""
    passes = []

    def counted(search, narrow=threshold._narrow):
        passes.append(search)
        return narrow(search)

    with monkeypatch.context() as patch, jax.disable_jit():
        patch.setattr(threshold, "_narrow", counted)
        lowest([jnp.asarray(leaf) for leaf in scores], jnp.int32(number))
    return len(passes)


@pytest.mark.parametrize("number", [50, SIZE // 2])
@pytest.mark.slow
def test_a_few_passes_find_the_threshold_among_weights(monkeypatch, number):
    """In steps of two bits 32 take sixteen; guesses of where the count is met save some."""
    weights = split(np.abs(np.random.default_rng(0).normal(size=SIZE)).astype(np.float32))
    scores = [leaf * scale for leaf, scale in zip(weights, (10, 0.1, 1), strict=True)]
    assert count_passes(monkeypatch, scores, number) <= 14


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE_CASES)
def test_whatever_the_keys_the_passes_are_few(monkeypatch, case):
    """Every other pass leaves 0.36 of what was there: 42 for a key, and 21 for a place among 50,000."""
    scores = as_scores(LARGE_CASES[case].astype(np.uint32))
    assert count_passes(monkeypatch, [scores], 10_000) <= 30


def test_a_second_call_compiles_nothing(caplog):
    """Outside jit too, where JAX would compile a loop over a new function again."""
    first, second = (jnp.asarray(np.arange(23, dtype=np.float32)[None] * i) for i in (1, 2))
    with jax.log_compiles():
        for scores, number, compiles in ((first, 3, True), (second, 7, False)):
            caplog.clear()
            lowest([scores], jnp.int32(number))
            assert any(message.startswith("Compiling") for message in caplog.messages) == compiles
