"""What operations do to a signal: units that it does not reach stay silent, and nothing stops it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pruning

ONES = jnp.ones((1, 2))


def through(function, masks=None, **others):
    """Which of `last` is effective, in input @ first -> function -> @ last.

    The signal reaches unit 0 of two and not unit 1, which has a bias to be confused by.
    """
    masks = masks or {"first": jnp.array([[True, False], [True, False]]), "last": jnp.ones((2, 2), bool)}
    params = {**jax.tree.map(lambda mask: jnp.ones(mask.shape), masks), "bias": ONES[0], **others}

    def output_fn(p):
        return function(ONES @ p["first"] + p["bias"][None], p) @ p["last"]

    found = pruning.effective_masks(output_fn, params, {**masks, "bias": None, **dict.fromkeys(others)})
    return [*found["first"].any(0).tolist()], [*found["last"].any(1).tolist()]


FIRST_ALONE = [True, False], [True, False]
BOTH = [True, False], [True, True]


def normalised_over_the_batch(x):
    mean, variance = x.mean(0, keepdims=True), x.var(0, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5)


def printed(x):
    jax.debug.print("{}", x)
    return x


def many_steps(x):
    for _ in range(20):
        x = jnp.square(x)
    for _ in range(20):
        x = jnp.sinh(8 * jnp.sqrt(x))
    return x


PASSING = {
    "relu": jax.nn.relu,
    "relu by where": lambda x: jnp.where(x > 0, x, 0),
    "relu6": jax.nn.relu6,
    "clip": lambda x: jnp.clip(x, 0, 1),
    "clamp": lambda x: lax.clamp(-0.1, x, 0.1),
    "threshold above one": lambda x: jnp.maximum(x, 3.0),
    "leaky relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "hard silu": jax.nn.hard_silu,
    "tanh": jnp.tanh,
    "hard tanh": jax.nn.hard_tanh,
    "soft sign": jax.nn.soft_sign,
    "square": jnp.square,
    "power": lambda x: x**3,
    "minus": lambda x: -x,
    "absolute": jnp.abs,
    "logarithm": lambda x: jnp.log1p(x),
    "root": jnp.sqrt,
    "reciprocal of a constant": lambda x: x / 3.0,
    "straight through": lambda x: x + lax.stop_gradient(jnp.round(x) - x),
    "ratio of likes": lambda x: x / x,
    "two thresholds": lambda x: jnp.minimum(jnp.maximum(x, -0.1), 0.1),
    "no gradient": lax.stop_gradient,
    "lower precision": lambda x: x.astype(jnp.bfloat16).astype(jnp.float32),
    "no slope, by where": lambda x: jnp.where(x > 0, 1.0, 0.0),
    "no slope, sign": jnp.sign,
    "no slope, round": jnp.round,
    "a fixed choice, whose filling is no signal": lambda x: jnp.where(jnp.array([[True, False]]), x, 7.0),
    "normalisation over the batch": normalised_over_the_batch,
    "printing": printed,
    "many steps, which neither overflow nor vanish": many_steps,
}


@pytest.mark.parametrize("name", PASSING)
def test_what_is_zero_at_zero_passes_what_arrives(name):
    assert through(lambda x, p: PASSING[name](x)) == FIRST_ALONE


LEARNED = {
    "stored statistics": (
        lambda x, p: (x - jnp.zeros((1, 2))) * (lax.rsqrt(ONES + 1e-5) * p["scale"]) + p["shift"],
        {"scale": jnp.zeros((1, 2)), "shift": -ONES},
    ),
    "statistics as params, which may have any value": (
        lambda x, p: (x - p["mean"]) / jnp.sqrt(p["var"] + 1e-5) * (1.0 + p["scale"]) + 2 * p["shift"],
        dict.fromkeys(("mean", "var", "scale", "shift"), jnp.full((1, 2), 3.0)),
    ),
    "folded normalisation": (
        lambda x, p: x * p["scale"] + (p["shift"] - p["mean"] * p["scale"]),
        dict.fromkeys(("scale", "shift", "mean"), ONES),
    ),
    "clip": (lambda x, p: jnp.clip(x, p["low"], p["high"]), {"low": ONES, "high": ONES}),
    "clamp": (lambda x, p: lax.clamp(p["low"], x, p["high"]), {"low": ONES, "high": ONES}),
    "threshold": (lambda x, p: jnp.where(x > 1, x, p["low"]), {"low": ONES}),
}


@pytest.mark.parametrize(("function", "learned"), LEARNED.values(), ids=LEARNED)
def test_learned_numbers_start_no_path(function, learned):
    assert through(function, **learned) == FIRST_ALONE


MAXIMA = {
    "reduce": lambda x: jnp.stack([x, x[:, ::-1]]).max(0),
    "least": lambda x: jnp.stack([x, x[:, ::-1]]).min(0),
    "of two": lambda x: jnp.maximum(x, x[:, ::-1]),
    "least of two": lambda x: jnp.minimum(x, x[:, ::-1]),
    "least in window": lambda x: lax.reduce_window(x, jnp.inf, lax.min, (1, 2), (1, 1), [(0, 0), (1, 0)]),
    "cumulative": lambda x: lax.cummax(x, 1),
    "reverse cumulative": lambda x: lax.cummin(x[:, ::-1], 1, reverse=True)[:, ::-1],
}
CONNECTING = {
    # What is not zero at zero feeds what follows.
    "sigmoid": jax.nn.sigmoid,
    "exp": jnp.exp,
    "log": jnp.log,
    "plus one": lambda x: x + ONES,
    # A maximum may choose any entry, a choice by a signal go either way.
    **MAXIMA,
    "a threshold of a larger shape": lambda x: jnp.maximum(x.sum(), jnp.zeros((1, 2))),
    "a choice by a signal": lambda x: jnp.where(x > 1, x, x[:, ::-1]),
    # A number that depends on all entries brings the signal to each: the second unit is its bias alone.
    "argmax": lambda x: x * jnp.argmax(x),
    # What mixes entries brings the signal to each and cancels none.
    "normalisation over the features": lambda x: x - x.mean(1, keepdims=True),
    "fft": lambda x: jnp.fft.fft(x).real,
    "rfft": lambda x: jnp.fft.irfft(jnp.fft.rfft(x), 2),
    "cosines": jax.scipy.fft.dct,
    "sorting": lambda x: jnp.sort(x, axis=-1),
    "the largest": lambda x: lax.top_k(x, 2)[0],
    "sums so far": lambda x: jnp.cumsum(x, axis=-1),
    "a matrix of both signs": lambda x: x @ jnp.array([[1.0, 1.0], [1.0, -1.0]]),
    "linear equations": lambda x: jnp.linalg.solve(jnp.array([[2.0, 1.0], [1.0, 3.0]]), x.T).T,
}


@pytest.mark.parametrize("name", CONNECTING)
def test_what_connects_units(name):
    """The signal of unit 0 arrives at both."""
    assert through(lambda x, p: CONNECTING[name](x)) == BOTH


WINDOWS = {
    "window": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 1), "SAME") + x,
    "padded": lambda x: lax.pad(x, -jnp.inf, ((0, 0, 0), (1, 0, 0)))[:, :2] + x,
}


@pytest.mark.parametrize("name", MAXIMA | WINDOWS)
def test_every_entry_under_a_maximum_has_a_path(name):
    masks = {"first": jnp.ones((2, 2), bool), "last": jnp.ones((2, 2), bool)}
    assert through(lambda x, p: (MAXIMA | WINDOWS)[name](x), masks) == ([True, True], [True, True])


def test_padding_and_filling_are_no_signals():
    one = {"first": jnp.array([[True], [True]]), "last": jnp.ones((2, 1), bool)}
    padded = through(lambda x, p: lax.pad(x, -jnp.inf, ((0, 0, 0), (1, 0, 0))), one, bias=jnp.ones(1))
    assert padded == ([True], [False, True])
    left = jnp.array([[True, False]])
    assert through(lambda x, p: jnp.where(left, 7.0, x)) == ([False, False], [False, False])


def test_a_low_rank_change_of_a_kernel_is_followed():
    params = {"w": jnp.ones((4, 3)), "a": jnp.ones((4, 2)), "b": jnp.ones((2, 3))}
    full = pruning.full_masks(params, prunable=pruning.prunable_by_shape)

    def output_fn(p):
        return jnp.ones((1, 4)) @ (p["w"] + p["a"] @ p["b"])

    assert pruning.sparsity(pruning.effective_masks(output_fn, params, full)) == 0


def test_signs_and_shares_do_not_cancel():
    negative, opposite = jnp.array([[-1.0, -1.0]]), jnp.array([[1.0], [-1.0]])
    masks = {"first": jnp.ones((2, 2), bool), "last": jnp.ones((2, 1), bool)}
    for function in (
        lambda x, p: (x - x) + negative * x,
        lambda x, p: x / (x + 0.1),
        lambda x, p: (x @ opposite) * x,
        lambda x, p: x @ (opposite @ jnp.ones((1, 2))),
    ):
        assert through(function, masks) == ([True, True], [True, True])


def test_a_closed_gate_is_no_wall():
    """A squeezed gate whose weights are all pruned is sigmoid(0), not zero."""
    masks = {
        "first": jnp.array([[True, False]] * 2),
        "last": jnp.ones((2, 2), bool),
        "gate": jnp.zeros((2, 2), bool),
    }
    assert through(lambda x, p: x * jax.nn.sigmoid(x @ p["gate"]), masks) == FIRST_ALONE


def test_weights_made_of_weights_are_weights():
    """A kernel with a gain, in parts, joined: still a kernel and not a signal."""
    other = {"more": jnp.ones((2, 1)), "gain": jnp.zeros(())}

    def joined(x, p):
        kernel = jnp.concatenate([p["more"], p["more"]], axis=1)
        return x * (kernel * jnp.exp(p["gain"]))[:1] + p["bias"][None] * 0.1 + jnp.sum(p["more"])

    assert through(joined, **other) == FIRST_ALONE


def test_embeddings_are_inputs_through_weights():
    """Tokens 0 and 2 are looked up and skip a layer that has nothing kept."""
    masks = {
        "table": jnp.array([[True, False], [True, True], [True, False]]),
        "layer": jnp.zeros((2, 2), bool),
        "place": jnp.array([[True, True], [False, True]]),
        "last": jnp.ones((2, 1), bool),
    }
    params = jax.tree.map(lambda mask: jnp.ones(mask.shape), masks)

    def output_fn(p):
        x = p["table"][jnp.array([0, 2])] + p["place"]
        return (x + jax.nn.relu(x @ p["layer"])) @ p["last"]

    found = jax.tree.map(np.asarray, pruning.effective_masks(output_fn, params, masks))
    assert found["table"].tolist() == [[True, False], [False, False], [True, False]]
    assert found["place"].tolist() == [[True, False], [False, False]]
    assert found["last"].tolist() == [[True], [False]]
    assert not found["layer"].any()


@pytest.mark.slow
def test_attention_without_queries_still_attends():
    kept, none = jnp.ones((2, 2), bool), jnp.zeros((2, 2), bool)
    x = jnp.ones((3, 2))

    def output_fn(p):
        weights = jax.nn.softmax(x @ p["query"] @ (x @ p["key"]).T)
        return weights @ (x @ p["value"])

    def found(**masks):
        params = jax.tree.map(lambda mask: jnp.ones(mask.shape), masks)
        effective = pruning.effective_masks(output_fn, params, masks)
        return {name for name, mask in effective.items() if mask.any()}

    assert found(query=kept, key=kept, value=kept) == {"query", "key", "value"}
    assert found(query=none, key=kept, value=kept) == {"value"}
    assert found(query=kept, key=kept, value=none) == set()
