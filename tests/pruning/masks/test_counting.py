import functools
import math
import sys
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning
from pruning.masks.counting import check_steps, counted_share

SIZES = (1, 2, 3, 7, 10, 99, 100, 1000, 266_200, 10**7)
of_fraction = functools.partial(counted_share, name="fraction")
traced_counts = jax.jit(lambda sparsity: jnp.stack([pruning.pruned_count(sparsity, n) for n in SIZES]))
traced_count = jax.jit(pruning.pruned_count)


@pytest.mark.parametrize(
    ("sparsity", "size", "expected"),
    [
        (0.0, 10, 0),
        (0.7, 10, 7),
        (0.29, 100, 29),  # 28.999999999999996
        (0.999999, 10, 9),
        (0.5, 3, 1),
        (0.99, 1, 0),  # never a whole layer
        (0.9999999, 10, 9),
        (0.8, 266_200, 212_960),
        (0.95, 266_200, 252_890),
        (0.05, 11_608, 580),
    ],
)
def test_by_hand(sparsity, size, expected):
    assert pruning.pruned_count(sparsity, size) == expected


@given(st.integers(0, 9999), st.integers(1, 10**6))
def test_decimal_sparsities_are_counted_exactly(numerator, size):
    exact = math.floor(Fraction(numerator, 10_000) * size)
    assert pruning.pruned_count(numerator / 10_000, size) == min(exact, size - 1)


@settings(deadline=None)
@given(st.integers(0, 999))
def test_a_traced_sparsity_counts_as_a_concrete_one(numerator):
    sparsity = numerator / 1000
    expected = [pruning.pruned_count(sparsity, size) for size in SIZES]
    assert traced_counts(sparsity).tolist() == expected


@pytest.mark.parametrize("sparsity", [0.95, 0.7])
@pytest.mark.parametrize("array", [np.float32, jnp.float32])
def test_a_concrete_float32_sparsity_counts_as_a_traced_one(sparsity, array):
    """jit equals eager, also where the sparsity is an array: 0.95 of 100 is 95, not 94."""
    found = [int(pruning.pruned_count(array(sparsity), size)) for size in SIZES]
    assert found == traced_counts(sparsity).tolist()


@pytest.mark.parametrize("outside", [-0.5, 1.0, 7.0])
def test_a_traced_sparsity_out_of_range_never_removes_a_whole_layer(outside):
    count = int(jax.jit(lambda s: pruning.pruned_count(s, 10))(outside))
    assert count == (0 if outside < 0 else 9)


@pytest.mark.parametrize("size", [1, 2**16 - 1, 2**16, 2**24 + 1, 2**31 - 1])
def test_no_size_overflows(size):
    count = jax.jit(lambda s: pruning.pruned_count(s, size))
    for eighths in range(8):
        # Above 2**24 weights a float32 sparsity does not say which of two counts is meant.
        assert abs(int(count(eighths / 8)) - pruning.pruned_count(eighths / 8, size)) <= (size > 2**24)


@settings(deadline=None)
@given(st.floats(0, 1, exclude_max=True, width=32), st.integers(1, 2**31 - 1))
def test_a_float32_counts_the_number_nearest_to_it_that_it_may_stand_for(sparsity, size):
    half_a_unit = Fraction(float(np.spacing(np.float32(sparsity)))) / 2
    upper = math.floor((Fraction(sparsity) + half_a_unit) * size)
    nearest = math.floor(Fraction(sparsity) * size + Fraction(1, 2))
    if sparsity < 2**-31:  # Less than one weight in all; of subnormal numbers XLA makes zero.
        upper = nearest = 0
    assert int(traced_count(sparsity, size)) == min(upper, nearest, size - 1)


@pytest.mark.parametrize("size", [25, 400, 800, 10_164, 48_000, 1_638_400])
def test_the_sparsity_of_traced_masks_counts_as_they_do(size):
    @jax.jit
    def counted(kept):
        return pruning.pruned_count(pruning.sparsity({"w": jnp.arange(size) < kept}), size)

    removed = np.random.default_rng(0).integers(0, size, 20)
    assert [int(counted(size - count)) for count in removed] == removed.tolist()


@pytest.mark.parametrize("number", [np.int64(3), np.int32(3)])
def test_numbers_of_rounds_may_be_numpys(number):
    assert pruning.exponential_sparsities(0.5, number).shape == (3,)
    assert pruning.cubic_sparsities(0.5, number).shape == (3,)


def test_exponential_sparsities_remove_the_same_fraction_each_round():
    np.testing.assert_allclose(pruning.exponential_sparsities(0.875, 3), [0.5, 0.75, 0.875], rtol=1e-12)
    density = 1 - pruning.exponential_sparsities(0.99, 100)
    np.testing.assert_allclose(density[1:] / density[:-1], 0.01**0.01, rtol=1e-9)


@given(st.floats(0, 0.999), st.integers(1, 50))
def test_exponential_sparsities_end_exactly_and_never_decrease(sparsity, rounds):
    sparsities = pruning.exponential_sparsities(sparsity, rounds)
    assert sparsities.shape == (rounds,)
    assert sparsities[-1] == sparsity
    assert (np.diff(sparsities) >= 0).all()


BAD = [1.0, 1.5, -0.1, -1e-9, float("nan"), float("inf"), np.float32(1), jnp.float32(jnp.nan)]


@pytest.mark.parametrize(
    "function",
    [
        lambda s: pruning.exponential_sparsities(s, 3),
        lambda s: pruning.cubic_sparsities(s, 3),
        lambda s: pruning.uniform({"w": jnp.ones((2, 2))}, s),
        lambda s: pruning.erdos_renyi({"w": jnp.ones((2, 2))}, s),
        lambda s: pruning.erdos_renyi_kernel({"w": jnp.ones((2, 2))}, s),
        lambda s: pruning.random_masks(jax.random.key(0), {"w": jnp.ones((2, 2))}, s),
        lambda s: pruning.global_masks({"w": jnp.ones((2, 2))}, s),
        lambda s: pruning.layerwise_masks({"w": jnp.ones((2, 2))}, {"w": s}),
        lambda s: pruning.candidate_masks(jax.random.key(0), {"w": jnp.ones((2, 2))}, k=2, sparsity=s),
    ],
)
def test_a_sparsity_outside_zero_to_one_is_an_error_everywhere(function):
    for sparsity in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"in \[0, 1\)"):
            function(sparsity)


@pytest.mark.parametrize("sparsity", BAD)
def test_a_sparsity_outside_zero_to_one_is_an_error(sparsity):
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        pruning.pruned_count(sparsity, 10)


@pytest.mark.parametrize("sparsity", [[0.1, 0.2], "many", None, {"w": 0.5}])
def test_a_sparsity_that_is_no_number_is_an_error(sparsity):
    with pytest.raises(ValueError, match="one number"):
        pruning.pruned_count(sparsity, 10)


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_is_an_error(rounds):
    with pytest.raises(ValueError, match=">= 1, a whole number"):
        pruning.exponential_sparsities(0.5, rounds)


def test_a_float32_sparsity_keeps_its_counts_in_a_schedule():
    short = jnp.float32(0.9)
    for schedule in (pruning.cubic_sparsities(short, 3), pruning.exponential_sparsities(short, 3)):
        assert pruning.pruned_count(schedule[-1], 1000) == 900


def test_the_initial_sparsity_of_a_schedule_may_be_traced():
    found = jax.jit(lambda initial: pruning.cubic_sparsities(0.8, 2, initial=initial))(0.16)
    np.testing.assert_allclose(found, [0.72, 0.8], rtol=1e-6)


def test_of_no_weights_none_is_removed():
    assert pruning.pruned_count(0.5, 0) == 0
    assert jax.jit(lambda size: pruning.pruned_count(0.5, size))(0) == 0


@pytest.mark.parametrize("count", [900, 1700, 1800, 1900])
def test_a_share_is_the_same_number_compiled_and_not(count):
    expected = int(0.13 * count + 1e-6)
    assert int(of_fraction(0.13, jnp.int32(count))) == expected
    assert int(jax.jit(of_fraction)(jnp.float32(0.13), jnp.int32(count))) == expected
    assert int(of_fraction(1.0, jnp.int32(count))) == count
    assert int(jax.jit(of_fraction)(jnp.float32(1), jnp.int32(count))) == count


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_a_share_may_be_an_array_that_a_program_closes_over(fraction):
    known = jnp.float32(fraction)
    assert int(jax.jit(lambda count: of_fraction(known, count))(jnp.int32(10))) == 10 * fraction


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_sparsity_that_was_rounded_is_refused_traced_or_not(dtype):
    with pytest.raises(
        ValueError, match=rf"expected sparsity in .*, got {jnp.dtype(dtype)}, which rounds"
    ):
        pruning.pruned_count(dtype(0.99), 100)
    with pytest.raises(ValueError, match="which rounds"):
        jax.jit(lambda sparsity: pruning.pruned_count(sparsity, 100))(dtype(0.99))


def test_of_a_known_sparsity_the_count_is_a_number_also_in_a_compiled_function():
    found = []
    jax.jit(lambda x: (found.append(pruning.pruned_count(np.float32(0.29), 100)), x)[1])(0)
    assert found == [29]
    assert type(found[0]) is int


def test_more_steps_than_are_counted_are_refused():
    check_steps(stop_after=(2**31 - 1, 0))
    with pytest.raises(ValueError, match="expected stop_after <= 2147483647, as far as steps count"):
        check_steps(stop_after=(sys.maxsize, 0))
