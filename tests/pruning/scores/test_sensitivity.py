"""SNIP, FORCE and GraSP: by hand and against finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import pruning
from tests.pruning.scores.linear_unit import UNIT, X, Y, squared_error


def snip(loss, params, batches, **knobs):
    return pruning.snip_scores(loss, params, batches, **knobs)


def force(loss, params, batches, **knobs):
    return pruning.force_scores(loss, params, params, batches, **knobs)


def grasp(loss, params, batches, **knobs):
    return pruning.grasp_scores(loss, params, batches, **knobs)


def grasp_absolute(loss, params, batches, **knobs):
    return pruning.grasp_absolute_scores(loss, params, batches, **knobs)


every_method = pytest.mark.parametrize("method", [snip, force, grasp, grasp_absolute])
# The other two are made of these.
snip_and_grasp = pytest.mark.parametrize("method", [snip, grasp])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # r = (4, 5) - (1, 0) = (3, 5), so g = (9, 1/2); w = (2, 1).
        (snip, [18, 0.5]),
        # H = (5, -1/2; -1/2, 5/2), so Hg = (45 - 1/4, -9/2 + 5/4).
        (grasp, [89.5, -3.25]),
        (grasp_absolute, [89.5, 3.25]),
    ],
)
def test_a_linear_unit_by_hand(method, expected):
    assert method(squared_error, UNIT, [(X, Y)])["w"].ravel().tolist() == expected


def test_force_has_the_gradient_of_the_pruned_network_and_the_weights_of_the_dense_one():
    # Without the second weight r = (2, 6) - (1, 0) = (1, 6), so g = (19/2, -2); w = (2, 1) as before.
    masked = {"w": jnp.array([[2.0], [0.0]])}
    scores = pruning.force_scores(squared_error, UNIT, masked, [(X, Y)])
    assert scores["w"].ravel().tolist() == [19, 2]


# A network with a hidden layer, biases far from zero, and eight examples. In float64 under x64.
RANDOM = np.random.default_rng(0)
SHAPES = {"hidden": (3, 4), "hidden_bias": (4,), "out": (4, 2), "out_bias": (2,)}
WEIGHTS = {name: RANDOM.normal(size=shape) for name, shape in SHAPES.items()}
IMAGES, LABELS = RANDOM.normal(size=(8, 3)), RANDOM.integers(0, 2, 8)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def network():
    return jax.tree.map(jnp.asarray, WEIGHTS)


def batches(*sizes):
    places = np.split(np.arange(8), np.cumsum(sizes)[:-1])
    return [(jnp.asarray(IMAGES[i]), jnp.asarray(LABELS[i])) for i in places]


def cross_entropy(params, batch):
    x, labels = batch
    hidden = jnp.tanh(x @ params["hidden"] + params["hidden_bias"][None])
    logits = jax.nn.log_softmax(hidden @ params["out"] + params["out_bias"][None])
    return -jnp.mean(jnp.take_along_axis(logits, labels[:, None], 1))


def score(method, loss, params, batches):
    """The scores from one compiled program: quicker than one for each operation."""
    return jax.jit(lambda *given: method(loss, *given))(params, batches)


def kernels(tree):
    return {name: tree[name] for name in ("hidden", "out")}


def close(found, expected, rtol):
    for name, leaf in kernels(expected).items():
        np.testing.assert_allclose(found[name], leaf, rtol=rtol, atol=1e-3 * rtol, err_msg=name)


def derivatives_by_scaling(function, params, step):
    """d/da of function(params with one weight times 1 - a) at a = 0, for each prunable weight."""
    flat, unravel = ravel_pytree(kernels(params))

    def at(scales):
        return function({**params, **unravel(flat * scales)})

    shifts = jnp.eye(flat.size) * step
    difference = jax.jit(jax.vmap(lambda shift: at(1 - shift) - at(1 + shift)))(shifts)
    return unravel(difference / (2 * step))


@pytest.mark.usefixtures("x64")
def test_snip_is_the_derivative_of_the_loss_by_the_mask():
    (batch,) = batches(8)
    found = score(snip, cross_entropy, network(), [batch])
    by_mask = derivatives_by_scaling(lambda params: cross_entropy(params, batch), network(), 1e-5)
    close(found, jax.tree.map(jnp.abs, by_mask), 1e-7)


@pytest.mark.usefixtures("x64")
def test_grasp_is_what_removal_takes_from_half_the_squared_gradient_norm():
    """With its sign: the paper's score is the negative, and no accuracy would show which it was.

    The biases, which are not prunable, have no part in the gradient.
    """
    (batch,) = batches(8)

    def energy(params):
        gradients = kernels(jax.grad(cross_entropy)(params, batch))
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradients)) / 2

    by_removal = derivatives_by_scaling(energy, network(), 1e-5)
    assert all((leaf > 0).any() and (leaf < 0).any() for leaf in jax.tree.leaves(by_removal))
    found = score(grasp, cross_entropy, network(), [batch])
    close(found, jax.tree.map(jnp.negative, by_removal), 1e-6)
    found = score(grasp_absolute, cross_entropy, network(), [batch])
    close(found, jax.tree.map(jnp.abs, by_removal), 1e-6)


@pytest.mark.usefixtures("x64")
@snip_and_grasp
def test_batches_of_unequal_size_score_as_one(method):
    found = score(method, cross_entropy, network(), batches(1, 2, 5))
    close(found, score(method, cross_entropy, network(), batches(8)), 1e-12)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float64")}


@snip_and_grasp
def test_leaves_that_are_not_prunable_may_be_of_any_kind(method):
    def loss(params, batch):
        assert params["step"].dtype == jnp.int32
        noise = jax.random.normal(params["key"], ()) * 1e-3
        return cross_entropy(params, batch) + noise + params["step"] + params["table"][0, 0]

    others = {
        "step": jnp.int32(3),
        "key": jax.random.key(0),
        "table": jnp.ones((2, 2), int),
        "absent": None,
    }
    expected = score(method, cross_entropy, network(), batches(8))
    found = score(method, loss, {**network(), **others}, batches(8))
    close(found, expected, 1e-5)
    assert [name for name, leaf in found.items() if leaf is not None] == ["hidden", "out"]


def test_a_predicate_of_the_caller_is_asked():
    # The error of b alone is b - y: g = 5 - 1 and 3 - 4, H the identity, over two outputs.
    def loss(params, batch):
        return jnp.mean(jnp.sum((params["w"] + params["b"][None] - batch) ** 2, 1)) / 2

    def vectors(path, leaf):
        return leaf.ndim == 1

    params = {"w": jnp.zeros((1, 2)), "b": jnp.array([5.0, 3.0])}
    batch = jnp.array([[1.0, 4.0]])
    assert snip(loss, params, [batch], prunable=vectors)["w"] is None
    assert snip(loss, params, [batch], prunable=vectors)["b"].tolist() == [20, 3]
    assert force(loss, params, [batch], prunable=vectors)["b"].tolist() == [20, 3]
    assert grasp(loss, params, [batch], prunable=vectors)["b"].tolist() == [20, -3]
    assert grasp_absolute(loss, params, [batch], prunable=vectors)["b"].tolist() == [20, 3]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def power(x, n):
    """Its backward pass is made of itself, as that of a fast convolution is."""
    return x**n


power.defvjp(lambda x, n: (power(x, n), x), lambda n, x, dy: (dy * n * power(x, n - 1),))


@pytest.mark.parametrize("method", [grasp, grasp_absolute])
def test_grasp_goes_through_a_custom_backward_pass(method):
    # L = w^3 at w = 2: g = 12 and H = 12. Forward mode would raise.
    def loss(params, batch):
        return jnp.mean(power(params["w"], 3))

    assert method(loss, {"w": jnp.array([[2.0]])}, [X])["w"].tolist() == [[2 * 12 * 12]]


TWO_LAYERS = {"u": jnp.ones((2, 2)), "v": jnp.ones((2, 3))}


def two_terms(params, batch):
    """The data reach v alone; the derivatives by u are 2 and 2."""
    return jnp.sum(params["u"] ** 2) + jnp.sum(params["v"] ** 2 * jnp.mean(batch))


@every_method
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_scores_that_are_not_finite_are_an_error_that_names_the_layer(method, bad):
    with pytest.raises(
        ValueError, match=r"NaN or infinity at \['v'\]: .* not finite in float32; look for"
    ):
        method(two_terms, TWO_LAYERS, [jnp.array([1.0, bad])])


@snip_and_grasp
def test_traced_scores_may_be_nan_and_are_pruned_first(method):
    @jax.jit
    def prune(params, batch, sparsity):
        return pruning.global_masks(method(two_terms, params, [batch]), sparsity)

    for pruned in range(10):
        masks = prune(TWO_LAYERS, jnp.array([1.0, jnp.nan]), pruned / 10)
        assert int((~masks["v"]).sum()) == min(pruned, 6)
        assert int((~masks["u"]).sum()) == max(pruned - 6, 0)


@snip_and_grasp
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda params, batch: params["w"].sum(1), r"float scalar, .*, got float32 of shape \(2,\)"),
        (lambda params, batch: params["w"].sum()[None], r"float scalar, .*, got float32 of shape \(1,\)"),
        (lambda params, batch: params["w"].sum().astype(int), r"float scalar, .*, got int32 of shape"),
        (lambda params, batch: params["w"].sum() > 0, r"float scalar, .*, got bool of shape"),
        (lambda params, batch: None, "expected loss_fn"),
        (lambda params, batch: (squared_error(params, batch), {"a": 1.0}), "expected loss_fn"),
    ],
)
def test_the_loss_must_be_a_float_scalar(method, loss, message):
    with pytest.raises(ValueError, match=message):
        method(loss, UNIT, [(X, Y)])


@snip_and_grasp
def test_scores_that_are_all_zero_are_an_error(method):
    with pytest.raises(ValueError, match="got 0 for all of them: the loss does not depend on the params"):
        method(lambda params, batch: jnp.float32(1.0) + 0 * params["w"].sum(), UNIT, [(X, Y)])


@snip_and_grasp
def test_the_scores_of_a_network_that_pruning_has_cut_are_zero(method):
    def loss(params, batch):
        return jnp.mean((batch @ params["a"] @ params["b"]) ** 2)

    cut = {"a": jnp.array([[1.0, 0.0], [2.0, 3.0]]), "b": jnp.zeros((2, 1))}
    assert not any(leaf.any() for leaf in jax.tree.leaves(method(loss, cut, [X])))


def entropy(params, batch, dtype, factor=1.0):
    x, labels = batch
    logits = jnp.tanh(x.astype(dtype) @ params["hidden"]) @ params["out"]
    found = jax.nn.log_softmax(logits / jnp.asarray(200, dtype))
    return -jnp.mean(jnp.take_along_axis(found, labels[:, None], 1)) * jnp.asarray(factor, dtype)


@snip_and_grasp
@pytest.mark.slow
def test_float16_at_a_temperature_of_200_ranks_the_weights(method):
    """GraSP's scores are about 1e-9, SNIP's 1e-5: in float16 they were 0 for most weights."""

    def in_dtype(dtype):
        params = {name: jnp.asarray(WEIGHTS[name], dtype) for name in ("hidden", "out")}
        loss = lambda params, batch: entropy(params, batch, dtype)  # noqa: E731
        scores = method(loss, params, batches(8))
        assert {leaf.dtype for leaf in jax.tree.leaves(scores)} == {jnp.dtype(dtype)}
        return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(scores)])

    short, exact = in_dtype(jnp.float16), in_dtype(jnp.float32)
    assert (short != 0).all()
    factor = np.abs(short).max() / np.abs(exact).max()
    np.testing.assert_allclose(short, exact * factor, atol=0.02 * np.abs(short).max())


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_a_loss_scale_does_not_change_graspss_ranking(factor):
    params = {name: jnp.asarray(WEIGHTS[name], jnp.float32) for name in ("hidden", "out")}

    def scores(factor):
        return grasp(lambda p, b: entropy(p, b, jnp.float32, factor), params, batches(8))

    found, expected = scores(factor), scores(1.0)
    ratios = np.concatenate([np.ravel(found[n] / expected[n]) for n in expected])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)


@snip_and_grasp
def test_functions_among_the_leaves_are_left_alone(method):
    def loss(params, batch):
        return squared_error({"w": params["activation"](params["w"])}, batch)

    scores = method(loss, {**UNIT, "activation": jnp.asarray, "name": "unit"}, [(X, Y)])
    assert scores["w"].tolist() == method(squared_error, UNIT, [(X, Y)])["w"].tolist()
    assert scores["activation"] is None


@snip_and_grasp
def test_float8_params_have_scores_in_float32(method):
    def loss(params, batch):
        return squared_error({"w": params["w"].astype(jnp.float32)}, batch)

    scores = method(loss, {"w": UNIT["w"].astype(jnp.float8_e5m2)}, [(X, Y)])["w"]
    assert scores.dtype == jnp.float32
    assert (scores != 0).all()


@snip_and_grasp
def test_params_without_a_prunable_leaf_are_an_error(method):
    with pytest.raises(ValueError, match=r"at least one prunable leaf .* none of \['b'\]"):
        method(squared_error, {"b": jnp.ones(2)}, [(X, Y)])


@pytest.mark.parametrize("masked", [{"v": UNIT["w"]}, {"w": UNIT["w"], "v": UNIT["w"]}, {"w": Y[:1]}])
def test_force_needs_two_trees_that_match(masked):
    match = r"params and masked_params of one structure|\['w'\]"
    with pytest.raises(ValueError, match=match):
        pruning.force_scores(squared_error, UNIT, masked, [(X, Y)])
