"""The optimizers and wrappers around a transformation that must keep pruned weights at zero.

Each entry puts `last` at the end of an optimizer for the params {"w": matrix, "b": vector}.
"""

import functools

import jax
import optax


def _sgd(**knobs):
    return lambda last: optax.chain(optax.sgd(0.1, **knobs), last)


def _injected(last):
    adamw = optax.inject_hyperparams(functools.partial(optax.adamw, mask=None))
    return optax.chain(adamw(learning_rate=0.1, weight_decay=0.1), last)


def _scheduled(last):
    return optax.chain(optax.adam(optax.cosine_decay_schedule(0.1, 12)), last)


def _named(last):
    return optax.named_chain(("clip", optax.clip(1.0)), ("adam", optax.adam(0.1)), ("last", last))


def _nested(last):
    return optax.chain(
        optax.clip(1.0), optax.chain(optax.trace(0.9), optax.chain(optax.scale(-0.1), last))
    )


WRAPPERS = {
    "sgd": _sgd(),
    "momentum": _sgd(momentum=0.9),
    "nesterov": _sgd(momentum=0.9, nesterov=True),
    "adam": lambda last: optax.chain(optax.adam(0.1), last),
    "adamw": lambda last: optax.chain(optax.adamw(0.1, weight_decay=0.1), last),
    "rmsprop": lambda last: optax.chain(optax.rmsprop(0.1, momentum=0.9), last),
    "schedule": _scheduled,
    "inject_hyperparams": _injected,
    "apply_if_finite": lambda last: optax.apply_if_finite(optax.chain(optax.adam(0.1), last), 3),
    "multi_steps": lambda last: optax.MultiSteps(
        optax.chain(optax.adam(0.1), last), 2
    ).gradient_transformation(),
    "after_multi_steps": lambda last: optax.chain(
        optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(), last
    ),
    "named_chain": _named,
    "nested_chain": _nested,
    "masked": lambda last: optax.masked(
        optax.chain(optax.adamw(0.1, weight_decay=0.1), last), {"w": True, "b": False}
    ),
    "partition": lambda last: optax.partition(
        {"slow": optax.sgd(0.01), "fast": optax.chain(optax.adam(0.1), last)}, {"w": "fast", "b": "slow"}
    ),
}


def trajectory(tx, params, gradients, masks_of):
    """Params and masks after each step, shapes (T, ...); `gradients` are stacked, a step a row."""

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, masks_of(state))

    return jax.lax.scan(step, (params, tx.init(params)), gradients)[1]
