"""Programs as experiments run them, made from shapes, for devices that need not be at hand.

To add one: a function ``(place, ...)`` that returns a ``Lowerable``, and its name in ``PROGRAMS``.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.benchmarks.masks import SENSITIVITIES, search, synflow_masks
from experiments.benchmarks.populations import RECIPE, make_network
from experiments.benchmarks.sizes import CONV, LENET, MLP, RESNET, VGG, ImageShape, Sizes
from experiments.engine.stage import MOST_VMAPPED
from experiments.methods.dissipating import DISSIPATING
from experiments.methods.gated import SOFT, Gated
from experiments.methods.programs import STATIC, Program
from experiments.methods.study import Study
from experiments.options.knobs import Knobs
from experiments.options.training import Grid
from train.data.datasets import Dataset, Split
from train.data.stored_images import StoredImages
from train.models import param_shapes
from train.named_recipes import RECIPES
from train.populations.capacity import free_bytes, members_that_fit
from train.populations.devices import device_mesh, shapes_on_every_device
from train.populations.members import in_turn, map_members
from train.populations.population import Member, Population, stack_members
from train.recipes import Recipe, build_model

WIDE, DEEP = "wide-resnet-28-10", "resnet-50"
DIVIDED = f"train-{RESNET}-divided-batches"
"""Every batch divided over all devices."""


class Place(NamedTuple):
    """What programs are compiled for.

    Attributes:
        devices: The devices that share a program.
        memory: The bytes that each has; None for what is free on those at hand.
        sizes: The sizes of batches, searches and selections, and how many networks there are at most.
    """

    devices: list[Any]
    memory: int | None
    sizes: Sizes


class Lowerable(NamedTuple):
    """A program that waits to be compiled.

    Attributes:
        lower: Gives the program to the compiler.
        networks: The number of networks that it trains or scores.
        step: A single training step of them: a compiler estimates the time of no loop over steps.
    """

    lower: Callable[[], jax.stages.Lowered]
    networks: int = 1
    step: Callable[[], jax.stages.Lowered] | None = None


class Trained(NamedTuple):
    """A data set's shapes and the recipe of its networks."""

    recipe: str
    image: ImageShape
    train: int
    test: int
    classes: int = 10


MNIST = Trained("assessed-lenet", (28, 28, 1), 60_000, 10_000)
CIFAR = Trained("assessed-cifar", (32, 32, 3), 50_000, 10_000)
IMAGENET = Trained("assessed-imagenet", (224, 224, 3), 1_281_167, 50_000, 1000)
"""Too large to lie on a device: its program is that of a block of steps."""
SETS = {
    MLP: MNIST,
    LENET: MNIST,
    CONV: CIFAR._replace(recipe="lottery-conv-2"),
    RESNET: CIFAR,
    VGG: CIFAR,
    WIDE: CIFAR,
    DEEP: IMAGENET,
}


def training(
    place: Place,
    model: str,
    *,
    program: Program = STATIC,
    data: Any = (),
    execute: Callable[..., Any] = map_members,
    dtype: str = "float32",
    together: bool = False,
) -> Lowerable:
    """An epoch of as many networks as train together by default, on each device or on all together."""
    shapes = SETS[model]
    recipe = replace(RECIPES[shapes.recipe], compute_dtype=dtype)
    made, study = build_model(model, recipe, num_classes=shapes.classes), _study(recipe, shapes)
    population = Population(
        model=made,
        dataset=_dataset(shapes),
        recipe=recipe,
        method=program.method(study, param_shapes(made, shapes.image)),
        reparametrization=program.reparametrization(study),
        execute=execute,
        mesh=device_mesh(place.devices, devices_per_member=len(place.devices) if together else 1),
    )
    key, zero = jax.random.key(0), jnp.float32(0)
    member = Member(key, key, zero, zero, data)
    most = 1 if together else len(place.devices) * place.sizes.together(MOST_VMAPPED)
    free = free_bytes(place.devices[0]) if place.memory is None else place.memory
    size = members_that_fit(population, member, most=most, free=free)
    members = jax.eval_shape(lambda: stack_members([member] * size))
    return Lowerable(lambda: population.lower(members), size, lambda: population.lower_step(members))


def dissipating(place: Place, model: str) -> Lowerable:
    """The same with weights that dissipate, to five sparsities one after another."""
    return training(place, model, program=DISSIPATING, data=jnp.linspace(0.1, 0.9, 5))


def gated(place: Place, model: str) -> Lowerable:
    """The same with a gate beside every weight."""
    numbers = (jnp.float32(value) for value in (0.0, 1e-8, 0.1, 1.0))
    return training(place, model, program=SOFT, data=Gated(*numbers))


def sensitivity(place: Place, method: str, model: str) -> Lowerable:
    """A score of one batch, and the exact selection by it."""
    network, (scores, _) = (
        make_network(model, SETS[model].image, place.sizes.batch),
        SENSITIVITIES[method],
    )

    def masks(params: Any, images: jax.Array) -> Any:
        return pruning.global_masks(scores(network.loss, params, [images]), 0.9)

    return _on_each_device(place, masks, network.params, network.images)


def synflow(place: Place, model: str) -> Lowerable:
    """All rounds of SynFlow."""
    network = make_network(model, SETS[model].image, 1)
    masks = partial(synflow_masks, network, jnp.ones_like(network.images), place.sizes.rounds)
    return _on_each_device(place, masks, network.params)


def selection(place: Place) -> Lowerable:
    """The exact selection among all weights of a large network."""
    scores = {"w": jax.ShapeDtypeStruct((place.sizes.selected // 1000, 1000), jnp.float32)}
    return _on_each_device(place, lambda scores: pruning.global_masks(scores, 0.9), scores)


def k_starts(place: Place, k: int) -> Lowerable:
    """A whole search of K-starts among candidates of LeNet-300-100."""
    k = place.sizes.together(k)
    network = make_network(MLP, SETS[MLP].image, RECIPE.batch_size)
    find = search(network, k, steps=place.sizes.search_steps, chunk_size=None)
    return _on_each_device(place, find, jax.random.key(0))._replace(networks=k)


def _on_each_device(place: Place, function: Callable[..., Any], *arguments: Any) -> Lowerable:
    """What every device computes by itself."""
    mesh = device_mesh(place.devices)
    placed = shapes_on_every_device(jax.eval_shape(lambda: arguments), mesh)
    return Lowerable(lambda: jax.jit(function).lower(*placed))


def _dataset(shapes: Trained) -> Dataset:
    def split(size: int) -> Split:
        labels: Any = jax.ShapeDtypeStruct((size,), jnp.int32)
        if shapes is not IMAGENET:
            return Split(jax.ShapeDtypeStruct((size, *shapes.image), jnp.uint8), labels)
        places = np.zeros(size, np.int32)
        images = StoredImages(
            records=(), places=places, image_shape=shapes.image, read_error=lambda place, _: ValueError()
        )
        return Split(images, labels)

    channels = shapes.image[-1]
    return Dataset(
        name="shapes",
        train=split(shapes.train),
        test=split(shapes.test),
        num_classes=shapes.classes,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


def _study(recipe: Recipe, shapes: Trained) -> Study:
    return Study(
        recipe=recipe,
        steps_per_epoch=recipe.steps_per_epoch(shapes.train),
        knobs=Knobs(),
        prune_epochs=1,
        gate_learning_rate=recipe.learning_rate,
        grid=Grid(),
    )


_FAMILIES = (MLP, LENET, CONV, RESNET, VGG, WIDE)
_CONVOLUTIONAL = (LENET, CONV, RESNET, VGG)

PROGRAMS: dict[str, Callable[[Place], Lowerable]] = {
    **{f"train-{model}": partial(training, model=model) for model in _FAMILIES},
    DIVIDED: partial(training, model=RESNET, together=True),
    f"train-{DEEP}-bfloat16": partial(training, model=DEEP, dtype="bfloat16", together=True),
    f"train-{MLP}-dissipating": partial(dissipating, model=MLP),
    f"train-{MLP}-gated": partial(gated, model=MLP),
    **{
        f"train-{model}-in-turn": partial(training, model=model, execute=in_turn)
        for model in _CONVOLUTIONAL
    },
    **{
        f"scores-{name}-{RESNET}": partial(sensitivity, method=name, model=RESNET)
        for name in ("snip", "grasp")
    },
    **{
        f"scores-{name}-{VGG}": partial(sensitivity, method=name, model=VGG) for name in ("snip", "grasp")
    },
    f"synflow-{VGG}": partial(synflow, model=VGG),
    "selection": selection,
    "k-starts-256": partial(k_starts, k=256),
}
