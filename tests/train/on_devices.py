"""Trains small populations on 1, 2, 4 and 8 devices, and prints what comes out; run by test_devices.

XLA makes several devices of one CPU only before JAX starts, so this is a process of its own.
"""

import json

import jax
import numpy as np

from tests.train.test_population import dataset, hold, last, member
from train.members import in_turn, side_by_side
from train.models import make_model
from train.population import Population, stack_members
from train.recipes import Recipe

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.1, momentum=0.9, weight_decay=1e-3)
MODEL = make_model("lenet-300-100", num_classes=3)


POPULATIONS = (  # execution, devices, members, numbers of members that count
    (in_turn, 1, 5, (5,)),
    (in_turn, 2, 5, (5,)),
    (in_turn, 4, 8, (8,)),
    (in_turn, 8, 5, (5, 3)),
    (side_by_side, 4, 5, (5,)),
)


def trained(execute, devices, size, counts):
    """Metrics and weights of the members that count, and the members that each device has."""
    pop = Population(
        model=MODEL,
        dataset=dataset(),
        recipe=RECIPE,
        method=hold,
        execute=execute,
        devices=jax.local_devices()[:devices],
    )
    members = stack_members([member(pop, seed) for seed in range(size)])
    for count in counts:
        result = last(pop.train(members, size=count))
        leaves = [*jax.tree.leaves(result.metrics), *jax.tree.leaves(result.states.params)]
        found = {
            "values": [np.asarray(leaf)[:count].astype(float).tolist() for leaf in leaves],
            "compilations": pop.compilations,
            "programs": pop._epoch._cache_size(),
            "shards": [len(shard.data) for shard in leaves[-1].addressable_shards],
        }
        yield f"{execute.__name__}, {devices} devices, {count} of {size}", found


def main():
    """Prints one JSON object: the name of a run -> its results."""
    print(json.dumps({name: run for settings in POPULATIONS for name, run in trained(*settings)}))


if __name__ == "__main__":
    main()
