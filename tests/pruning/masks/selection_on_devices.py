"""Makes masks of params that are divided over devices; run by test_selection_on_devices.

XLA makes several devices of one CPU only before JAX starts, so this is a process of its own.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import pruning

KEY = jax.random.key(0)
NORMAL = np.random.default_rng(0).normal
WHOLE = {
    "columns": NORMAL(size=(32, 64)).astype(np.float32),
    "channels": NORMAL(size=(3, 3, 16, 32)).astype(np.float32),
    "tied rows": np.random.default_rng(1).integers(-3, 4, (64, 32)).astype(np.float32),
}
SPECS = {
    "columns": PartitionSpec(None, "d"),
    "channels": PartitionSpec(None, None, None, "d"),
    "tied rows": PartitionSpec("d", None),
}


def halved(params):
    return pruning.global_masks(pruning.magnitude_scores(params), 0.5)


SELECTIONS = {
    "global_masks": halved,
    "layerwise_masks": lambda p: pruning.layerwise_masks(
        pruning.magnitude_scores(p), pruning.uniform(p, 0.5)
    ),
    "iterative_masks": lambda p: pruning.iterative_masks(pruning.magnitude_scores, p, 0.5, rounds=2),
    "prune_remaining": lambda p: pruning.prune_remaining(
        pruning.magnitude_scores(p), pruning.full_masks(p), 0.2
    ),
}


def diagonal(params):
    """Of a loss whose Hessian is 2 times the unit matrix."""
    squares = lambda p, _: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))  # noqa: E731
    return pruning.hutchinson_diagonal(KEY, squares, params, np.ones((1, 1)), probes=1)


OTHERS = {
    "hutchinson_diagonal": diagonal,
    "full_masks": pruning.full_masks,
    "initial_gates": lambda p: pruning.initial_gates(p, 0.5),
    "apply_masks": lambda p: pruning.apply_masks(p, pruning.full_masks(p)),
    "random_masks": lambda p: pruning.random_masks(KEY, p, 0.5, allocation=pruning.erdos_renyi_kernel),
    "shuffle_masks": lambda p: pruning.shuffle_masks(KEY, halved(p)),
    "mutate_masks": lambda p: pruning.mutate_masks(KEY, halved(p), 0.2),
    "crossover_masks": lambda p: pruning.crossover_masks(KEY, halved(p), pruning.full_masks(p)),
}


def equal(found, expected):
    return jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), found, expected))


def largest_exchange(compiled):
    """The most numbers that any collective operation of a compiled program hands over."""
    operation = r"= (\S+) (?:all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter)\("
    shapes = [re.findall(r"\[([\d,]*)\]", found) for found in re.findall(operation, compiled.as_text())]
    sizes = [np.prod([int(n) for n in shape.split(",") if n]) for one in shapes for shape in one]
    return int(max(sizes, default=0))


def lies_as(masks, params):
    return all(
        mask.sharding.is_equivalent_to(params[name].sharding, mask.ndim) for name, mask in masks.items()
    )


def on_mesh(function, expected, kind):
    mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(kind,))
    params = {k: jax.device_put(v, NamedSharding(mesh, SPECS[k])) for k, v in WHOLE.items()}
    eager = function(params)
    found = {"eager": equal(eager, expected), "lies as the params": lies_as(eager, params)}
    with jax.set_mesh(mesh):
        program = jax.jit(function).lower(params).compile()
        compiled = program(params)
        found["compiled"] = equal(compiled, expected)
        if kind is AxisType.Explicit:  # else XLA is free to choose
            found["compiled lies as the params"] = lies_as(compiled, params)
        if function in SELECTIONS.values():
            found["in the mesh's context"] = equal(function(params), expected)
    return found, largest_exchange(program)


def mapped(function, expected):
    """Inside ``jax.shard_map``, on values that vary over the mesh: each device its own network."""
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("d",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("d")
    stacked = {name: np.stack([leaf] * devices) for name, leaf in WHOLE.items()}

    def one(params):
        found = function(jax.tree.map(lambda leaf: leaf[0], params))
        return jax.tree.map(lambda leaf: leaf[None], found)

    found = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=spec, out_specs=spec))(stacked)
    return all(equal(jax.tree.map(lambda leaf, i=i: leaf[i], found), expected) for i in range(devices))


def main(part):
    """Prints what is right, for each function of a slice and kind of mesh, and the largest exchanges."""
    found, exchanges = {}, {}
    for name, function in [*SELECTIONS.items(), *OTHERS.items()][part]:
        expected = jax.jit(function)(WHOLE)
        for kind in (AxisType.Auto, AxisType.Explicit):
            found[f"{name}, {kind.name}"], exchange = on_mesh(function, expected, kind)
            if name in SELECTIONS:
                exchanges[f"{name}, {kind.name}"] = exchange
        found[f"{name}, shard_map"] = {"equal": mapped(function, expected)}
    print(json.dumps({"right": found, "exchanges": exchanges}))


if __name__ == "__main__":
    main(slice(*map(int, sys.argv[1:])))
