"""The report, and FLOPs counted by hand: 2 for a multiply-add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pruning


def convolve(x, kernel, stride=1, padding="SAME", **others):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers, **others
    )


def flops(output_fn, **shapes):
    """Dense FLOPs by leaf, for leaves of ones."""
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    rows = pruning.network_report(output_fn, params, pruning.full_masks(params))
    assert all(row.sparse_flops == row.dense_flops for row in rows)
    found = {row.path[2:-2]: row.dense_flops for row in rows}
    assert all(type(count) is int for count in found.values())
    return found


def test_the_report_by_hand():
    # 2 -> 3 -> 1; unit 2 of the hidden layer has no output, unit 1 no input. A batch of 5.
    masks = {
        "bias": None,
        "first": jnp.array([[1, 0, 1], [1, 0, 0]], bool),
        "last": jnp.array([[1], [1], [0]], bool),
    }
    params = {"bias": jnp.ones(3), "first": jnp.ones((2, 3)), "last": jnp.ones((3, 1))}

    def output_fn(p):
        return jax.nn.relu(jnp.ones((5, 2)) @ p["first"] + p["bias"][None]) @ p["last"]

    assert list(pruning.network_report(output_fn, params, masks)) == [
        ("['first']", (2, 3), 6, 3, 3 / 6, 2, 4 / 6, 2 * 5 * 6, 2 * 5 * 3),
        ("['last']", (3, 1), 3, 2, 1 / 3, 1, 2 / 3, 2 * 5 * 3, 2 * 5 * 2),
    ]


@pytest.mark.slow
def test_resnet20_has_its_well_known_count(quick_compilation):
    """40.8 million multiply-adds on CIFAR-10, 1x1 shortcuts included; 270,896 weights."""
    shapes = {"stem": (3, 3, 3, 16), "classifier": (64, 10)}
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            inputs = width // 2 if stage and not block else width
            shapes |= {
                f"{stage}{block}a": (3, 3, inputs, width),
                f"{stage}{block}b": (3, 3, width, width),
            }
            if inputs != width:
                shapes[f"{stage}{block}s"] = (1, 1, inputs, width)

    def output_fn(p):
        x = convolve(jnp.ones((1, 32, 32, 3)), p["stem"])
        for stage in range(3):
            for block in range(3):
                name, stride = f"{stage}{block}", 2 if stage and not block else 1
                y = jax.nn.relu(convolve(x, p[name + "a"], stride, [(1, 1), (1, 1)]))
                skip = convolve(x, p[name + "s"], 2, "VALID") if stride == 2 else x
                x = jax.nn.relu(convolve(y, p[name + "b"]) + skip)
        return x.mean((1, 2)) @ p["classifier"]

    assert sum(np.prod(shape) for shape in shapes.values()) == 270_896
    assert sum(flops(output_fn, **shapes).values()) == 2 * 40_813_184


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "others", "positions"),
    [
        ((3, 3, 4, 6), {}, 8 * 8),  # padded positions count whole
        ((3, 3, 4, 6), {"padding": "VALID"}, 6 * 6),
        ((3, 3, 4, 6), {"stride": 2}, 4 * 4),
        ((3, 3, 4, 6), {"stride": 2, "padding": [(1, 1), (1, 1)]}, 4 * 4),
        ((3, 3, 4, 6), {"rhs_dilation": (2, 2), "padding": "VALID"}, 4 * 4),
        ((1, 1, 4, 6), {"stride": 3, "padding": "VALID"}, 3 * 3),
        ((3, 3, 1, 8), {"feature_group_count": 4}, 8 * 8),  # depthwise, two to each
        ((3, 3, 2, 6), {"feature_group_count": 2}, 8 * 8),
    ],
)
def test_a_convolution_uses_each_weight_once_at_each_position(shape, others, positions):
    found = flops(lambda p: convolve(jnp.ones((5, 8, 8, 4)), p["w"], **others), w=shape)
    assert found["w"] == 2 * 5 * positions * np.prod(shape)


def ones(*shape):
    return jnp.ones(shape)


def joined(p):
    return ones(7, 4) @ jnp.concatenate([p["query"], p["key"]], axis=1)


def standardised(p):
    centred = p["w"] - p["w"].mean(0, keepdims=True)
    return ones(7, 4) @ (centred * lax.rsqrt(p["w"].var(0, keepdims=True) + 1e-5))


MULTIPLY_ADDS = {
    "another layout of images and kernel": (
        lambda p: lax.conv_general_dilated(ones(5, 4, 8, 8), p["w"], (2, 2), "SAME"),  # NCHW, OIHW
        (6, 4, 3, 3),
        5 * 16 * 6 * 4 * 9,
    ),
    "every batch": (
        lambda p: jnp.einsum("bti,bio->bto", ones(3, 5, 4), p["w"]),
        (3, 4, 2),
        3 * 5 * 4 * 2,
    ),
    "any axis": (lambda p: lax.dot_general(p["w"], ones(7, 4), (((0,), (1,)), ((), ()))), (4, 3), 7 * 12),
    "a leaf used twice": (lambda p: ones(1, 4) @ p["w"] @ p["w"].T, (4, 3), 2 * 12),
    "a part of a leaf": (lambda p: ones(7, 4) @ p["w"][:, :2], (4, 3), 7 * 8),
    "standardised weights": (standardised, (4, 3), 7 * 12),
}


@pytest.mark.parametrize(("output_fn", "shape", "count"), MULTIPLY_ADDS.values(), ids=MULTIPLY_ADDS)
def test_multiply_adds_of_a_leaf(output_fn, shape, count):
    assert flops(output_fn, w=shape)["w"] == 2 * count


def test_weights_joined_to_one_count_by_their_share():
    assert flops(joined, query=(4, 3), key=(4, 2)) == {"query": 2 * 7 * 12, "key": 2 * 7 * 8}


@pytest.mark.slow
def test_what_enters_no_product_costs_nothing():
    def output_fn(p):
        return (p["table"][jnp.array([1, 1])] * p["gate"] + p["place"]) @ p["w"]

    found = flops(output_fn, table=(9, 4), gate=(2, 4), place=(2, 4), w=(4, 3))
    assert found == {"table": 0, "gate": 0, "place": 0, "w": 2 * 2 * 12}


def test_leaves_of_none_and_of_no_float_have_no_row():
    params = {"none": None, "step": jnp.int32(1), "w": jax.ShapeDtypeStruct((2, 3), jnp.float32)}
    masks = {"none": None, "step": None, "w": jnp.ones((2, 3), bool)}
    (row,) = pruning.network_report(lambda p: jnp.ones((1, 2)) @ p["w"] * p["step"], params, masks)
    assert (row.path, row.dense_flops) == ("['w']", 12)


def test_weights_of_integers_that_have_a_mask_count():
    params, masks = {"w": jnp.ones((2, 3), jnp.int8)}, {"w": jnp.ones((2, 3), bool)}
    (row,) = pruning.network_report(lambda p: ones(1, 2) @ p["w"].astype(jnp.float32), params, masks)
    assert (row.effective_kept, row.dense_flops, row.sparse_flops) == (6, 12, 12)


def test_traced_masks_are_an_error():
    params = {"w": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda m: pruning.network_report(lambda p: p["w"], params, m))(pruning.full_masks(params))


def test_masks_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) at \['w'\]"):
        pruning.network_report(lambda p: p["w"], {"w": jnp.ones((2, 3))}, {"w": jnp.ones((3, 2), bool)})
