"""Which kept weights lie on a path. Masks are drawn: a row an input, a column an output, 1 is kept."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning


def draw(*rows):
    return jnp.array([[weight == "1" for weight in row] for row in rows])


def drawn(mask):
    return ["".join("1" if weight else "0" for weight in row) for row in np.asarray(mask)]


def whole(masks, value=1.0):
    """Params of the masks' shapes."""
    return jax.tree.map(lambda mask: jnp.full(mask.shape, value), masks)


def mlp(params, activation=jax.nn.relu):
    """Layers w0, w1, ... with biases b0, b1, ... where there are any; inputs are ones."""
    count = sum(name.startswith("w") for name in params)
    x = jnp.ones((1, params["w0"].shape[0]))
    for layer in range(count):
        x = x @ params[f"w{layer}"]
        if f"b{layer}" in params:
            x = x + params[f"b{layer}"][None]
        x = activation(x) if layer < count - 1 else x
    return x


@functools.cache
def compiled(output_fn):
    return jax.jit(functools.partial(pruning.effective_masks, output_fn))


def effective(output_fn, masks, value=1.0, **others):
    """Effective masks of the drawn ones; `others` are params without a mask."""
    params = {**whole(masks, value), **others}
    found = compiled(output_fn)(params, {**masks, **dict.fromkeys(others)})
    assert all(found[name] is None for name in others)
    return {name: drawn(found[name]) for name in masks}


BOTH_CUTS = {
    # Unit 0 is whole; unit 1 has no input, so what leaves it goes; unit 2 has no output, so what
    # enters it goes.
    "w0": draw("101", "001"),
    "w1": draw("11", "10", "00"),
}
BOTH_CUTS_EFFECTIVE = {"w0": ["100", "000"], "w1": ["11", "00", "00"]}


@pytest.mark.parametrize("value", [1.0, -3.0, 0.0, 1e-38, 1e38, np.inf, np.nan])
def test_weights_cut_off_from_input_or_output_are_not_effective(value):
    """Whatever the weights are; biases start no path and block none."""
    assert effective(mlp, BOTH_CUTS, value=value) == BOTH_CUTS_EFFECTIVE
    biases = {"b0": jnp.full(3, value), "b1": jnp.full(2, -100.0)}
    assert effective(mlp, BOTH_CUTS, **biases) == BOTH_CUTS_EFFECTIVE


def test_absent_inputs_are_zeros():
    masks = {"w0": draw("10", "01"), "w1": draw("1", "1")}
    found = effective(lambda p: jnp.array([[1.0, 0.0]]) @ p["w0"] @ p["w1"], masks)
    assert found == {"w0": ["10", "00"], "w1": ["1", "0"]}


def test_a_shortcut_goes_around():
    # y = x w0;  z = y + relu(y w1) w2;  out = z w3.  Unit 1 of z is reached by the shortcut alone.
    masks = {
        "w0": draw("11"),
        "w1": draw("10", "10"),
        "w2": draw("10", "01"),  # its second row starts at a unit that nothing reaches
        "w3": draw("1", "1"),
    }

    def output_fn(p):
        y = jnp.ones((1, 1)) @ p["w0"]
        return (y + jax.nn.relu(y @ p["w1"]) @ p["w2"]) @ p["w3"]

    assert effective(output_fn, masks) == {
        "w0": ["11"],
        "w1": ["10", "10"],
        "w2": ["10", "00"],
        "w3": ["1", "1"],
    }
    without = effective(output_fn, {**masks, "w1": draw("00", "00")})
    assert without == {"w0": ["11"], "w1": ["00", "00"], "w2": ["00", "00"], "w3": ["1", "1"]}


def test_the_shortcut_from_the_input_itself():
    def output_fn(p):
        x = jnp.ones((1, 2))
        return (x + x @ p["w0"]) @ p["w1"]

    assert effective(output_fn, {"w0": draw("00", "00"), "w1": draw("1", "1")})["w1"] == ["1", "1"]


def convolve(x, kernel, stride=1, padding="SAME"):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=numbers)


def shape_3x3(mask):
    """The one 3x3 filter of a kernel, drawn."""
    return drawn(mask[:, :, 0, 0])


@pytest.mark.parametrize(
    ("side", "stride", "padding", "expected"),
    [
        (1, 1, "SAME", ["000", "010", "000"]),  # one pixel: all but the centre meets padding
        (2, 1, "SAME", ["111", "111", "111"]),
        (2, 2, "SAME", ["110", "110", "000"]),  # one position, padded at the end
        (3, 3, "VALID", ["111", "111", "111"]),
        (1, 1, [(2, 0), (2, 0)], ["000", "000", "001"]),
    ],
)
def test_a_kernel_reaches_no_further_than_the_image(side, stride, padding, expected):
    params = {"kernel": jnp.ones((3, 3, 1, 1))}
    image = jnp.ones((1, side, side, 1))
    masks = pruning.full_masks(params)
    found = pruning.effective_masks(
        lambda p: convolve(image, p["kernel"], stride, padding), params, masks
    )
    assert shape_3x3(found["kernel"]) == expected


def pool_by_reshape(x):
    return x.reshape(1, x.shape[1] // 2, 2, x.shape[2] // 2, 2, x.shape[3]).max((2, 4))


# Independent checks: paths enumerated one by one.


def paths_through_mlp(masks):
    """The weights on any path, found by walking every path of units."""
    on_path = [np.zeros_like(mask) for mask in masks]
    widths = [masks[0].shape[0], *(mask.shape[1] for mask in masks)]
    for units in itertools.product(*map(range, widths)):
        steps = list(itertools.pairwise(units))
        if all(mask[step] for mask, step in zip(masks, steps, strict=True)):
            for found, step in zip(on_path, steps, strict=True):
                found[step] = True
    return on_path


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.sampled_from([(3, 4, 2), (2, 3, 3, 2), (1, 3, 2, 3, 1), (4, 1, 4)]),
    density=st.sampled_from([0.2, 0.4, 0.7]),
)
def test_effective_weights_are_those_on_enumerated_paths(seed, widths, density):
    draws = np.random.default_rng(seed)
    masks = [draws.random(shape) < density for shape in itertools.pairwise(widths)]
    named = {f"w{layer}": mask for layer, mask in enumerate(masks)}
    params = {name: draws.normal(size=mask.shape).astype(np.float32) for name, mask in named.items()}
    biases = {f"b{layer}": jnp.asarray(draws.normal(size=w), "f4") for layer, w in enumerate(widths[1:])}
    found = compiled(mlp)({**params, **biases}, {**named, **dict.fromkeys(biases)})
    for layer, expected in enumerate(paths_through_mlp(masks)):
        np.testing.assert_array_equal(found[f"w{layer}"], expected)


def edges_of_convolution(mask, side, stride):
    """(input node, output node, weight) for nodes (row, column, channel); padded by 1 all round."""
    out_side = (side + 2 - mask.shape[0]) // stride + 1
    for row, column in itertools.product(range(out_side), repeat=2):
        for weight in map(tuple, np.argwhere(mask)):
            y, x = row * stride + weight[0] - 1, column * stride + weight[1] - 1
            if 0 <= y < side and 0 <= x < side:
                yield (y, x, int(weight[2])), (row, column, int(weight[3])), weight


def conv_pool_conv(p):
    """The stride is the one that fits the size of the last layer."""
    pooled = 2 if p["last"].shape[0] == 8 else 1
    x = convolve(jnp.ones((1, 5, 5, 1)), p["first"], 3 - pooled, [(1, 1), (1, 1)])
    x = pool_by_reshape(jax.nn.relu(x)[:, : pooled * 2, : pooled * 2])
    x = jax.nn.relu(convolve(x, p["second"], 1, [(1, 1), (1, 1)]))
    return x.reshape(1, -1) @ p["last"]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1), stride=st.sampled_from([1, 2]), density=st.sampled_from([0.1, 0.3])
)
@pytest.mark.slow
def test_effective_weights_of_convolutions_are_those_on_walked_edges(seed, stride, density):
    """5x5 -> conv (stride) -> 2x2 max pool -> conv -> linear, position by position."""
    draws = np.random.default_rng(seed)
    first, second = draws.random((3, 3, 1, 2)) < density, draws.random((3, 3, 2, 2)) < density
    side = 5 if stride == 1 else 3
    pooled = side // 2
    last = draws.random((pooled * pooled * 2, 2)) < density
    edges = [
        list(edges_of_convolution(first, 5, stride)),
        [
            ((y, x, c), (y // 2, x // 2, c), None)
            for y, x, c in itertools.product(range(pooled * 2), range(pooled * 2), range(2))
        ],
        list(edges_of_convolution(second, pooled, 1)),
        [((i // 2 // pooled, i // 2 % pooled, i % 2), o, (i, o)) for i, o in np.argwhere(last).tolist()],
    ]
    forward = [set(itertools.product(range(5), range(5), [0]))]
    for layer in edges:
        forward.append({after for before, after, _ in layer if before in forward[-1]})
    backward = {0, 1}
    expected = []
    for layer, reached in reversed(list(zip(edges, forward[:-1], strict=True))):
        live = [edge for edge in layer if edge[0] in reached and edge[1] in backward]
        expected.insert(0, {weight for _, _, weight in live})
        backward = {before for before, _, _ in live}

    masks = {"first": first, "second": second, "last": last}
    found = compiled(conv_pool_conv)(whole(masks), masks)
    for name, weights in zip(("first", "second", "last"), (expected[0], *expected[2:]), strict=True):
        assert set(map(tuple, np.argwhere(found[name]).tolist())) == weights


# Depth, width and dtype.


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dtype"), [(128, "float16"), (1, "bfloat16")])
def test_a_hundred_layers_neither_overflow_nor_vanish(width, dtype, quick_compilation):
    masks = {f"w{layer}": np.ones((width, width), bool) for layer in range(100)}
    masks["w70"] = np.zeros((width, width), bool)
    masks["w70"][0, 0] = True
    params = jax.tree.map(lambda mask: jnp.ones(mask.shape, dtype), masks)

    def output_fn(p):
        return mlp({name: leaf.astype(dtype) for name, leaf in p.items()}).astype(dtype)

    found = pruning.effective_masks(output_fn, params, masks)
    for name, mask in masks.items():
        expected = mask.copy()
        if name == "w69":
            expected[:, 1:] = False  # all but the unit that goes on
        if name == "w71":
            expected[1:] = False
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


# Masks of what is not a matrix between units.


@pytest.mark.slow
def test_masked_biases_stay_where_their_unit_is_connected():
    def prunable(path, leaf):
        return True

    params = {"w0": jnp.ones((1, 3)), "b0": jnp.ones(3), "w1": jnp.ones((3, 1))}
    masks = {**pruning.full_masks(params, prunable=prunable)}
    masks |= {"w0": draw("101"), "b0": jnp.array([False, True, True]), "w1": draw("1", "1", "1")}
    found = pruning.effective_masks(mlp, params, masks)
    assert found["b0"].tolist() == [False, False, True]
    assert drawn(found["w0"]) == ["101"]
    assert drawn(found["w1"]) == ["1", "0", "1"]


def test_layers_without_a_mask_connect():
    masks = {"w0": None, "w1": draw("10", "00"), "w2": None}
    params = {"w0": jnp.ones((1, 2)), "w1": jnp.ones((2, 2)), "w2": jnp.zeros((2, 1))}
    found = pruning.effective_masks(mlp, params, masks)
    assert found["w0"] is None
    assert drawn(found["w1"]) == ["10", "00"]


@pytest.mark.slow
def test_params_may_be_shapes_and_hold_what_is_no_float():
    params = {"w0": jax.ShapeDtypeStruct((1, 2), jnp.float32), "none": None, "w1": jnp.ones((2, 1))}
    masks = {"w0": draw("10"), "none": None, "w1": draw("1", "1")}
    found = pruning.effective_masks(mlp_without_none, params, masks)
    assert drawn(found["w1"]) == ["1", "0"]
    params, masks = {**whole(BOTH_CUTS), "step": jnp.int32(2)}, {**BOTH_CUTS, "step": None}

    def output_fn(p):
        return mlp(p) * jax.lax.cond(p["step"] > 0, jnp.exp, jnp.cos, 1.0)

    found = pruning.effective_masks(output_fn, params, masks)
    assert {name: drawn(found[name]) for name in BOTH_CUTS} == BOTH_CUTS_EFFECTIVE


def mlp_without_none(params):
    return mlp({name: leaf for name, leaf in params.items() if leaf is not None})


def test_the_output_may_be_any_tree():
    def output_fn(p):
        y = jnp.ones((1, 1)) @ p["w0"]
        return {"logits": [y @ p["w1"]], "class": jnp.argmax(y @ p["w1"]), "spare": y @ p["w2"]}

    masks = {"w0": draw("111"), "w1": draw("1", "0", "0"), "w2": draw("0", "1", "0")}
    assert effective(output_fn, masks) == {"w0": ["110"], "w1": ["1", "0", "0"], "w2": ["0", "1", "0"]}


@pytest.mark.parametrize(
    ("output_fn", "masks", "message"),
    [
        (
            lambda p: mlp(p).argmax(-1),
            BOTH_CUTS,
            "floating-point outputs, .* got only int32",
        ),
        (lambda p: jnp.ones(1), BOTH_CUTS, "to depend on params"),
        (mlp, {**BOTH_CUTS, "w0": draw("1")}, r"shape \(2, 3\) at \['w0'\]"),
    ],
)
def test_what_has_no_paths_is_an_error(output_fn, masks, message):
    with pytest.raises(ValueError, match=message):
        pruning.effective_masks(output_fn, whole(BOTH_CUTS), masks)


# Collapsed layers and dead units.


def test_collapsed_layers_are_named():
    masks = {"a": {"kernel": draw("00"), "bias": None}, "b": draw("10"), "c": draw("0")}
    assert pruning.collapsed_layers(masks) == ("['a']['kernel']", "['c']")
    assert pruning.collapsed_layers({"b": draw("10")}) == ()


def test_one_collapsed_layer_collapses_the_effective_masks():
    masks = {"w0": draw("11"), "w1": draw("00", "00"), "w2": draw("1", "1")}
    assert pruning.collapsed_layers(masks) == ("['w1']",)
    found = pruning.effective_masks(mlp, whole(masks), masks)
    assert pruning.collapsed_layers(found) == ("['w0']", "['w1']", "['w2']")


def test_collapsed_layers_of_traced_masks_are_an_error():
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda masks: pruning.collapsed_layers(masks))(BOTH_CUTS)


@pytest.mark.parametrize("axis", [2, -3, None, 0.5])
def test_units_lie_along_an_axis_of_the_mask(axis):
    with pytest.raises(ValueError, match=r"unit_axis to be an axis of a mask \(1, 3\), got"):
        pruning.dead_units({"kernel": draw("011")}, unit_axis=axis)


def test_units_are_said_by_an_axis_or_by_a_layout():
    with pytest.raises(ValueError, match="got both: unit_axis=0 beside a layout"):
        pruning.dead_units({"w": draw("011")}, unit_axis=0, layout=pruning.flax_layout)


def test_dead_units_have_nothing_leading_in():
    kernel = jnp.zeros((3, 3, 2, 4), bool).at[1, 2, 0, 3].set(True).at[0, 0, 1, 1].set(True)
    dead = pruning.dead_units({"kernel": kernel, "bias": None, "last": draw("011", "001")})
    assert dead["bias"] is None
    assert dead["kernel"].tolist() == [True, False, True, False]
    assert dead["last"].tolist() == [True, False, False]


def test_units_lie_on_the_axis_that_is_said():
    kernel = {"kernel": jnp.zeros((4, 2, 3, 3), bool).at[2, 1, 0, 0].set(True)}
    assert pruning.dead_units(kernel, unit_axis=0)["kernel"].tolist() == [True, True, False, True]
