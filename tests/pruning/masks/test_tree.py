import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

PARAMS = {"dense": {"kernel": jnp.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]), "bias": jnp.ones(3)}}
MASKS = {"dense": {"kernel": jnp.array([[True, False, True], [False, False, True]]), "bias": None}}


def changed(**kernel_or_bias):
    return {"dense": {**MASKS["dense"], **kernel_or_bias}}


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (jnp.ones((2, 2)), True),
        (jnp.ones((3, 3, 1, 4), jnp.bfloat16), True),
        (jax.ShapeDtypeStruct((2, 2), jnp.float16), True),
        (np.ones((2, 2)), True),
        (jnp.ones(4), False),
        (jnp.ones(()), False),
        (jnp.ones((2, 2), int), False),
        (jnp.ones((2, 2), bool), False),
        (jax.random.split(jax.random.key(0), (2, 2)), False),
        (3.0, False),
    ],
)
def test_the_default_takes_floating_leaves_of_two_dimensions(leaf, expected):
    assert pruning.prunable((), leaf) == expected


def test_the_caller_says_what_is_prunable():
    masks = pruning.full_masks(PARAMS, prunable=lambda path, leaf: path[-1].key == "bias")
    assert masks["dense"]["kernel"] is None
    assert masks["dense"]["bias"].tolist() == [True] * 3


DONATED = {
    "apply_masks": lambda params: pruning.apply_masks(params, MASKS),
    "apply_soft_masks": lambda params: pruning.apply_soft_masks(
        params, pruning.soft_masks(pruning.initial_gates(params, 0.0), 1.0)
    ),
    "sparse_kaiming_normal": lambda params: pruning.sparse_kaiming_normal(
        jax.random.key(0), params, MASKS
    ),
    "reinitialise": lambda params: pruning.reinitialise(jax.random.key(0), lambda key: params, MASKS),
}


@pytest.mark.parametrize("masked", DONATED.values(), ids=DONATED)
def test_a_step_that_donates_masked_params_leaves_the_params_to_rewind_to(masked):
    step = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf + 1, params), donate_argnums=0)
    params = jax.tree.map(jnp.copy, PARAMS)
    step(masked(params))
    for leaf, before in zip(jax.tree.leaves(params), jax.tree.leaves(PARAMS), strict=True):
        assert not leaf.is_deleted()
        np.testing.assert_array_equal(leaf, before)


def test_leaves_that_are_no_arrays_pass_through_a_mask():
    params = {"w": jnp.ones((1, 2)), "activation": jax.nn.relu, "shape": np.ones(2), "rate": 0.5}
    masks = {"w": jnp.array([[True, False]]), "activation": None, "shape": None, "rate": None}
    applied = pruning.apply_masks(params, masks)
    assert all(applied[name] is params[name] for name in ("activation", "shape", "rate"))


@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf, -0.0, -3.0])
def test_nothing_leaks_through_a_mask(weight):
    pruned = pruning.apply_masks({"w": jnp.array([[weight]])}, {"w": jnp.array([[False]])})["w"]
    assert pruned[0, 0] == 0
    assert not np.signbit(pruned[0, 0])


def test_the_gradient_of_a_pruned_weight_is_zero():
    gradient = jax.grad(lambda p: jnp.sum(pruning.apply_masks(p, MASKS)["dense"]["kernel"] ** 2))(PARAMS)
    assert gradient["dense"]["kernel"].tolist() == [[2, 0, 6], [0, 0, -12]]


def test_intersection_keeps_what_all_keep():
    a, b, c = ({"w": jnp.array([row], bool)} for row in ([1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1]))
    assert pruning.intersect_masks(a, b, c)["w"].tolist() == [[False, False, False, True]]
    assert pruning.intersect_masks(a)["w"].tolist() == a["w"].tolist()


def test_counts():
    assert pruning.count_kept(MASKS) == 3
    assert pruning.count_prunable(MASKS) == 6
    assert pruning.sparsity(MASKS) == 0.5
    assert isinstance(pruning.count_kept(MASKS), int)


def test_the_report_has_a_row_for_each_prunable_leaf():
    params = {**PARAMS, "out": {"kernel": jnp.ones((1, 2))}}
    masks = {**MASKS, "out": {"kernel": jnp.array([[True, True]])}}
    assert list(pruning.layer_report(params, masks)) == [
        ("['dense']['kernel']", (2, 3), 3, 6, 0.5),
        ("['out']['kernel']", (1, 2), 2, 2, 0.0),
    ]


def test_check_accepts_what_fits():
    pruning.check_masks(MASKS, PARAMS)
    pruning.check_masks(changed(kernel=np.ones((2, 3), bool)), PARAMS)
    jax.eval_shape(lambda p, m: pruning.check_masks(m, p), PARAMS, MASKS)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            changed(kernel=jnp.ones((3, 2), bool)),
            r"shape \(2, 3\) at \['dense'\]\['kernel'\], got \(3, 2\)",
        ),
        (changed(kernel=jnp.ones((2, 3))), r"bool mask at \['dense'\]\['kernel'\], got float32"),
        (changed(kernel=True), r"bool mask at \['dense'\]\['kernel'\], got bool"),
        (changed(kernel=None), "nothing is prunable"),
        (MASKS["dense"], r"\['bias'\] against nothing"),
        ({"dense": {"kernel": MASKS["dense"]["kernel"]}}, r"nothing against .*\['bias'\]"),
        ({"dense": list(MASKS["dense"].values())}, "structure of the params"),
        ({}, "structure of the params"),
        (None, "structure of the params"),
    ],
)
@pytest.mark.parametrize("function", [pruning.apply_masks, lambda p, m: pruning.layer_report(p, m)])
def test_masks_that_do_not_fit_are_named(function, masks, message):
    with pytest.raises(ValueError, match=message):
        function(PARAMS, masks)


@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_is_not_a_tuple(container):
    other = {list: tuple, tuple: list}[container]
    with pytest.raises(ValueError, match=r"at the top a \w+ against a \w+"):
        pruning.check_masks(container([jnp.ones((1, 1), bool)]), other([jnp.ones((1, 1))]))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "without leaves"),
        ({"bias": jnp.ones(3)}, r"none of \['bias'\] is one"),
        ({"ids": jnp.ones((2, 2), int)}, "prunable"),
        (None, "without leaves"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        pruning.full_masks,
        pruning.magnitude_scores,
        lambda p: pruning.random_scores(jax.random.key(0), p),
        lambda p: pruning.random_masks(jax.random.key(0), p, 0.5),
        lambda p: pruning.uniform(p, 0.5),
        lambda p: pruning.erdos_renyi(p, 0.5),
        lambda p: pruning.erdos_renyi_kernel(p, 0.5),
        lambda p: pruning.displacement_scores(p, p),
        lambda p: pruning.candidate_masks(jax.random.key(0), p, k=2, sparsity=0.5),
    ],
)
def test_a_tree_with_nothing_to_prune_is_an_error(function, params, message):
    with pytest.raises(ValueError, match=message):
        function(params)


@pytest.mark.parametrize("function", [pruning.count_prunable, pruning.sparsity])
def test_counting_nothing_is_an_error(function):
    with pytest.raises(ValueError, match="at least one prunable weight"):
        function({"bias": None})


def test_a_report_of_traced_masks_is_an_error():
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda m: pruning.layer_report(PARAMS, m))(MASKS)


@pytest.mark.parametrize("sides", [("full", "partial"), ("partial", "full")])
def test_intersecting_masks_of_different_leaves_is_an_error_that_names_the_path(sides):
    both = jnp.ones((1, 2), bool)
    trees = {"full": {"a": both, "b": both}, "partial": {"a": both, "b": None}}
    with pytest.raises(ValueError, match=r"\['b'\]"):
        pruning.intersect_masks(*(trees[side] for side in sides))


def test_a_layer_without_weights_is_not_prunable():
    params = {"empty": jnp.ones((0, 3)), "full": jnp.ones((2, 2))}
    masks = pruning.full_masks(params)
    assert pruning.count_prunable(masks) == 4
    assert [row.path for row in pruning.layer_report(params, masks)] == ["['full']"]


@pytest.mark.parametrize("leaf", [jax.nn.relu, 1.0])
def test_a_predicate_that_takes_what_is_no_array_is_named(leaf):
    with pytest.raises(
        ValueError, match=r"expected an array at \['f'\], got a .*leave it out by prunable"
    ):
        pruning.full_masks({"w": jnp.ones((2, 2)), "f": leaf}, prunable=lambda path, leaf: True)
