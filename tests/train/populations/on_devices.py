"""Trains small populations on 1, 2, 4 and 8 devices, and prints what comes out; run by test_devices.

XLA makes several devices of one CPU only before JAX starts, so this is a process of its own.
"""

import dataclasses
import json
import sys

import flax.linen as nn
import jax
import numpy as np

from experiments.benchmarks.reading import KINDS
from tests.compilations import compiled_programs
from tests.train.populations.test_population import dataset, hold, last, member
from train.data.datasets import Split
from train.data.stored_images import StoredImages
from train.lowering import LOWERINGS, lowered
from train.models import make_model
from train.models.initializers import KAIMING_NORMAL, ONES
from train.models.layers import global_average_pool, make_conv, make_norm
from train.populations.capacity import members_that_fit
from train.populations.devices import device_mesh
from train.populations.members import in_turn, side_by_side
from train.populations.population import Population, stack_members
from train.recipes import Recipe

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.1, momentum=0.9, weight_decay=1e-3)


class Convolutional(nn.Module):
    """Two convolutions, one strided, with normalised batches."""

    @nn.compact
    def __call__(self, images, *, train=False):
        conv, norm = make_conv(KAIMING_NORMAL, None), make_norm(ONES, None, train=train)
        x = nn.relu(norm("bn1")(conv(4, 3, name="conv1")(images)))
        x = nn.relu(norm("bn2")(conv(8, 3, 2, name="conv2")(x)))
        return nn.Dense(3)(global_average_pool(x))


MODELS = {"dense": make_model("lenet-300-100", num_classes=3), "convolutional": Convolutional()}

POPULATIONS = (  # model, execution, devices, of them for each member, members, numbers that count
    ("dense", in_turn, 1, 1, 8, (8,)),
    ("dense", in_turn, 8, 1, 5, (5, 3)),
    ("dense", side_by_side, 4, 1, 8, (8, 5)),
    ("convolutional", in_turn, 1, 1, 3, (3,)),
    ("convolutional", side_by_side, 8, 4, 3, (3, 1)),
    ("convolutional", in_turn, 4, 2, 3, (3,)),
)
FEW = POPULATIONS[:2]
STREAMED = (("dense", in_turn, 4, 2, 3, (3,)),)


def streamed(whole):
    """The same data set, with images that are read while it trains."""

    def stored(split):
        images, labels = split
        records = [{"image": i, "label": label} for i, label in zip(images, labels, strict=True)]
        places, shape = np.arange(len(labels)), images.shape[1:]
        return Split(
            StoredImages(records=records, places=places, image_shape=shape, read_error=ValueError), labels
        )

    return dataclasses.replace(whole, train=stored(whole.train), test=stored(whole.test))


def trained(data, model, execute, devices, per_member, size, counts):
    """Metrics and weights of the members that count, and the members that each device has."""
    pop = Population(
        model=MODELS[model],
        dataset=data,
        recipe=RECIPE,
        method=hold,
        execute=execute,
        mesh=device_mesh(jax.local_devices()[:devices], devices_per_member=per_member),
    )
    members = stack_members([member(pop, seed) for seed in range(size)])
    programs = 0
    for count in counts:
        with compiled_programs() as names:
            result = last(pop.train(members, size=count))
        programs += names.count("_train_members")
        leaves = [*jax.tree.leaves(result.metrics), *jax.tree.leaves(result.states.params)]
        yield {
            "values": [np.asarray(leaf)[:count].astype(float).tolist() for leaf in leaves],
            "fit": members_that_fit(pop, member(pop, 0), most=4, free=2**30),
            "compilations": pop.compilations,
            "programs": programs,
            "shards": [len(shard.data) for shard in leaves[-1].addressable_shards],
        }


def collectives(per_member, name):
    """What the devices of a program of two tell each other, computed in one of the ways."""
    mesh = device_mesh(jax.local_devices()[:2], devices_per_member=per_member)
    with lowered(LOWERINGS[name]):
        pop = Population(
            model=MODELS["convolutional"], dataset=dataset(), recipe=RECIPE, method=hold, mesh=mesh
        )
        members = stack_members([member(pop, seed) for seed in range(2)])
        text = pop.lower(members).compile().as_text()
    return [kind for kind in KINDS if f" {kind}" in text]


def runs(data, populations, place=""):
    """The name of a run -> its results."""
    found = {}
    for settings in populations:
        model, execute, devices, per_member, size, counts = settings
        for count, run in zip(counts, trained(data, *settings), strict=True):
            how = f"{execute.__name__}, {devices} devices, {per_member} each"
            found[f"{model}, {how}, {count} of {size}{place}"] = run
    return found


def main(what):
    """Prints one JSON object, of the two populations that compile fast or of all there is."""
    whole = dataset()
    if what == "few":
        found = runs(whole, FEW)
    else:
        found = runs(whole, POPULATIONS) | runs(streamed(whole), STREAMED, ", streamed")
        found["collectives"] = {
            name: {str(each): collectives(each, name) for each in (1, 2)}
            for name in ("accelerator", "tpu")
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
