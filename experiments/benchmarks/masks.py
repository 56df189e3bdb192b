"""Rows of what finds masks: selection, scores, K-starts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.benchmarks import pytorch
from experiments.benchmarks.measuring import Row, agreement, compile_anew, temporary_bytes
from experiments.benchmarks.populations import RECIPE, Network, make_network, training_flops
from experiments.benchmarks.sizes import MLP, Sizes
from experiments.engine.timing import Work, alternating, tree_bytes, waiting
from train.evaluation import batch_statistics

SYNFLOW_SPARSITY = 0.99
Other = tuple[Work, str]
"""Another way than a row's own, and what it is."""
PROSPR_STEPS = 3
SENSITIVITIES = {
    "snip": (pruning.snip_scores, 1),
    "grasp": (pruning.grasp_scores, 3),
    # The same batch in every step, and in the loss after them.
    "prospr": (
        lambda loss, params, batches: pruning.prospr_scores(
            loss, params, (PROSPR_STEPS + 1) * batches, learning_rate=0.1
        ),
        PROSPR_STEPS + 1 + 2 * PROSPR_STEPS,
    ),
}
"""Scores of one batch, and their products of a layer in forward and backward passes, which have three. A
gradient is one pass; its own gradient has two products for each of its three, beside them."""
IN_TORCH = {"snip": pytorch.snip_scores, "grasp": pytorch.grasp_scores}


def selection(sizes: Sizes) -> Row:
    """Exact global selection, checked against a stable sort on the host, against a full argsort."""
    size, pruned = sizes.selected, pruning.pruned_count(0.9, sizes.selected)
    scores = jax.random.normal(jax.random.key(0), (size // 1000, 1000))
    select, _ = compile_anew(jax.jit(lambda all: pruning.global_masks({"w": all}, 0.9)["w"]), scores)
    sort = jax.jit(lambda scores: jnp.argsort(scores.ravel(), stable=True))
    for checked in (scores, jnp.round(scores * 64) / 64):  # The latter have many ties.
        # From the end: of equal scores the last one goes first.
        order = size - 1 - np.argsort(np.asarray(checked).ravel()[::-1], kind="stable")
        kept = np.zeros(size, bool)
        kept[order[pruned:]] = True
        agreement(select(checked).ravel(), kept)
    return Row(
        alternating(waiting(select, scores), waiting(sort, scores)),
        against="a full argsort",
        unit="million scores",
        amount=size / 1e6,
        bytes=5e6,  # a score is read, a byte of mask written
        facts={"temporaries / scores": temporary_bytes(select) / (4 * size)},
    )


def n_m_selection(sizes: Sizes) -> Row:
    """Selecting 2 of every 4 weights along the inputs, against as many of all."""
    scores = {"w": jax.random.normal(jax.random.key(0), (1000, sizes.selected // 1000))}
    select, _ = compile_anew(jax.jit(lambda scores: pruning.n_m_masks(scores, 2, 4)), scores)
    global_masks = jax.jit(lambda scores: pruning.global_masks(scores, 0.5))
    return Row(
        alternating(waiting(select, scores), waiting(global_masks, scores)),
        against="the selection of as many without groups",
        unit="million scores",
        amount=sizes.selected / 1e6,
        bytes=5e6,
        facts={"temporaries / scores": temporary_bytes(select) / (4 * sizes.selected)},
    )


def path_exclusion(sizes: Sizes, model_name: str) -> Row:
    """A round of PX's scores of one batch, against one forward and backward pass of it."""
    network = make_network(model_name, sizes.shapes[model_name], sizes.batch)

    def score(params: Any) -> Any:
        def of(params: Any, inputs: Any, activation: Any) -> jax.Array:
            other = network._replace(model=network.model.clone(activation=activation))
            return other.logits(params, inputs, train=False)

        return pruning.path_exclusion_scores(of, params, [network.images])

    return _against_one_pass(score, network)


def ntk_sap(sizes: Sizes, model_name: str) -> Row:
    """A draw of NTK-SAP with its batch statistics, against one forward and backward pass of a batch."""
    network = make_network(model_name, sizes.shapes[model_name], sizes.batch)

    def score(params: Any) -> Any:
        return pruning.ntk_sap_scores(
            jax.random.key(3),
            lambda key: network.model.init(key, network.images[:1])["params"],
            lambda params, inputs, stats: network._replace(stats=stats).logits(
                params, inputs, train=False
            ),
            network.images,
            pruning.full_masks(params),
            statistics_fn=lambda p, inputs: batch_statistics(network.model, p, network.stats, inputs),
        )

    return _against_one_pass(score, network)


def _against_one_pass(score: Callable[[Any], Any], network: Network) -> Row:
    compiled, seconds = compile_anew(jax.jit(score), network.params)
    one_pass = waiting(jax.jit(jax.value_and_grad(network.loss)), network.params, network.images)
    ours = waiting(compiled, network.params)
    facts = {"seconds to compile": seconds}
    return Row(alternating(ours, one_pass), "one forward and backward pass", "batches", facts=facts)


def sensitivity(sizes: Sizes, method: str, model_name: str, other: Other | None = None) -> Row:
    """Scores of one batch, against one forward and backward pass of it."""
    (scores, passes), shape = SENSITIVITIES[method], sizes.shapes[model_name]
    network = make_network(model_name, shape, sizes.batch)
    params, images = network.params, network.images
    score, seconds = compile_anew(jax.jit(lambda p: scores(network.loss, p, [images])), params)
    one_pass = waiting(jax.jit(jax.value_and_grad(network.loss)), params, images)
    theirs, against = other or (one_pass, "one forward and backward pass")
    facts, flops = (
        {"seconds to compile": seconds},
        passes * training_flops(model_name, shape, sizes.batch),
    )
    return Row(alternating(waiting(score, params), theirs), against, "batches", flops=flops, facts=facts)


def sensitivity_against_torch(sizes: Sizes, method: str, model_name: str) -> Row:
    """Scores of one batch, against the same in plain PyTorch."""
    theirs = pytorch.batch_scores(sizes, model_name, IN_TORCH[method])
    return sensitivity(sizes, method, model_name, (theirs, "the same in plain PyTorch"))


def synflow(sizes: Sizes, model_name: str, dtype: str = "float32", other: Other | None = None) -> Row:
    """SynFlow in one compiled loop, against as many forward and backward passes of its input of ones.

    A round is such a pass, and the masking, scoring and exact selection of every weight. Weights and
    scores in float64 are computed under ``jax.enable_x64``.
    """
    rounds, shape = sizes.rounds, sizes.shapes[model_name]
    wide = partial(jax.enable_x64, dtype == "float64")
    with wide():
        network = make_network(model_name, shape, 1)
        arrays = network.params, network.stats, jnp.ones_like(network.images)
        params, stats, ones = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), arrays)

    network = network._replace(stats=stats)
    with wide():
        prune, seconds = compile_anew(jax.jit(partial(synflow_masks, network, ones, rounds)), params)
    differentiate = jax.jit(
        jax.value_and_grad(lambda params: jnp.sum(network.logits(params, ones, train=False)))
    )

    def ours() -> None:
        with wide():
            jax.block_until_ready(prune(params))

    def passes() -> None:
        with wide():
            for _ in range(rounds):
                jax.block_until_ready(differentiate(params))

    theirs, against = other or (passes, "forward and backward passes alone")
    flops, facts = training_flops(model_name, shape, 1), {"seconds to compile": seconds}
    return Row(alternating(ours, theirs), against, "rounds", rounds, flops=flops, facts=facts)


def synflow_masks(network: Network, ones: jax.Array, rounds: int, params: Any) -> Any:
    """The masks of SynFlow from an input of ones; statistics are used as they are, 0 and 1 at first."""
    score = partial(pruning.synflow_scores, lambda params: network.logits(params, ones, train=False))
    return pruning.iterative_masks(score, params, SYNFLOW_SPARSITY, rounds=rounds)


def synflow_against_torch(sizes: Sizes, model_name: str) -> Row:
    """SynFlow in float32, against the same rounds in plain PyTorch, selection included."""
    theirs = pytorch.synflow_rounds(sizes, model_name, SYNFLOW_SPARSITY)
    return synflow(sizes, model_name, other=(theirs, "the same in plain PyTorch"))


def candidates(sizes: Sizes, k: int, chunk_size: int | None = None) -> Row:
    """K-starts with k candidates of LeNet-300-100, against k searches with one.

    The facts are the bytes that the whole search holds at most, that its training does by itself, and
    that the candidates leave: their masks, weights and sums.
    """
    k, steps, shape = sizes.together(k), sizes.search_steps, sizes.shapes[MLP]
    network = make_network(MLP, shape, RECIPE.batch_size)
    params, train = network.params, partial(_train_candidate, network, steps)
    key = jax.random.key(2)
    together, seconds = compile_anew(jax.jit(search(network, k, steps, chunk_size)), key)
    alone, _ = compile_anew(jax.jit(search(network, 1, steps, None)), key)

    def one_by_one() -> None:
        for one in jax.random.split(key, k):
            jax.block_until_ready(alone(one))

    masks = jax.eval_shape(lambda: pruning.candidate_masks(key, params, k=k, sparsity=0.9))
    train_all = partial(pruning.train_candidates, train, params, chunk_size=chunk_size)
    training, _ = compile_anew(jax.jit(train_all), masks)
    return Row(
        alternating(waiting(together, key), one_by_one),
        against="searches with one candidate",
        unit="candidates",
        amount=k,
        flops=steps * training_flops(MLP, shape, RECIPE.batch_size),
        facts={
            "seconds to compile": seconds,
            "MB held": temporary_bytes(together) / 1e6,
            "MB held while training": temporary_bytes(training) / 1e6,
            "MB that all candidates leave": (2 * k * tree_bytes(params) + tree_bytes(masks)) / 1e6,
        },
    )


def search(
    network: Network, k: int, steps: int, chunk_size: int | None
) -> Callable[[jax.Array], pruning.KStarts]:
    """From a key to all that K-starts gives; of one candidate the winner's index is known beforehand."""
    choice = {"k": k, "sparsity": 0.9, "fitness": pruning.combined_fitness, "chunk_size": chunk_size}
    train = partial(_train_candidate, network, steps)
    return lambda key: pruning.k_starts(key, network.params, train, **choice)


def _train_candidate(network: Network, steps: int, params: Any, masks: Any) -> tuple[Any, Any]:
    """Trains under a mask; returns the params after it and the sums of gradients."""
    sums, hold = pruning.accumulate_gradients(), pruning.hold_masks(masks)
    optimizer = optax.chain(sums, optax.sgd(0.1), hold)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        gradients = jax.grad(network.loss)(params, network.images)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params, optax.tree.get(state, "gradient_sums")
