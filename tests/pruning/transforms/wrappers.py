"""The optimizers and wrappers around a transformation that must keep pruned weights at zero.

Each entry puts ``last`` where docs/optimizers.md says, for the params {"w": matrix, "b": vector}. The
entries of ``WRAPPERS`` take any gradients; those of ``OTHERS`` are the rest of the table, each trained
with what it needs.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

import pruning


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


@dataclass(frozen=True)
class Other:
    """A row of the table.

    Attributes:
        make: Puts the pruning transformation into the optimizer.
        copies: Makes the params that it trains of the network's.
        networks: All copies of the network in those params, the one that is differentiated first.
        extra: What ``update`` needs besides, from the loss, its value and its gradient.
        gradient: The gradients that ``update`` takes.
    """

    make: Callable[[Any], Any]
    copies: Callable[[Any], Any] = lambda params: params
    networks: Callable[[Any], tuple] = lambda params: (params,)
    extra: Callable[[Any, Any, Any], dict] = lambda loss, value, gradient: {}
    gradient: Callable[[Any], Any] = lambda gradient: gradient


def _after(optimizer, **knobs):
    return Other(lambda last: optax.chain(optimizer, last), **knobs)


def _value(loss, value, gradient):
    return {"value": value}


def _search(loss, value, gradient):
    return {"value": value, "grad": gradient, "value_fn": loss}


def _per_example(gradient):
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), gradient)


def _ascent():
    return optax.chain(contrib.normalize(), optax.sgd(0.05))


def _even(step):
    return step % 2 == 0


LABELS = {"w": "train", "b": "freeze"}
OTHERS = {
    "lion": _after(optax.lion(0.01)),
    "lamb": _after(optax.lamb(0.01)),
    "lars": _after(optax.lars(0.1)),
    "adafactor": _after(optax.adafactor(0.01)),
    "noisy_sgd": _after(optax.noisy_sgd(0.01, key=0)),
    "rprop": _after(optax.rprop(0.01)),
    "muon": _after(contrib.muon(0.01)),
    "galore": _after(contrib.galore(0.01, rank=2)),
    "prodigy": _after(contrib.prodigy(1.0)),
    "dadapt_adamw": _after(contrib.dadapt_adamw(1.0)),
    "dog": _after(contrib.dog(1.0)),
    "dowg": _after(contrib.dowg(1.0)),
    "cocob": _after(contrib.cocob()),
    "polyak_sgd": _after(optax.polyak_sgd(0.1), extra=_value),
    "momo": _after(contrib.momo(0.1), extra=_value),
    "momo_adam": _after(contrib.momo_adam(0.01), extra=_value),
    "reduce_on_plateau": _after(
        optax.chain(optax.adam(0.1), contrib.reduce_on_plateau(patience=1)), extra=_value
    ),
    "adaptive_grad_clip": _after(optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1))),
    "ema": _after(optax.chain(optax.sgd(0.1), optax.ema(0.9))),
    "apply_every": _after(optax.chain(optax.adam(0.1), optax.apply_every(2))),
    "keep_params_nonnegative": _after(optax.chain(optax.adam(0.1), optax.keep_params_nonnegative())),
    "differentially_private_aggregate": _after(
        optax.chain(
            contrib.differentially_private_aggregate(1.0, 0.1, jax.random.key(0)), optax.sgd(0.1)
        ),
        gradient=_per_example,
    ),
    "flatten": _after(optax.flatten(optax.adam(0.1))),
    "split_real_and_imaginary": _after(contrib.split_real_and_imaginary(optax.adam(0.1))),
    "inside split_real_and_imaginary": Other(
        lambda last: contrib.split_real_and_imaginary(optax.chain(optax.adam(0.1), last))
    ),
    "conditionally_transform": _after(optax.conditionally_transform(optax.adam(0.1), _even)),
    "conditionally_mask": Other(
        lambda last: optax.conditionally_mask(optax.chain(optax.adam(0.1), last), _even)
    ),
    "selective_transform": Other(
        lambda last: optax.selective_transform(
            optax.chain(optax.adam(0.1), last), freeze_mask={"w": False, "b": True}
        )
    ),
    "multi_transform": Other(
        lambda last: optax.multi_transform(
            {"train": optax.chain(optax.adam(0.1), last), "freeze": optax.set_to_zero()}, LABELS
        )
    ),
    "lookahead": Other(
        lambda last: pruning.hold_outside(optax.lookahead(optax.chain(optax.adam(0.1), last), 3, 0.5)),
        copies=optax.LookaheadParams.init_synced,
        networks=lambda params: (params.fast, params.slow),
    ),
    "schedule_free": _after(contrib.schedule_free(optax.sgd(0.1), 0.1)),
    "inside schedule_free": Other(
        lambda last: pruning.hold_outside(contrib.schedule_free(optax.chain(optax.sgd(0.1), last), 0.1))
    ),
    "sam": _after(contrib.sam(optax.adam(0.1), _ascent())),
    "inside sam": Other(
        lambda last: pruning.hold_outside(contrib.sam(optax.chain(optax.adam(0.1), last), _ascent()))
    ),
    "opaque sam": _after(
        contrib.sam(optax.adam(0.1), _ascent(), opaque_mode=True),
        extra=lambda loss, value, gradient: {"grad_fn": lambda params, _: jax.grad(loss)(params)},
    ),
    "mechanize": _after(contrib.mechanize(optax.adam(1.0))),
    "inside mechanize": Other(
        lambda last: pruning.hold_outside(contrib.mechanize(optax.chain(optax.adam(1.0), last)))
    ),
    "lbfgs": _after(optax.lbfgs(), extra=_search),
    "scale_by_backtracking_linesearch": _after(
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(8)), extra=_search
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


def training(row, last, params, loss, steps):
    """All copies of the network, the masks and the loss after each step of training masked networks."""
    tx = row.make(last)

    def step(carry, _):
        params, state = carry
        masks = pruning.get_masks(state)

        def masked_loss(network):
            return loss(pruning.apply_masks(network, masks))

        network = row.networks(params)[0]
        value, gradient = jax.value_and_grad(masked_loss)(network)
        extra = row.extra(masked_loss, value, gradient)
        updates, state = tx.update(row.gradient(gradient), state, params, **extra)
        params = optax.apply_updates(params, updates)
        seen = row.networks(params), pruning.get_masks(state), loss(row.networks(params)[0])
        return (params, state), seen

    start = row.copies(params)
    return jax.lax.scan(step, (start, tx.init(start)), length=steps)[1]
