"""The rows of ``experiments.benchmarks``: each does the same work in two ways.

To add a row: write a function that returns a ``Comparison`` and name it in ``ROWS``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.soft_programs import Gated, continuous_sparsification, gated_optimizer
from train.augment import normalise
from train.data import Dataset, Split
from train.evaluation import apply_model
from train.members import in_turn, map_members, side_by_side
from train.models import make_model
from train.population import EpochResult, Member, Population, stack_members
from train.recipes import RECIPES, make_optimizer


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row: two ways of doing the same work.

    Attributes:
        ours: Does the work once and waits for it.
        theirs: Does the same work the other way and waits for it.
        against: What the other way is.
        unit: What the work is counted in.
        amount: How many units one call does.
    """

    ours: Callable[[], None]
    theirs: Callable[[], None]
    against: str
    unit: str
    amount: int


def training(model_name: str, image_shape: tuple[int, int, int], steps: int) -> Comparison:
    """Training steps of a masked population member against a plain Flax and optax loop.

    The plain loop is what most code does: one jitted step a Python iteration, the batch indexed on
    the host, the mask applied to the params after the update. Network, batches of 128, optimizer and
    mask are the same. The population's epoch also shuffles and evaluates one batch.

    Args:
        model_name: A name in ``train.models.MODELS``.
        image_shape: Height, width, channels of synthetic images.
        steps: Training steps in one call.

    Returns:
        The comparison.
    """
    population = synthetic_population(model_name, image_shape, steps, map_members)
    recipe, dataset, model = population.recipe, population.dataset, population.model
    rng = np.random.default_rng(0)
    key = jax.random.key(0)
    initial = population.initial_params(key)
    masks = pruning.random_masks(key, initial, 0.9)
    epochs = endless_epochs(population, 1)

    def ours() -> None:
        jax.block_until_ready(next(epochs).metrics)

    optimizer = make_optimizer(recipe, recipe.learning_rate, 0.0, steps)

    @jax.jit
    def plain_step(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            images_in = normalise(images, dataset.mean, dataset.std)
            logits = jnp.asarray(model.apply({"params": params}, images_in))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return pruning.apply_masks(optax.apply_updates(params, updates), masks), state

    def theirs() -> None:
        params, state = initial, optimizer.init(initial)
        order = rng.permutation(len(dataset.train.labels)).reshape(steps, -1)
        for batch in order:
            params, state = plain_step(
                params, state, dataset.train.images[batch], dataset.train.labels[batch]
            )
        jax.block_until_ready(params)

    return Comparison(
        ours=ours,
        theirs=theirs,
        against="a plain Flax + optax loop",
        unit="training steps",
        amount=steps,
    )


def execution(model_name: str, image_shape: tuple[int, int, int], members: int, steps: int) -> Comparison:
    """Members one after another inside one program against members vmapped.

    Args:
        model_name: A name in ``train.models.MODELS``.
        image_shape: Height, width, channels of synthetic images.
        members: How many train together.
        steps: Training steps of each in one call.

    Returns:
        The comparison.
    """
    in_turns, vmapped = (
        endless_epochs(synthetic_population(model_name, image_shape, steps, execute), members)
        for execute in (in_turn, side_by_side)
    )
    return Comparison(
        ours=lambda: jax.block_until_ready(next(in_turns).metrics),
        theirs=lambda: jax.block_until_ready(next(vmapped).metrics),
        against="the members vmapped",
        unit="training steps of a member",
        amount=members * steps,
    )


def parallel_search(
    model_name: str, image_shape: tuple[int, int, int], starts: int, steps: int
) -> Comparison:
    """Continuous Sparsification from several starts of the gates in one population, or one by one.

    Args:
        model_name: A name in ``train.models.MODELS``.
        image_shape: Height, width, channels of synthetic images.
        starts: How many.
        steps: Training steps of each in one call.

    Returns:
        The comparison.
    """
    plain = synthetic_population(model_name, image_shape, steps, map_members)
    recipe = plain.recipe
    population = replace(
        plain,
        method=gated_optimizer(recipe, steps_per_epoch=steps),
        reparametrization=continuous_sparsification(200.0, epochs=recipe.epochs, steps_per_epoch=steps),
    )
    key, rate = jax.random.key(0), jnp.float32(recipe.learning_rate)
    members = [
        Member(key, key, rate, jnp.float32(0), Gated(start, jnp.float32(1e-8), rate, jnp.float32(1)))
        for start in jnp.linspace(-0.1, 0.0, starts)
    ]
    together = population.train(stack_members(members), epochs=10_000)
    alone = [population.train(stack_members([member]), epochs=10_000) for member in members]

    def one_by_one() -> None:
        for search in alone:
            jax.block_until_ready(next(search).metrics)

    return Comparison(
        ours=lambda: jax.block_until_ready(next(together).metrics),
        theirs=one_by_one,
        against="the starts one by one",
        unit="training steps of a start",
        amount=starts * steps,
    )


def selection(size: int) -> Comparison:
    """Exact global selection against a full argsort.

    Args:
        size: How many scores.

    Returns:
        The comparison.
    """
    scores = {"kernel": jax.random.normal(jax.random.key(0), (size // 1000, 1000))}
    select = jax.jit(lambda scores: pruning.global_masks(scores, 0.9))
    sort = jax.jit(lambda scores: jnp.argsort(scores["kernel"].ravel()))
    return Comparison(
        ours=lambda: jax.block_until_ready(select(scores)),
        theirs=lambda: jax.block_until_ready(sort(scores)),
        against="a full argsort",
        unit="million scores",
        amount=size // 1_000_000,
    )


def synflow(model_name: str, image_shape: tuple[int, int, int], rounds: int, dtype: str) -> Comparison:
    """SynFlow in one compiled loop against as many forward and backward passes of the same input.

    A round is such a pass, and the masking, scoring and exact selection of every weight.

    Args:
        model_name: A name in ``train.models``.
        image_shape: Height, width, channels of the input of ones.
        rounds: How many.
        dtype: Of weights and scores; float64 is computed under ``jax.enable_x64``.

    Returns:
        The comparison.
    """
    wide = dtype == "float64"
    with jax.enable_x64(wide):
        model = make_model(model_name, num_classes=10)
        ones = jnp.ones((1, *image_shape), dtype)
        variables = jax.jit(model.init)(jax.random.key(0), ones)
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
        params, stats = variables["params"], variables.get("batch_stats", {})

    def output(params: Any) -> jax.Array:
        return apply_model(model, params, stats, ones, train=False)[0]

    prune = jax.jit(
        lambda params: pruning.iterative_masks(
            lambda masked: pruning.synflow_scores(output, masked), params, 0.99, rounds=rounds
        )
    )
    differentiate = jax.jit(jax.value_and_grad(lambda params: jnp.sum(output(params))))

    def ours() -> None:
        with jax.enable_x64(wide):
            jax.block_until_ready(prune(params))

    def theirs() -> None:
        with jax.enable_x64(wide):
            for _ in range(rounds):
                jax.block_until_ready(differentiate(params))

    return Comparison(
        ours=ours,
        theirs=theirs,
        against="forward and backward passes alone",
        unit="rounds",
        amount=rounds,
    )


def synthetic_population(
    model_name: str, image_shape: tuple[int, int, int], steps: int, execute: Callable[..., Any]
) -> Population:
    """A population whose members hold a mask, on synthetic images.

    Args:
        model_name: A name in ``train.models.MODELS``.
        image_shape: Height, width, channels.
        steps: Training steps in an epoch.
        execute: How its members are executed.

    Returns:
        The population; its test split is one batch.
    """
    recipe = RECIPES["assessed-lenet"]
    rng = np.random.default_rng(0)

    def split(size: int) -> Split:
        images = rng.integers(0, 256, (size, *image_shape), np.uint8)
        return Split(images, rng.integers(0, 10, size).astype(np.int32))

    channels = image_shape[-1]
    return Population(
        model=make_model(model_name, num_classes=10),
        dataset=Dataset(
            name="synthetic",
            train=split(steps * recipe.batch_size),
            test=split(recipe.batch_size),
            num_classes=10,
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
        ),
        recipe=recipe,
        method=lambda optimizer, masks: optax.chain(optimizer, pruning.hold_masks(masks)),
        execute=execute,
    )


def endless_epochs(population: Population, members: int) -> Iterator[EpochResult]:
    """Many epochs of one start: what is measured is an epoch, not the start of a run.

    Args:
        population: From ``synthetic_population``.
        members: How many train; all alike.

    Returns:
        An iterator over epochs.
    """
    key = jax.random.key(0)
    masks = pruning.random_masks(key, population.initial_params(key), 0.9)
    rates = (jnp.float32(population.recipe.learning_rate), jnp.float32(0))
    one = Member(key, key, *rates, masks)
    return population.train(stack_members([one] * members), epochs=10_000)


ROWS: dict[str, Callable[[], Comparison]] = {
    "train-lenet-300-100": lambda: training("lenet-300-100", (28, 28, 1), 200),
    "train-lenet-5": lambda: training("lenet-5", (28, 28, 1), 20),
    "train-conv-2": lambda: training("conv-2", (32, 32, 3), 4),
    "members-lenet-300-100": lambda: execution("lenet-300-100", (28, 28, 1), 8, 100),
    "members-lenet-5": lambda: execution("lenet-5", (28, 28, 1), 4, 4),
    "parallel-search-lenet-300-100": lambda: parallel_search("lenet-300-100", (28, 28, 1), 8, 50),
    "selection": lambda: selection(25_000_000),
    "synflow-vgg-16": lambda: synflow("vgg-16", (32, 32, 3), 100, "float32"),
    "synflow-vgg-16-float64": lambda: synflow("vgg-16", (32, 32, 3), 100, "float64"),
}
