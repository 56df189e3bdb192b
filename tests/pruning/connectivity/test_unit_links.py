"""Which units lead to which, read from networks that name nothing: every case can be told by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pruning
from pruning.connectivity.kernel_positions import with_positions
from pruning.connectivity.unit_graph import graph_of, way_shares
from pruning.connectivity.unit_links import find_links
from pruning.trees.layout import axes_of

ONES = jnp.ones((1, 4))


def linked(output_fn, *shapes, cut=None):
    """Of params that are a tuple of arrays; all are cut, or those with the given numbers."""
    params = tuple(jnp.ones(shape) for shape in shapes)
    return find_links(output_fn, params, frozenset(range(len(shapes)) if cut is None else cut))


def pairs(found):
    """{(use, next use): {(output unit, input unit)}}; the network's output is "end"."""
    names = {len(found.uses): "end"}
    return {
        (link.source, names.get(link.target, link.target)): set(
            zip(link.outputs.tolist(), link.inputs.tolist(), strict=True)
        )
        for link in found.links
    }


def same(count):
    return {(unit, unit) for unit in range(count)}


def fed(found):
    return [np.flatnonzero(array).tolist() for array in found.fed]


def test_layers_that_follow_each_other():
    found = linked(lambda p: jax.nn.relu(ONES @ p[0]) @ p[1], (4, 3), (3, 2))
    assert pairs(found) == {(0, 1): same(3), (1, "end"): {(0, 0), (1, 0)}}
    assert fed(found) == [[0, 1, 2, 3], []]
    assert [use.shape for use in found.uses] == [(1, 4, 3, 1), (1, 3, 2, 1)]


def test_kernels_may_lie_the_other_way_round_and_be_cut_out_of_one_leaf():
    def network(p):
        first, second = jnp.split(p[0], [3])  # (out, in) each
        hidden = jnp.tanh(first @ ONES[0])
        return (2 * second)[:, :3] @ hidden

    found = linked(network, (5, 4))
    assert [use.shape for use in found.uses] == [(1, 4, 3, 1), (1, 3, 2, 1)]
    assert pairs(found)[0, 1] == same(3)
    numbers = jnp.arange(20).reshape(5, 4)
    np.testing.assert_array_equal(found.uses[1].weights({0: numbers})[0, :, :, 0], numbers[3:, :3].T)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_flattened_image_in_any_order(channels_last):
    def network(p):
        x = lax.conv_general_dilated(jnp.ones((1, 1, 4, 4)), p[0], (1, 1), "SAME")
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return (x.transpose(0, 2, 3, 1) if channels_last else x).reshape(1, -1) @ p[1]

    found = linked(network, (3, 1, 3, 3), (12, 2))
    channel = [unit % 3 if channels_last else unit // 4 for unit in range(12)]
    assert pairs(found)[0, 1] == {(c, unit) for unit, c in enumerate(channel)}
    assert found.uses[0].shape == (1, 1, 3, 9)


def test_groups_of_channels_lead_to_their_own():
    def network(p):
        x = jnp.ones((1, 5, 5, 4))
        x = lax.conv_general_dilated(
            x, p[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
        )
        return x.mean((1, 2)) @ p[1]

    found = linked(network, (3, 3, 1, 8), (8, 2))
    assert found.uses[0].shape == (4, 1, 2, 9)
    assert pairs(found)[0, 1] == same(8)


def test_heads_and_batches_of_kernels():
    def network(p):
        heads = jnp.einsum("nd,dhk->nhk", ONES, p[0])
        mixed = jnp.einsum("nhk,hkm->nhm", heads, p[1])  # a kernel of its own for each head
        return jnp.einsum("nhm,hmd->nd", mixed, p[2])

    found = linked(network, (4, 2, 3), (2, 3, 5), (2, 5, 4))
    assert [use.shape for use in found.uses] == [(1, 4, 6, 1), (2, 3, 5, 1), (1, 10, 4, 1)]
    assert pairs(found)[0, 1] == same(6)
    assert pairs(found)[1, 2] == same(10)


def test_layers_that_are_stacked_in_a_leaf_and_scanned():
    def network(p):
        x = lax.scan(lambda x, kernel: (jax.nn.relu(x @ kernel), None), ONES, p[0])[0]
        return x @ p[1]

    found = linked(network, (3, 4, 4), (4, 2))
    assert {key for key, _ in sorted(pairs(found).items(), key=str)} == {
        (0, 1),
        (1, 2),
        (2, 3),
        (3, "end"),
    }
    numbers = jnp.arange(48).reshape(3, 4, 4)
    middle = found.uses[1].weights({0: numbers, 1: jnp.zeros((4, 2))})
    np.testing.assert_array_equal(middle[0, :, :, 0], numbers[1])


def test_a_shortcut_and_features_side_by_side():
    def network(p):
        x = ONES @ p[0]
        x = x + jax.nn.relu(x) @ p[1]
        return jnp.concatenate([x[:, 2:], x @ p[2]], axis=1) @ p[3]

    found = pairs(linked(network, (4, 4), (4, 4), (4, 2), (4, 1)))
    assert found[0, 1] == found[0, 2] == found[1, 2] == same(4)
    assert found[0, 3] == found[1, 3] == {(2, 0), (3, 1)}
    assert found[2, 3] == {(0, 2), (1, 3)}


def test_gates_and_normalised_features_connect_what_they_mix():
    def gated(p):
        x = ONES @ p[0]
        return (x[:, :3] * jax.nn.sigmoid(x[:, 3:])) @ p[1]

    assert pairs(linked(gated, (4, 6), (3, 1)))[0, 1] == {(u, u % 3) for u in range(6)}

    def normalised(p):
        x = ONES @ p[0]
        return ((x - x.mean()) / jnp.sqrt(x.var() + 1e-5)) @ p[1]

    everything = {(one, other) for one in range(5) for other in range(5)}
    assert pairs(linked(normalised, (4, 5), (5, 1)))[0, 1] == everything


def test_a_function_that_is_not_zero_at_zero_is_no_input():
    assert fed(linked(lambda p: jax.nn.sigmoid(ONES @ p[0]) @ p[1], (4, 3), (3, 2))) == [[0, 1, 2, 3], []]


def test_what_is_not_cut_is_passed_through():
    everything = {(one, other) for one in range(3) for other in range(2)}
    found = linked(lambda p: ONES @ p[0] @ p[1] @ p[2], (4, 3), (3, 2), (2, 1), cut=[0, 2])
    assert pairs(found)[0, 1] == everything
    frozen_first = linked(lambda p: ONES @ p[0] @ p[1], (4, 3), (3, 2), cut=[1])
    assert fed(frozen_first) == [[0, 1, 2]]
    low_rank = linked(lambda p: ONES @ (p[0] @ p[1]) @ p[2], (4, 1), (1, 3), (3, 2))
    assert [use.shape for use in low_rank.uses] == [(1, 3, 2, 1)]


def test_words_are_input_units():
    found = linked(lambda p: jnp.take(p[0], jnp.array([1, 2]), axis=0).mean(0) @ p[1], (7, 3), (3, 2))
    assert found.uses[0].shape == (1, 7, 3, 1)
    assert fed(found) == [list(range(7)), []]
    assert pairs(found)[0, 1] == same(3)


def test_words_that_are_looked_up_one_by_one():
    tokens = jnp.array([[1, 2]])

    def network(p):
        return jax.vmap(jax.vmap(lambda token: p[0][token]))(tokens).mean(1) @ p[1]

    found = linked(network, (7, 3), (3, 2))
    assert found.uses[0].shape == (1, 7, 3, 1)
    assert fed(found) == [list(range(7)), []]
    assert pairs(found)[0, 1] == same(3)


@pytest.mark.slow
def test_patches_times_a_flattened_kernel_are_a_convolution():
    def network(p):
        patches = lax.conv_general_dilated_patches(
            lax.conv_general_dilated(
                jnp.ones((1, 2, 2, 1)), p[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            ),
            (3, 3),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        kernel = p[1].transpose(2, 0, 1, 3).reshape(27, 2)  # patches have the channel first
        return (patches @ kernel).mean((1, 2))

    shapes = (3, 3, 1, 3), (3, 3, 3, 2)
    found = linked(network, *shapes)
    assert found.uses[1].shape == (1, 27, 2, 1)
    numbers = {0: jnp.arange(27).reshape(shapes[0]), 1: 27 + jnp.arange(54).reshape(shapes[1])}
    axes = dict(enumerate(axes_of(pruning.flax_layout, list(numbers.values()))))
    whole = with_positions(found, axes, numbers)
    assert whole.uses[1].shape == (1, 3, 2, 9)
    assert pairs(whole)[0, 1] == same(3)
    np.testing.assert_array_equal(whole.uses[1].weights(numbers)[0, 2, 1], numbers[1][:, :, 2, 1].ravel())


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([], [1 / 3, 1 / 3, 1 / 3]),  # three branches
        ([(0, 1), (0, 2), (1, 2)], [1 / 2, 1 / 4, 1 / 4]),  # two blocks with shortcuts, then the head
        ([(0, 2), (1, 2)], [1 / 3, 1 / 3, 1 / 3]),  # two branches, and past both of them
        ([(0, 1)], [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_every_way_on_from_a_junction_is_equally_probable(after, expected):
    matrix = np.zeros((3, 3), bool)
    for one, other in after:
        matrix[one, other] = True
    assert way_shares([0, 1, 2], matrix) == pytest.approx(expected)


def test_a_kernel_with_an_inner_mask_is_one_layer():
    inner = jnp.ones((4, 3))
    found = linked(lambda p: jax.nn.relu(ONES @ (p[0] * inner)) @ p[1], (4, 3), (3, 2))
    assert [use.shape for use in found.uses] == [(1, 4, 3, 1), (1, 3, 2, 1)]
    assert pairs(found)[0, 1] == same(3)
    assert fed(found) == [[0, 1, 2, 3], []]


def test_products_of_weights_that_constants_scale_are_no_layer():
    inner = jnp.ones((4, 4))
    found = linked(lambda p: ONES @ p[0] @ ((p[1] * inner) @ (p[2] * inner)), (4, 4), (4, 4), (4, 4))
    assert [use.shape for use in found.uses] == [(1, 4, 4, 1)]


def test_units_without_a_way_to_the_output_are_closed():
    graph = graph_of(linked(lambda p: (ONES @ p[0])[:, :2] @ p[1], (4, 3), (2, 1)))
    assert graph.is_open_out[0].tolist() == [[True, True, False]]
    assert graph.outputs.tolist() == [3]
    assert graph.longest == 2


def test_integers_that_are_traced_are_refused():
    def looked_up(places):
        return (
            linked(lambda p: jnp.take(ONES @ p[0], places, axis=1) @ p[1], (4, 3), (3, 1))
            .links[0]
            .outputs
        )

    with pytest.raises(ValueError, match="known when it is traced"):
        jax.jit(looked_up)(jnp.arange(3))


def test_floats_that_are_traced_count_as_there():
    def count(scale):
        found = linked(lambda p: (ONES @ p[0] * scale) @ p[1], (4, 3), (3, 1))
        return len(found.links[0].outputs)

    assert jax.jit(count)(jnp.zeros((1, 3))) == 3
