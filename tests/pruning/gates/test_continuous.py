"""Continuous Sparsification: the reference's trajectories, closed forms, and what must not overflow."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from tests.pruning.oracles import FOLDER, cross_entropy, needs_oracles

RUNS = ("0", "0.05", "neg0.1")
WEIGHTS = ("conv1.weight", "conv2.weight", "classifier.weight", "classifier.bias")
GATED = ("conv1", "conv2")


def network(params, x):
    """The oracle's: two convolutions, a mean over pixels, a linear layer."""
    for layer, stride in (("conv1.weight", 1), ("conv2.weight", 2)):
        x = jax.lax.conv_general_dilated(x, params[layer], (stride, stride), ((1, 1), (1, 1)))
        x = jax.nn.relu(x)
    logits = x.mean((2, 3)) @ params["classifier.weight"].T
    return logits + params["classifier.bias"][None]


def masked_loss(both, temperature, initial, penalty, x, y):
    soft = pruning.soft_masks(both.gates, temperature, initial=initial)
    entropy = cross_entropy(network(pruning.apply_soft_masks(both.params, soft), x), y)
    return entropy + penalty * pruning.gate_penalty(both.gates, temperature, initial=initial)


def load(name):
    with np.load(FOLDER / f"cs_s0_{name}.npz") as file:
        return {key: file[key] for key in file.files}


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-8, atol=1e-10)


@needs_oracles
@pytest.mark.parametrize("name", RUNS)
def test_trajectories_are_the_references(name):
    """20 steps with both optimizers: losses, gradients, weights and gates, the ticket, the next round."""
    run = load(name)
    initial, final, momentum = (float(run[key]) for key in ("s0", "final_temp", "momentum"))
    with jax.enable_x64(True):
        params = {weight: jnp.asarray(run[f"init/{weight}"]) for weight in WEIGHTS}
        gates = pruning.initial_gates(params, initial, prunable=lambda path, leaf: leaf.ndim == 4)
        both = pruning.SoftMasked(params, gates)
        decay = optax.add_decayed_weights(float(run["weight_decay"]))
        optimizer = pruning.soft_masked_optimizer(
            optax.chain(decay, optax.sgd(float(run["lr"]), momentum, nesterov=True)),
            optax.sgd(float(run["mask_lr"]), momentum, nesterov=True),
        )
        state = optimizer.init(both)
        temperature = pruning.temperature_schedule(final, steps=20)
        gradient = jax.jit(jax.value_and_grad(masked_loss))
        for step in range(20):
            close(temperature(step), run["temperature"][step])
            x, y = jnp.asarray(run["x"][step], jnp.float64), jnp.asarray(run["y"][step])
            loss, gradients = gradient(both, temperature(step), initial, float(run["lambda"]), x, y)
            close(loss, run["loss"][step])
            updates, state = optimizer.update(gradients, state, both)
            both = optax.apply_updates(both, updates)
            for weight in WEIGHTS:
                close(gradients.params[weight], run[f"grad/{weight}"][step])
                close(both.params[weight], run[f"param_after/{weight}"][step])
            for layer in GATED:
                close(gradients.gates[f"{layer}.weight"], run[f"grad/{layer}.mask_weight"][step])
                close(both.gates[f"{layer}.weight"], run[f"param_after/{layer}.mask_weight"][step])
        ticket = pruning.ticket_masks(both.gates)
        reset = pruning.next_round(both.gates, final, initial=initial)
        released = pruning.next_round_as_released(both.gates, initial=initial)
        for layer in GATED:
            found = np.asarray(ticket[f"{layer}.weight"])
            np.testing.assert_array_equal(found, run[f"hard_mask/{layer}"] > 0)
            close(reset[f"{layer}.weight"], run[f"logits_after_prune_tempfinal/{layer}"])
            close(released[f"{layer}.weight"], run[f"logits_after_prune_temp1/{layer}"])


@needs_oracles
@pytest.mark.parametrize("name", RUNS)
def test_tickets_compute_what_the_references_do(name):
    """The reference divides its hard masks by sigmoid(s0) as well."""
    run = load(name)
    with jax.enable_x64(True):
        gates = {
            weight: jnp.asarray(run[f"param_after/{weight.replace('weight', 'mask_weight')}"][-1])
            if weight.startswith("conv")
            else None
            for weight in WEIGHTS
        }
        hard = jax.tree.map(
            lambda mask: mask / jax.nn.sigmoid(jnp.float64(run["s0"])), pruning.ticket_masks(gates)
        )
        after = {weight: jnp.asarray(run[f"param_after/{weight}"][-1]) for weight in WEIGHTS}
        rewound = {weight: jnp.asarray(run[f"checkpoint/{weight}"]) for weight in WEIGHTS}
        x = jnp.asarray(run["x"][0], jnp.float64)
        for params, moment in ((after, "before"), (rewound, "after")):
            logits = network(pruning.apply_soft_masks(params, hard), x)
            expected = run[f"ticket_logits_{moment}_rewind"]
            np.testing.assert_allclose(np.asarray(logits), expected, atol=1e-7)


def test_soft_masks_by_hand():
    gates = {"w": jnp.array([[0.0, 0.5, -0.5]]), "b": None}
    soft = pruning.soft_masks(gates, 2.0, initial=0.5)
    expected = [0.5, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]
    np.testing.assert_allclose(soft["w"][0], np.multiply(expected, 1 + np.exp(-0.5)), rtol=1e-6)
    assert soft["b"] is None
    total = pruning.gate_penalty(gates, 2.0, initial=0.5)
    np.testing.assert_allclose(total, np.sum(soft["w"]), rtol=1e-6)


@pytest.mark.parametrize("initial", [-0.3, 0.0, 0.05, 4.0])
def test_a_network_at_initialization_is_the_dense_one(initial):
    params = {"w": jnp.array([[1.5, -2.5]]), "b": jnp.array([3.0])}
    gates = pruning.initial_gates(params, initial)
    masked = pruning.apply_soft_masks(params, pruning.soft_masks(gates, 1.0, initial=initial))
    np.testing.assert_allclose(masked["w"], params["w"], rtol=1e-6)
    np.testing.assert_array_equal(masked["b"], params["b"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("temperature", [200.0, 1e4, 1e30])
def test_nothing_overflows_at_high_temperatures(dtype, temperature):
    gates = {"w": jnp.array([[-30.0, -1e-3, 0.0, 1e-3, 30.0, 3e4]], dtype)}

    def total(gates):
        soft = pruning.soft_masks(gates, temperature, initial=-0.1)["w"]
        return jnp.sum(soft.astype(jnp.float32)) + pruning.gate_penalty(gates, temperature, initial=-0.1)

    value, gradient = jax.value_and_grad(total)(gates)
    assert jnp.isfinite(value)
    found = np.asarray(gradient["w"], np.float32)
    assert np.isfinite(np.delete(found, 2)).all()  # at 0 itself it is temperature / 4: inf in float16
    assert not np.isnan(found).any()
    soft = np.asarray(pruning.soft_masks(gates, temperature)["w"], np.float32)
    np.testing.assert_array_equal(soft[0, [0, 2, 4, 5]], [0, 1, 2, 2])


def test_the_penalty_of_many_bfloat16_gates_is_counted_in_float32():
    gates = pruning.initial_gates({"w": jnp.zeros((1001, 100), jnp.bfloat16)}, 0.0)
    assert pruning.gate_penalty(gates, 1.0) == 100_100


def test_the_penalty_counts_gates_of_two_dtypes_that_nothing_promotes():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        gates = {"a": jnp.zeros((2, 2), jnp.float64), "b": jnp.zeros((2, 3), jnp.float32)}
        penalty = pruning.gate_penalty(gates, 1.0)
    assert (penalty.item(), penalty.dtype) == (10, jnp.float64)


def test_the_next_round_keeps_closed_what_was_closed():
    """The released reset opens a weakly pruned gate again; the paper's does not."""
    gates = {"w": jnp.array([[-0.01, 0.4]])}
    reset = pruning.next_round(gates, 200.0, initial=0.1)
    released = pruning.next_round_as_released(gates, initial=0.1)
    np.testing.assert_allclose(reset["w"], [[-2.0, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(released["w"], [[-0.01, 0.1]], rtol=1e-6)
    assert pruning.soft_masks(reset, 1.0)["w"][0, 0] < 0.25
    assert pruning.soft_masks(released, 1.0)["w"][0, 0] > 0.99


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_many_rounds_and_high_temperatures_keep_gates_finite(dtype):
    gates = {"w": jnp.array([[-1.0, 0.0, 1.0]], dtype)}
    for _ in range(25):
        gates = pruning.next_round(gates, 1e5, initial=0.05)
    found = np.asarray(gates["w"], np.float32)[0]
    assert found[0] == np.float32(jnp.finfo(dtype).min)
    np.testing.assert_allclose(found[1:], [0, 0.05], rtol=1e-2)


def test_the_final_temperature_may_be_traced():
    finals = jnp.array([10.0, 1000.0])
    found = jax.vmap(lambda final: pruning.temperature_schedule(final, steps=3)(1))(finals)
    np.testing.assert_allclose(found, finals**0.5, rtol=1e-5)


def test_the_penalty_does_not_overflow_where_a_soft_mask_does():
    gates = pruning.initial_gates({"w": jnp.zeros((4, 4), jnp.float16)}, 0.0)
    assert jnp.isfinite(pruning.gate_penalty(gates, 1.0, initial=-14.0))


def test_the_temperature_is_constant_within_an_epoch_and_stays_at_its_end():
    schedule = pruning.temperature_schedule(200.0, steps=10, constant_for=4)  # epochs of 4, 4 and 2
    found = [float(schedule(step)) for step in (0, 3, 4, 7, 8, 9, 10, 99)]
    middle = 200**0.5
    np.testing.assert_allclose(found, [1, 1, middle, middle, 200, 200, 200, 200], rtol=1e-5)
    assert jax.jit(schedule)(jnp.int32(4)) == schedule(4)


def test_weights_decay_and_gates_do_not():
    both = pruning.SoftMasked({"w": jnp.ones((1, 1))}, {"w": jnp.ones((1, 1))})
    optimizer = pruning.soft_masked_optimizer(
        optax.chain(optax.add_decayed_weights(0.5), optax.sgd(1.0)), optax.sgd(1.0)
    )
    zero = jax.tree.map(jnp.zeros_like, both)
    updates, _ = optimizer.update(zero, optimizer.init(both), both)
    assert updates.params["w"] == -0.5
    assert updates.gates["w"] == 0


W = {"w": jnp.ones((1, 2))}
TREE = "expected masks with the structure of the params"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pruning.soft_masks(W, 0.0), "a finite temperature > 0, got 0.0"),
        (lambda: pruning.soft_masks(W, "200"), "a finite temperature > 0, got '200'"),
        (lambda: pruning.soft_masks(W, 1.0, initial=None), "initial value of the gates"),
        (lambda: pruning.soft_masks(W, float("nan")), "a finite temperature > 0, got nan"),
        (lambda: pruning.gate_penalty(W, -1.0), "a finite temperature > 0, got -1.0"),
        (lambda: pruning.next_round(W, 0.0), "a finite temperature > 0"),
        (lambda: pruning.temperature_schedule(0.0, steps=5), "a finite temperature > 0"),
        (lambda: pruning.temperature_schedule(9.0, steps=1), "at least two temperatures, got 1 steps"),
        (lambda: pruning.temperature_schedule(9.0, steps=5, constant_for=5), "at least two temperatures"),
        (lambda: pruning.temperature_schedule(9.0, steps=5, constant_for=0), "constant_for >= 1"),
        (lambda: pruning.temperature_schedule(9.0, steps="5"), "steps >= 1, a whole number, got '5'"),
        (lambda: pruning.initial_gates(W, float("inf")), "initial value of the gates"),
        (lambda: pruning.initial_gates(W, -100.0), "of at least -80"),
        (lambda: pruning.soft_masks(W, 1.0, initial=float("nan")), "initial value of the gates"),
        (lambda: pruning.initial_gates({"b": jnp.ones(3)}, 0.0), "prunable"),
        (
            lambda: pruning.initial_gates({"t": jnp.ones((2, 2), int)}, -0.9, prunable=lambda *_: True),
            r"float weights at \['t'\], got int32",
        ),
        (
            lambda: pruning.temperature_schedule(jnp.bfloat16(200), steps=5),
            "expected final in Python numbers",
        ),
        (lambda: pruning.apply_soft_masks(W, {"v": W["w"]}), TREE),
        (lambda: pruning.apply_soft_masks(W, {"w": jnp.ones((2, 2))}), r"shape \(1, 2\) at \['w'\]"),
        (lambda: pruning.ticket_masks({"w": jnp.array([[jnp.nan]])}), r"NaN at \['w'\]"),
        (lambda: pruning.gate_penalty({"w": None}, 1.0), "a tree with gates"),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gates_that_start_a_dead_network_are_warned_of():
    with pytest.warns(UserWarning, match="gates that start at -5 close before they can rise"):
        pruning.initial_gates(W, -5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruning.initial_gates(W, -0.3)
