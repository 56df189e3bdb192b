import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning

ORACLES = Path(__file__).parents[3].parent / "shared" / "oracles"
needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"no oracle arrays at {ORACLES}")

LENET300 = {"Dense_0": (784, 300), "Dense_1": (300, 100), "Dense_2": (100, 10)}
LENET5 = {"Conv_0": (5, 5, 1, 20), "Conv_1": (5, 5, 20, 50), "Dense_0": (800, 500), "Dense_1": (500, 10)}


def network(shapes):
    """Params of these shapes, with a bias in each layer; nothing is allocated."""
    return {
        layer: {
            "kernel": jax.ShapeDtypeStruct(shape, jnp.float32),
            "bias": jax.ShapeDtypeStruct(shape[-1:], jnp.float32),
        }
        for layer, shape in shapes.items()
    }


def kernels(tree):
    assert all(layer["bias"] is None for layer in tree.values())
    return [layer["kernel"] for layer in tree.values()]


@needs_oracles
@pytest.mark.parametrize(
    ("file", "shapes"), [("jaxpruner_lenet300", LENET300), ("jaxpruner_lenet5", LENET5)]
)
@pytest.mark.parametrize(
    ("tag", "allocation"), [("erk", pruning.erdos_renyi_kernel), ("uniform", pruning.uniform)]
)
def test_every_sparsity_of_the_oracles(file, shapes, tag, allocation):
    oracle = np.load(ORACLES / f"{file}.npz")
    sparsities = {name.split("/")[2] for name in oracle.files if name.startswith(f"sparsity/{tag}/")}
    assert sparsities >= {"0.8", "0.9", "0.95"}
    for sparsity in sparsities:
        found = kernels(allocation(network(shapes), float(sparsity)))
        expected = [oracle[f"sparsity/{tag}/{sparsity}/{layer}/kernel"] for layer in shapes]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_uniform_by_hand():
    assert kernels(pruning.uniform(network(LENET5), 0.8)) == [0.8] * 4


def test_erdos_renyi_by_hand():
    # Ratios (4+4)/16 = 1/2 and (8+8)/64 = 1/4; 80 weights, 40 to keep:
    # eps (16/2 + 64/4) = 40, eps = 5/3, densities 5/6 and 5/12.
    params = network({"a": (4, 4), "b": (8, 8)})
    np.testing.assert_allclose(kernels(pruning.erdos_renyi(params, 0.5)), [1 / 6, 7 / 12], rtol=1e-12)


def test_erdos_renyi_does_not_count_the_kernel_and_the_kernel_form_does():
    # 3x3, 2 -> 4 and a dense 4 -> 2; 72 + 8 weights, 20 to keep.
    # Plain: both ratios (2+4)/8, so the density is 1/4 in both.
    # Kernel: (3+3+2+4)/72 = 1/6 and 6/8; eps (12 + 6) = 20, and 10/9 * 3/4 < 1: densities 5/27, 5/6.
    params = network({"a": (3, 3, 2, 4), "b": (4, 2)})
    np.testing.assert_allclose(kernels(pruning.erdos_renyi(params, 0.75)), [0.75, 0.75], rtol=1e-12)
    np.testing.assert_allclose(
        kernels(pruning.erdos_renyi_kernel(params, 0.75)), [22 / 27, 1 / 6], rtol=1e-12
    )


def test_a_power_below_one_softens_the_ratios():
    # Ratios 1/2 and 1/4 to the power of a half: eps (16 / sqrt 2 + 64 / 2) = 40.
    params, roots = network({"a": (4, 4), "b": (8, 8)}), np.array([2**-0.5, 0.5])
    expected = 1 - roots * 40 / (roots @ [16, 64])
    for allocation in (pruning.erdos_renyi, pruning.erdos_renyi_kernel):
        found = kernels(allocation(params, 0.5, power_scale=0.5))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert kernels(allocation(params, 0.5, power_scale=0)) == [0.5, 0.5]
        assert allocation(params, 0.5, power_scale=1.0) == allocation(params, 0.5)
        for wrong in (-0.5, float("nan"), float("inf"), "1"):
            with pytest.raises(ValueError, match="a finite power_scale >= 0, got"):
                allocation(params, 0.5, power_scale=wrong)


@pytest.mark.parametrize("allocation", [pruning.uniform, pruning.erdos_renyi_kernel])
@pytest.mark.parametrize("dense", [("Conv_0",), ("Conv_0", "Dense_1")])
def test_with_layers_kept_dense_the_network_has_the_sparsity_that_was_asked(allocation, dense):
    """The count is that of all layers, but for what rounding down in each layer leaves."""
    params, rest = network(LENET5), pruning.prunable_except(*dense)
    for sparsity in (0.5, 0.9, 0.98):
        own = pruning.sparsity_of_rest(params, sparsity, rest=rest)
        found = allocation(params, own, prunable=rest)
        sizes = {name: int(np.prod(shape)) for name, shape in LENET5.items()}
        assert all((found[name]["kernel"] is None) == (name in dense) for name in sizes)
        removed = sum(found[name]["kernel"] * sizes[name] for name in sizes if name not in dense)
        assert removed == pytest.approx(int(sparsity * sum(sizes.values()) + 1e-6), abs=1)


def test_the_rest_loses_exactly_as_many_weights_as_the_whole_would():
    params = {
        "first": jnp.ones((10, 7)),
        "second": jnp.arange(330.0).reshape(30, 11),
        "bias": jnp.ones(9),
    }
    rest = pruning.prunable_except("first")
    for hundredths in range(82):
        own = pruning.sparsity_of_rest(params, hundredths / 100, rest=rest)
        masks = pruning.global_masks(pruning.magnitude_scores(params, prunable=rest), own)
        assert int((~masks["second"]).sum()) == 4 * hundredths
    assert pruning.sparsity_of_rest(params, 0.5, rest=pruning.prunable) == 0.5


def test_budgets_that_dense_layers_leave_no_room_for_are_refused():
    params = {"first": jnp.ones((10, 7)), "second": jnp.ones((30, 11))}
    rest = pruning.prunable_except("first")
    says = "a sparsity below 0.825, got 0.825: it removes 330 of 400 weights, 70 of which are kept dense"
    with pytest.raises(ValueError, match=says):
        pruning.sparsity_of_rest(params, 0.825, rest=rest)
    with pytest.raises(ValueError, match="at least one prunable leaf"):
        pruning.sparsity_of_rest(params, 0.5, rest=pruning.prunable_except("first", "second"))
    with pytest.raises(ValueError, match="concrete sparsity"):
        jax.jit(lambda s: pruning.sparsity_of_rest(params, s, rest=rest))(0.5)


def test_a_layer_that_would_exceed_density_one_is_dense_and_the_rest_makes_up_for_it():
    # (100, 100) ratio 1/50, (2, 2) ratio 1; sparsity 1/2 keeps 5002; the small one is dense.
    found = kernels(pruning.erdos_renyi(network({"a": (100, 100), "b": (2, 2)}), 0.5))
    np.testing.assert_allclose(found, [1 - 4998 / 10_000, 0], rtol=1e-12)


def test_capping_can_take_several_rounds():
    # Ratios 0.11, 0.5, 1; first c is dense, then b; a has 510 - 20 of its 1000 weights left.
    shapes = {"a": (10, 100), "b": (4, 4), "c": (2, 2)}
    found = kernels(pruning.erdos_renyi(network(shapes), 0.5))
    assert found[1] == found[2] == 0.0
    assert found[0] * 1000 == pytest.approx(510)


def test_layers_of_one_ratio_are_capped_together():
    found = kernels(pruning.erdos_renyi(network({"a": (50, 50), "b": (2, 2), "c": (2, 2)}), 0.9))
    assert found[1] == found[2]


shapes = st.lists(st.lists(st.integers(1, 30), min_size=2, max_size=4).map(tuple), min_size=1, max_size=5)


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
@given(shapes=shapes, percent=st.integers(0, 99))
def test_the_total_is_kept_and_every_layer_is_in_range(allocation, shapes, percent):
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = allocation(params, percent / 100)
    sizes = [np.prod(shape) for shape in shapes]
    assert all(0 <= sparsity < 1 for sparsity in found)
    removed = float(np.dot(found, sizes))
    assert removed == pytest.approx(np.floor(percent / 100 * sum(sizes) + 1e-6), abs=1e-6 * sum(sizes))


def test_more_weights_than_fit_into_int32_are_divided_too():
    """In three layers of one shape each has the sparsity."""
    params = network({f"Dense_{i}": (40_000, 30_000) for i in range(3)})
    assert kernels(pruning.erdos_renyi_kernel(params, 0.9)) == pytest.approx([0.9] * 3, abs=1e-9)


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
@pytest.mark.parametrize("kind", [float, np.float32, jnp.float32])
def test_as_many_weights_go_as_the_sparsity_says(allocation, kind):
    """0.29 * 100 is 28.999999999999996, and less in float32."""
    found = kernels(allocation(network({"Dense_0": (6, 10), "Dense_1": (4, 10)}), kind(0.29)))
    assert 60 * found[0] + 40 * found[1] == pytest.approx(29, abs=1e-9)


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
def test_a_layer_without_weights_is_harmless(allocation):
    found = allocation({"empty": jnp.ones((0, 3)), "full": jnp.ones((2, 2))}, 0.5)
    assert found["full"] == pytest.approx(0.5)


def test_ideal_gas_quotas_by_hand():
    # 4 and 12 weights, F = 1/4: densities 1 / (1 + 1) and 1 / (3 + 1) keep 2 + 3 of 16.
    found = pruning.ideal_gas_quotas(network({"a": (2, 2), "b": (3, 4)}), 11 / 16)
    np.testing.assert_allclose(kernels(found), [1 / 2, 3 / 4], rtol=1e-12)


@given(shapes=shapes, thousandths=st.integers(0, 999))
def test_ideal_gas_quotas_keep_the_total_and_spare_small_layers(shapes, thousandths):
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = pruning.ideal_gas_quotas(params, thousandths / 1000)
    sizes = [int(np.prod(shape)) for shape in shapes]
    assert all(0 <= sparsity < 1 for sparsity in found)
    removed = float(np.dot(found, sizes))
    assert removed == pytest.approx(thousandths / 1000 * sum(sizes), abs=1e-9 * sum(sizes))
    by_size = sorted(zip(sizes, found, strict=True))
    for (small, spared), (large, other) in itertools.pairwise(by_size):
        # Also in how much smaller: the density is 1 / (F n + 1) with one F for all.
        assert spared * (1 - other) * large == pytest.approx(other * (1 - spared) * small, abs=1e-9)
        assert spared < other or small == large or thousandths == 0


# Two layers before the last: weights 2^2 + 2 = 6 and 1^2 + 1 = 2.
THREE = {"a": (10, 10), "b": (10, 10), "c": (10, 2)}
IN_ORDER = [f"['{layer}']['kernel']" for layer in THREE]


@pytest.mark.parametrize(
    ("layers", "sparsity", "knobs", "expected"),
    [
        # Ratios 12 and 6. 44 of 220 are left, 6 to the last: 38 = eps (1200 + 600).
        ("abc", 0.8, {}, [1 - 12 * 38 / 1800, 1 - 6 * 38 / 1800, 0.7]),
        ("bac", 0.8, {}, [1 - 6 * 38 / 1800, 1 - 12 * 38 / 1800, 0.7]),
        # 24 = eps 1800 where the last keeps all of its 20; 43 where it keeps 1.
        ("abc", 0.8, {"last_density": 1.0}, [0.84, 0.92, 0]),
        ("abc", 0.8, {"last_density": 0.05}, [1 - 12 * 43 / 1800, 1 - 6 * 43 / 1800, 0.95]),
        # a last: 44 - 30 = 14 to b, 100 weights and ratio 12, and c, 20 and ratio 6; eps = 14 / 1320.
        ("bca", 0.8, {}, [0.7, 1 - 12 * 14 / 1320, 1 - 6 * 14 / 1320]),
        # 159 = eps 1800 would be a density of 1.06 for a: dense, and 59 of 100 are left to b.
        ("abc", 0.25, {}, [0, 0.41, 0.7]),
    ],
)
def test_smart_ratios_by_hand(layers, sparsity, knobs, expected):
    order = [f"['{layer}']['kernel']" for layer in layers]
    found = pruning.smart_ratios(network(THREE), sparsity, layers=order, **knobs)
    np.testing.assert_allclose(kernels(found), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"layers": IN_ORDER[:2]},
            r"name each prunable leaf once \(\['a'\]\['kernel'\], .*\), got \['a'\]",
        ),
        ({"layers": [*IN_ORDER, "['d']['kernel']"]}, r"name each .* got .*, \['d'\]\['kernel'\]$"),
        ({"layers": ["a", "b", "c"]}, "name each prunable leaf once .* got a, b, c$"),
        ({"layers": [*IN_ORDER, IN_ORDER[0]]}, "name each prunable leaf once"),
        ({"layers": []}, "name each prunable leaf once"),
        ({"layers": None}, "a list of paths from input to output, got None"),
        ({"layers": "['a']"}, "a list of paths from input to output"),
        ({"last_density": "all"}, r"last_density in \(0, 1\], got 'all'"),
        ({"last_density": 0.0}, r"last_density in \(0, 1\], got 0.0"),
        ({"last_density": 1.1}, r"last_density in \(0, 1\], got 1.1"),
        ({"last_density": float("nan")}, r"last_density in \(0, 1\], got nan"),
        ({"sparsity": 1.0}, r"expected sparsity in \[0, 1\)"),
        # 6.6 are left and the last keeps 6 of its 20; at 0.973, 5.94.
        (
            {"sparsity": 0.973},
            r"0.973 leaves nothing to the other layers where \['c'\].* keeps 0.3 of its 20",
        ),
        ({"sparsity": 0.95, "last_density": 0.9}, "ask for a lower sparsity or a lower last_density"),
    ],
)
def test_what_smart_ratios_cannot_do_is_named(knobs, message):
    call = {"sparsity": 0.5, "layers": IN_ORDER, **knobs}
    with pytest.raises(ValueError, match=message):
        pruning.smart_ratios(network(THREE), call.pop("sparsity"), **call)


def test_smart_ratios_up_to_what_the_last_layer_leaves():
    found = kernels(pruning.smart_ratios(network(THREE), 0.97, layers=IN_ORDER))
    np.testing.assert_allclose(found, [1 - 12 * 0.6 / 1800, 1 - 6 * 0.6 / 1800, 0.7], rtol=1e-12)


def test_smart_ratios_are_an_allocation():
    params = {layer: jnp.ones(shape) for layer, shape in THREE.items()}
    allocation = functools.partial(pruning.smart_ratios, layers=[f"['{layer}']" for layer in THREE])
    masks = pruning.random_masks(jax.random.key(0), params, 0.8, allocation=allocation)
    # Of 25.3 and 12.7 weights that are not removed, the whole ones above.
    assert [int(masks[layer].sum()) for layer in THREE] == [26, 13, 6]


CONCRETE = [
    pruning.erdos_renyi,
    pruning.erdos_renyi_kernel,
    pruning.ideal_gas_quotas,
    functools.partial(pruning.smart_ratios, layers=["['a']", "['b']"]),
]


@pytest.mark.parametrize("allocation", CONCRETE)
def test_a_traced_sparsity_is_an_error_where_it_must_be_known(allocation):
    with pytest.raises(ValueError, match="concrete sparsity: call it outside jit"):
        jax.jit(lambda s: allocation({"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}, s))(0.5)


@pytest.mark.parametrize("allocation", [pruning.uniform, *CONCRETE])
def test_a_predicate_of_the_caller_is_asked(allocation):
    params = {"a": jnp.ones(100), "b": jnp.ones(10), "kernel": jnp.ones((2, 2))}
    found = allocation(params, 0.5, prunable=lambda path, leaf: leaf.ndim == 1)
    assert found["kernel"] is None
    assert 100 * found["a"] + 10 * found["b"] == pytest.approx(55)


PLACES = {"a": jnp.ones((7, 11)), "b": jnp.ones((3, 2, 4, 5)), "c": jnp.ones(6)}
counts = st.fixed_dictionaries({"a": st.integers(1, 77), "b": st.integers(1, 120)})


def first_of(counts):
    """Masks that keep so many weights in each layer."""
    return {
        **{
            layer: jnp.arange(PLACES[layer].size).reshape(PLACES[layer].shape) < n
            for layer, n in counts.items()
        },
        "c": None,
    }


@jax.jit
def elsewhere(masks):
    """The sparsities, and as many weights in each layer at random places."""
    sparsities = pruning.layer_sparsities(masks)
    scores = pruning.random_scores(jax.random.key(0), PLACES)
    return sparsities, pruning.layerwise_masks(scores, sparsities)


@pytest.mark.slow
@settings(deadline=None)
@given(counts)
def test_the_sparsities_of_masks_give_as_many_weights_in_each_layer_under_jit(counts):
    expected = {"a": (77 - counts["a"]) / 77, "b": (120 - counts["b"]) / 120, "c": None}
    assert pruning.layer_sparsities(first_of(counts)) == expected
    sparsities, masks = elsewhere(first_of(counts))
    assert sparsities == pytest.approx(expected)
    assert {layer: int(masks[layer].sum()) for layer in counts} == counts
    assert masks["c"] is None


@pytest.mark.parametrize("kept", [1, 2, 77_777, 235_198, 235_199, 235_200])
def test_the_sparsity_of_a_large_mask_is_exact_under_jit(kept):
    @jax.jit
    def again(mask):
        return pruning.layerwise_masks([mask.astype(jnp.float32)], pruning.layer_sparsities([mask]))

    assert int(again(jnp.arange(235_200).reshape(784, 300) < kept)[0].sum()) == kept


def test_an_empty_layer_is_named_where_a_mask_is_asked_for():
    sparsities = pruning.layer_sparsities({"a": jnp.ones((1, 2), bool), "b": jnp.zeros((1, 2), bool)})
    assert sparsities == {"a": 0.0, "b": 1.0}
    with pytest.raises(ValueError, match=r"expected the sparsity of \['b'\] in \[0, 1\) .*, got 1.0"):
        pruning.layerwise_masks({"a": jnp.ones((1, 2)), "b": jnp.ones((1, 2))}, sparsities)


@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_smart_ratios_raise_the_last_density_where_the_others_dense_are_not_enough(sparsity):
    params = {"a": jnp.ones((10, 10)), "b": jnp.ones((10, 10))}
    found = pruning.smart_ratios(params, sparsity, layers=["['a']", "['b']"])
    assert found["a"] == pytest.approx(0)
    assert found["b"] == pytest.approx(2 * sparsity)


def test_smart_ratios_need_two_layers():
    with pytest.raises(ValueError, match="two layers"):
        pruning.smart_ratios({"a": jnp.ones((10, 10))}, 0.5, layers=["['a']"])


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
@pytest.mark.parametrize("power", [200, 400, 2000])
def test_a_high_power_is_no_overflow_and_no_division_by_zero(allocation, power):
    """Layers are filled in the order of their ratios, 2, 1/2 and 1/50."""
    params = network({"a": (100, 100), "b": (4, 4), "c": (1, 1)})
    found = kernels(allocation(params, 0.5, power_scale=power))
    np.testing.assert_allclose(found, [1 - 4992 / 10_000, 0, 0], atol=1e-12)


@pytest.mark.parametrize("allocation", [pruning.erdos_renyi, pruning.erdos_renyi_kernel])
def test_a_layer_without_axes_that_count_is_named(allocation):
    params = {"a": jnp.ones((2, 2)), "s": jnp.ones(())}
    layout = lambda path, leaf: pruning.Axes(0, (), ()) if leaf.ndim == 0 else pruning.Axes()  # noqa: E731
    with pytest.raises(ValueError, match=r"names input or output axes of \['s'\], got none"):
        allocation(params, 0.5, prunable=lambda path, leaf: True, layout=layout)
    with pytest.raises(ValueError, match=r"names input or output axes of \['a'\], got none"):
        pruning.erdos_renyi(params, 0.5, layout=lambda path, leaf: pruning.Axes(0, (), ()))


KNOBS = [
    (pruning.erdos_renyi, "power_scale"),
    (pruning.erdos_renyi_kernel, "power_scale"),
    (functools.partial(pruning.smart_ratios, layers=["['a']", "['b']"]), "last_density"),
]


@pytest.mark.parametrize(("allocation", "knob"), KNOBS)
def test_numbers_of_allocations_are_known_and_not_rounded(allocation, knob):
    params = {"a": jnp.ones((4, 4)), "b": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match=f"concrete {knob}: call it outside jit"):
        jax.jit(lambda number: allocation(params, 0.5, **{knob: number}))(0.5)
    for short in (jnp.bfloat16(0.7), np.float16(0.7)):
        with pytest.raises(ValueError, match=f"expected {knob} in Python numbers, float32 or longer"):
            allocation(params, 0.5, **{knob: short})
    found = allocation(params, 0.5, **{knob: jnp.float32(0.5)})
    assert all(isinstance(sparsity, float) for sparsity in found.values())
    assert found == pytest.approx(allocation(params, 0.5, **{knob: 0.5}))
