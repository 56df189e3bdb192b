"""Straight through masks, scores and gates: the references' losses, gradients and masks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pruning
from tests.pruning.oracles import FOLDER, NETWORKS, Arrays, cross_entropy, load, needs_oracles


@needs_oracles
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4)])
def test_sr_ste_is_the_references(n, m):
    """Loss, gradients with and without decay, and the kernels after a step of SGD."""
    with np.load(FOLDER / "nm_masks.npz") as file, jax.enable_x64(True):
        here = {name: jnp.asarray(file[f"srste/{name}"]) for name in ("x", "y")}
        params = {
            name: jnp.asarray(file[f"srste/{name}"], jnp.float64)
            for name in ("kernel0", "bias0", "kernel1", "bias1")
        }
        x = here["x"].astype(jnp.float64)
        make = lambda params: pruning.n_m_masks(pruning.magnitude_scores(params), n, m)  # noqa: E731

        def loss(params):
            p = pruning.straight_through(params, make(params))
            hidden = jax.nn.relu(x @ p["kernel0"] + p["bias0"][None])
            return cross_entropy(hidden @ p["kernel1"] + p["bias1"][None], here["y"])

        @jax.jit
        def step(params):
            value, gradients = jax.value_and_grad(loss)(params)
            after = {}
            for decay in ("0", "0.0002"):
                tx = pruning.decay_pruned(float(decay), make)
                decayed, _ = tx.update(gradients, tx.init(params), params)
                chain = optax.chain(tx, optax.sgd(0.1))
                updates, _ = chain.update(gradients, chain.init(params), params)
                after[decay] = decayed, optax.apply_updates(params, updates)
            return value, make(params), after

        value, masks, after = step(params)
        head = f"srste/{n}_{m}"
        np.testing.assert_allclose(value, file[f"{head}/loss"], rtol=1e-10)
        for layer, (decay, (decayed, moved)) in itertools.product((0, 1), after.items()):
            np.testing.assert_array_equal(masks[f"kernel{layer}"], file[f"{head}/mask{layer}"] != 0)
            found, expected = decayed[f"kernel{layer}"], file[f"{head}/decay{decay}/gradient{layer}"]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
            expected = file[f"{head}/decay{decay}/kernel{layer}_after_sgd_lr0.1"]
            np.testing.assert_allclose(moved[f"kernel{layer}"], expected, rtol=0, atol=1e-9)


def of_weights(arrays, head, params):
    """A tree like masks from arrays by name."""
    found = {name: jnp.asarray(array) for name, array in arrays.under(head).items()}
    return {name: None for name in params} | found


@needs_oracles
def test_edge_popup_is_the_references():
    arrays = Arrays("conv", "edge_popup_rare_gems")
    with jax.enable_x64(True):
        params, x, y = load("conv")
        scores = of_weights(arrays, "edge_popup/scores", params)

        @jax.jit
        @jax.value_and_grad
        def loss(scores, sparsity):
            return cross_entropy(NETWORKS["conv"](pruning.edge_popup(params, scores, sparsity), x), y)

        @jax.jit
        def masks(scores, sparsity):
            popped = pruning.edge_popup(params, scores, sparsity)
            return {name: popped[name] != 0 for name, leaf in scores.items() if leaf is not None}

        for keep in ("0.5", "0.1"):
            sparsity = 1 - float(keep)
            value, gradients = loss(scores, sparsity)
            np.testing.assert_allclose(value, arrays[f"edge_popup/keep{keep}/loss"], rtol=1e-10)
            for name, expected in arrays.under(f"score_gradient64/edge_popup/keep{keep}").items():
                np.testing.assert_allclose(
                    gradients[name], expected, rtol=0, atol=1e-9 * np.abs(expected).max()
                )
            first = {
                n: b for n, b in arrays.under(f"maskbits64/edge_popup/keep{keep}").items() if "/" not in n
            }
            later = arrays.under(f"maskbits64/edge_popup/keep{keep}/after_sgd_lr10")
            assert first
            assert later
            moved = jax.tree.map(lambda s, g: s - 10 * g, scores, gradients)
            for expected, found in ((first, masks(scores, sparsity)), (later, masks(moved, sparsity))):
                for name, bits in expected.items():
                    np.testing.assert_array_equal(np.packbits(np.asarray(found[name])), bits)


@needs_oracles
def test_rounded_gates_are_those_of_rare_gems():
    arrays = Arrays("conv", "edge_popup_rare_gems")
    with jax.enable_x64(True):
        params, x, y = load("conv")
        gates = of_weights(arrays, "rare_gems/p", params)
        gates = jax.tree.map(lambda p: jnp.clip(p, 0, 1), gates)
        flags = jax.tree.map(lambda flag: flag != 0, of_weights(arrays, "rare_gems/flag", params))

        def entropy(gates):
            return cross_entropy(NETWORKS["conv"](pruning.rounded_gates(params, gates, flags), x), y)

        def loss(gates):
            squares, loss = [jnp.sum(p**2) for p in jax.tree.leaves(gates)], entropy(gates)
            return loss + float(arrays["rare_gems/lambda"]) * sum(squares), loss

        gradients, found = jax.jit(jax.grad(loss, has_aux=True))(gates)
        np.testing.assert_allclose(found, arrays["rare_gems/cross_entropy"], rtol=1e-10)
        for name, expected in arrays.under("p_gradient64/rare_gems").items():
            np.testing.assert_allclose(
                gradients[name], expected, rtol=0, atol=1e-9 * np.abs(expected).max()
            )
        forward = pruning.rounded_gates(params, gates, flags)
        for name, bits in arrays.under("maskbits64/rare_gems/forward").items():
            np.testing.assert_array_equal(np.packbits(np.asarray(forward[name] != 0)), bits)


PARAMS = {"w": jnp.array([[3.0, jnp.nan]]), "b": jnp.array([2.0])}
MASKS = {"w": jnp.array([[True, False]]), "b": None}


def test_what_is_masked_is_exactly_zero_and_the_rest_learns_as_ever():
    masked = pruning.straight_through(PARAMS, MASKS)
    np.testing.assert_array_equal(masked["w"], [[3, 0]])
    loss = lambda params: jnp.sum(pruning.straight_through(params, MASKS)["w"] * params["b"][None])  # noqa: E731
    finite = PARAMS | {"w": jnp.array([[3.0, 5.0]])}
    np.testing.assert_array_equal(jax.grad(loss)(finite)["b"], [3])
    np.testing.assert_array_equal(jax.grad(loss)(finite)["w"], [[2, 2]])
    _, tangent = jax.jvp(loss, (finite,), (jax.tree.map(jnp.ones_like, finite),))  # Forward mode too.
    assert tangent == 2 + 2 + 3


@pytest.mark.parametrize(
    "call",
    [
        lambda masks: pruning.straight_through(PARAMS, masks),
        lambda masks: pruning.rounded_gates(PARAMS, {"w": jnp.ones((1, 2)), "b": None}, masks),
        lambda masks: pruning.decay_pruned(0.1, lambda _: masks).update(
            PARAMS, optax.EmptyState(), PARAMS
        ),
        lambda masks: pruning.edge_popup(PARAMS, {"w": jnp.ones((2, 2)), "b": None}, 0.5),
    ],
)
def test_masks_of_another_shape_are_refused(call):
    with pytest.raises(ValueError, match=r"\['w'\]"):
        call({"w": jnp.ones((2, 2), bool), "b": None})


def test_it_needs_the_params():
    with pytest.raises(ValueError, match="decay_pruned needs the params"):
        pruning.decay_pruned(0.1, lambda params: MASKS).update(PARAMS, optax.EmptyState())


def test_edge_popup_keeps_a_share_of_every_stacked_layer():
    scores = {"w": jax.random.normal(jax.random.key(0), (2, 8, 8)) * jnp.array([0.01, 1])[:, None, None]}
    ones = {"w": jnp.ones((2, 8, 8))}
    kept = pruning.edge_popup(ones, scores, 0.5, layout=pruning.stacked_layout())["w"]
    assert kept.sum(axis=(1, 2)).tolist() == [32, 32]


@pytest.mark.parametrize("gone", ["gates", "masks"])
def test_gates_and_masks_of_other_leaves_are_refused(gone):
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}
    trees = {"gates": jax.tree.map(jnp.ones_like, params), "masks": pruning.full_masks(params)}
    trees[gone]["b"] = None
    with pytest.raises(ValueError, match=r"\['b'\]"):
        pruning.rounded_gates(params, **trees)


def test_masks_and_gates_without_boxes_fit_params_in_boxes():
    """As those of nnx are."""
    bare = {"w": jnp.array([[1.0, -2.0, 3.0, 4.0]])}
    masks, gates = {"w": jnp.array([[True, True, False, True]])}, {"w": jnp.array([[0.9, 0.1, 0.8, 0.7]])}
    params = {"w": nnx.Param(bare["w"])}
    for make in (
        lambda params: pruning.straight_through(params, masks),
        lambda params: pruning.rounded_gates(params, gates, masks),
        lambda params: pruning.edge_popup(params, gates, 0.5),
        lambda params: pruning.apply_soft_masks(params, gates),
        lambda params: pruning.decay_pruned(0.5, lambda _: masks).update(params, (), params)[0],
    ):
        boxed, plain = make(params), make(bare)
        assert jax.tree.structure(boxed) == jax.tree.structure(params)
        np.testing.assert_array_equal(jax.tree.leaves(boxed)[0], plain["w"])


@pytest.mark.parametrize("decay", [-1.0, float("inf"), float("nan"), "x", [0.1]])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match="decay must be at least 0 and finite"):
        pruning.decay_pruned(decay, lambda params: MASKS)


def test_a_small_decay_of_a_short_weight_does_not_round_to_nothing():
    weight = jnp.full((1, 2), 1e-4, jnp.float16)
    masks = {"w": jnp.array([[True, False]])}
    tx = pruning.decay_pruned(2e-4, lambda _: masks)
    updates, _ = tx.update({"w": jnp.zeros((1, 2))}, tx.init(None), {"w": weight})
    np.testing.assert_allclose(updates["w"], [[0.0, 2e-4 * float(weight[0, 0])]], rtol=1e-6)


def test_scores_of_short_weights_learn_under_strict_promotion():
    weight, scores = {"w": jnp.ones((1, 2), jnp.float16)}, {"w": jnp.array([[1.0, 2.0]])}

    def loss(scores):
        return pruning.edge_popup(weight, scores, 0.5)["w"].astype(jnp.float32).sum()

    with jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(jax.grad(loss)(scores)["w"], [[1.0, 1.0]])
