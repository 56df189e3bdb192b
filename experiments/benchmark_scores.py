"""Benchmark rows of scores, selection and K-starts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.benchmark_comparison import Comparison
from experiments.benchmark_populations import ImageShape
from train.evaluation import apply_model, cross_entropy
from train.models import make_model

SCORES: dict[str, Callable[..., Any]] = {
    "snip": pruning.snip_scores,
    "grasp": pruning.grasp_scores,
}


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
        bytes=5e6,  # a score is read, a byte of mask written
    )


def sensitivity(method: str, model_name: str, image_shape: ImageShape, batch: int) -> Comparison:
    """Scores of one batch against one forward and backward pass of it.

    Args:
        method: A name in ``SCORES``.
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of random images.
        batch: How many.

    Returns:
        The comparison.
    """
    model = make_model(model_name, num_classes=10)
    images = jax.random.normal(jax.random.key(1), (batch, *image_shape))
    labels = jnp.arange(batch) % 10
    variables = jax.jit(model.init)(jax.random.key(0), images)
    params, stats = variables["params"], variables.get("batch_stats", {})

    def loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = apply_model(model, params, stats, batch[0], train=True)[0]
        return cross_entropy(logits, batch[1]).mean()

    score = jax.jit(lambda params: SCORES[method](loss, params, [(images, labels)]))
    differentiate = jax.jit(lambda params: jax.value_and_grad(loss)(params, (images, labels)))
    return Comparison(
        ours=lambda: jax.block_until_ready(score(params)),
        theirs=lambda: jax.block_until_ready(differentiate(params)),
        against="one forward and backward pass",
        unit="batches",
        amount=1,
    )


def synflow(model_name: str, image_shape: ImageShape, rounds: int, dtype: str) -> Comparison:
    """SynFlow in one compiled loop against as many forward and backward passes of the same input.

    A round is such a pass, and the masking, scoring and exact selection of every weight.

    Args:
        model_name: A name of ``train.models``.
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


def candidates(k: int, steps: int) -> Comparison:
    """K-starts with k candidates of LeNet-300-100 against k searches with one.

    Args:
        k: Candidates.
        steps: Training steps of each.

    Returns:
        The comparison.
    """
    model = make_model("lenet-300-100", num_classes=10)
    images = jax.random.normal(jax.random.key(1), (128, 28, 28, 1))
    labels = jnp.arange(128) % 10
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]

    def loss(params: Any) -> jax.Array:
        return cross_entropy(apply_model(model, params, {}, images, train=True)[0], labels).mean()

    def train(params: Any, masks: Any) -> tuple[Any, Any]:
        held = pruning.accumulate_gradients(), optax.sgd(0.1), pruning.hold_masks(masks)
        optimizer = optax.chain(*held)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
        return params, optax.tree.get(state, "gradient_sums")

    def search(k: int) -> Callable[[jax.Array], Any]:
        return jax.jit(
            lambda key: (
                pruning.k_starts(
                    key, params, train, k=k, sparsity=0.9, fitness=pruning.combined_fitness
                ).winner
            )
        )

    together, alone = search(k), search(1)

    def one_by_one() -> None:
        for key in jax.random.split(jax.random.key(2), k):
            alone(key).block_until_ready()

    return Comparison(
        ours=lambda: jax.block_until_ready(together(jax.random.key(2))),
        theirs=one_by_one,
        against="searches with one candidate",
        unit="candidates",
        amount=k,
    )
