"""Trains params that are divided over devices; run by test_transformations_on_devices.

XLA makes several devices of one CPU only before JAX starts, so this is a process of its own.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import pruning
from tests.compilations import compiled_programs

STEPS = 3
WHOLE = {
    "w": np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32),
    "b": np.ones(4, np.float32),
}
MASKS = {"w": WHOLE["w"] > 0, "b": None}
SPECS = {"w": PartitionSpec("d", None), "b": PartitionSpec()}

ALONE = {
    "hold_masks": lambda: pruning.hold_masks(MASKS),
    "dissipate": lambda: pruning.dissipate(0.1, check_every=2, stop_after=4),
    "dissipate from masks": lambda: pruning.dissipate(0.1, check_every=2, stop_after=4, masks=MASKS),
    "dissipate_settled": lambda: pruning.dissipate_settled(0.1, check_every=2, stop_after=4),
    "accumulate_gradients": pruning.accumulate_gradients,
    "accumulate_signed_gradients": pruning.accumulate_signed_gradients,
}
RANKING = {
    "dissipate_to": lambda: pruning.dissipate_to([0.25, 0.5], check_every=1),
    "gradual_magnitude": lambda: pruning.gradual_magnitude([0.25, 0.5], check_every=1),
    "gradual_magnitude by layer": lambda: pruning.gradual_magnitude(
        [0.25, 0.5], check_every=1, allocation=pruning.uniform
    ),
}


def trained(tx, params):
    """The state and params after some steps, and the programs that these compiled."""

    def step(params, state):
        updates = jax.tree.map(lambda leaf: leaf * leaf * 0.1, params)
        updates, state = tx.update(updates, state, params)
        return optax.apply_updates(params, updates), state

    first = state = tx.init(params)
    step = jax.jit(step)
    with compiled_programs() as names:
        for _ in range(STEPS):
            params, state = step(params, state)
    return first, (params, state), names.count("step")


def lies_as_the_params(state, mesh):
    """Whether matrices lie as the kernel does, and scalars on all devices."""
    expected = {2: SPECS["w"], 1: SPECS["b"], 0: PartitionSpec()}
    return all(
        leaf.sharding.is_equivalent_to(NamedSharding(mesh, expected[leaf.ndim]), leaf.ndim)
        for leaf in jax.tree.leaves(state)
    )


def equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def divided(make, expected, kind, context):
    mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(kind,))
    params = {k: jax.device_put(v, NamedSharding(mesh, SPECS[k])) for k, v in WHOLE.items()}
    with jax.set_mesh(mesh) if context else jax.enable_x64(False):
        first, last, compiled = trained(make(), params)
    return {
        "lies at first": lies_as_the_params(first, mesh),
        "lies at last": lies_as_the_params(last, mesh),
        "compiled once": compiled == 1,
        "equal": equal(last, expected),
    }


def mapped(make):
    """Inside ``jax.shard_map``, on values that vary over the mesh: each device its own network."""
    mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(AxisType.Auto,))
    rows = len(WHOLE["w"]) // jax.device_count()
    part = {"w": jnp.array(MASKS["w"][:rows]), "b": None}

    def network(w):
        params = {"w": w, "b": jnp.ones(4)}
        tx = pruning.hold_masks(part) if make is ALONE["hold_masks"] else make()
        if make is ALONE["dissipate from masks"]:
            tx = pruning.dissipate(0.1, check_every=2, stop_after=4, masks=part)
        state = tx.init(params)
        for _ in range(STEPS):
            updates, state = tx.update(jax.tree.map(lambda p: p * p * 0.1, params), state, params)
            params = optax.apply_updates(params, updates)
        return params["w"]

    spec = PartitionSpec("d", None)
    found = jax.jit(jax.shard_map(network, mesh=mesh, in_specs=spec, out_specs=spec))(WHOLE["w"])
    alone = jax.jit(network)
    return equal(found, np.concatenate([alone(w) for w in np.split(WHOLE["w"], jax.device_count())]))


def main(groups):
    found = {}
    for name, make in groups.items():
        _, expected, _ = trained(make(), jax.tree.map(jnp.asarray, WHOLE))
        for kind in (AxisType.Auto, AxisType.Explicit):
            for context in (False, True):
                where = f"{name}, {kind.name}, {'set_mesh' if context else 'no set_mesh'}"
                found[where] = divided(make, expected, kind, context)
        found[f"{name}, shard_map"] = {"equal": mapped(make)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(ALONE | RANKING)
