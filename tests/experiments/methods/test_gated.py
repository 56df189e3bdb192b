"""Training with gates: an ordinary loop of the library's functions, and one program for every start."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from experiments.methods.gated import DRAWN, SOFT, Gated
from experiments.methods.registry import find_method
from experiments.methods.study import study_of
from tests.experiments.everything import Everything
from tests.train.populations.test_population import MODEL, RECIPE, dataset, last
from train.data.augment import normalise
from train.populations.population import Member, Population, stack_members

EPOCH = 3  # steps: 40 examples in batches of 16
TEMPERATURE = pruning.temperature_schedule(5.0, steps=2 * EPOCH, constant_for=EPOCH)
DECAYED = dataclasses.replace(RECIPE, weight_decay=0.1, epochs=2)
GATES = dataclasses.replace(Everything().knobs.gates, final_temperature=5.0)
STUDY = dataclasses.replace(
    study_of(Everything(steps=()), EPOCH, ()),
    recipe=DECAYED,
    knobs=dataclasses.replace(Everything().knobs, gates=GATES),
)


def population(program):
    return Population(
        model=MODEL,
        dataset=dataset(),
        recipe=DECAYED,
        method=program.method(STUDY, None),
        reparametrization=program.reparametrization(STUDY),
    )


def member(seed, initial=0.05, penalty=1e-3, learns=1.0):
    key = jax.random.key(seed)
    gated = Gated(*(jnp.float32(value) for value in (initial, penalty, 0.5, learns)))
    return Member(key, key, jnp.float32(0.1), jnp.float32(0.1), gated)


def only(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def logits(params, images):
    return MODEL.apply({"params": params}, normalise(images, (0.5,), (0.25,)))


def entropy(params, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def test_it_is_an_ordinary_training_run_with_soft_masks():
    """Two epochs in Python: both optimizers, the temperature by the step, the penalty, the test."""
    pop, one = population(SOFT), member(5)
    trained = last(pop.train(stack_members([one]), epochs=2))

    def view(both, step):
        soft = pruning.soft_masks(both.gates, TEMPERATURE(step), initial=0.05)
        return pruning.apply_soft_masks(both.params, soft)

    def loss(both, step, images, labels):
        penalty = pruning.gate_penalty(both.gates, TEMPERATURE(step), initial=0.05)
        return entropy(view(both, step), images, labels) + 1e-3 * penalty

    params = pop.initial_params(one.init_key)
    both = pruning.SoftMasked(params, pruning.initial_gates(params, 0.05))
    tx = pruning.soft_masked_optimizer(
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9)),
        optax.sgd(0.5, momentum=0.9),
    )
    state, losses = tx.init(both), []
    gradients_of, update = jax.jit(jax.value_and_grad(loss)), jax.jit(tx.update)
    train, test = pop.dataset.train, pop.dataset.test
    for step in range(2 * EPOCH):
        order_key, _ = jax.random.split(jax.random.fold_in(one.order_key, step // EPOCH))
        order = np.asarray(jax.random.permutation(order_key, 40))
        batch = np.append(order, order[:8]).reshape(EPOCH, 16)[step % EPOCH]
        value, gradients = gradients_of(both, step, train.images[batch], train.labels[batch])
        updates, state = update(gradients, state, both)
        both = optax.apply_updates(both, updates)
        losses.append(value)
    for found, expected in zip(
        jax.tree.leaves(only(trained.states.params)), jax.tree.leaves(both), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    metrics = only(trained.metrics)
    np.testing.assert_allclose(metrics["train_loss"], np.mean(losses[-EPOCH:]), rtol=1e-4)
    # In the end, the ticket: factors of 0, or of the limit 1 / sigmoid(s0).
    ticket = pruning.apply_masks(both.params, pruning.ticket_masks(both.gates))
    scaled = jax.tree.map(lambda leaf: leaf / jax.nn.sigmoid(0.05) if leaf.ndim > 1 else leaf, ticket)
    np.testing.assert_allclose(metrics["test_loss"], entropy(scaled, *test), rtol=1e-3)
    np.testing.assert_allclose(metrics["sparsity"], pruning.sparsity(pruning.ticket_masks(both.gates)))
    assert 0 < metrics["sparsity"] < 1


@pytest.mark.slow
def test_before_the_end_it_is_tested_as_it_is_computed():
    pop = population(SOFT)
    result = next(iter(pop.train(stack_members([member(5)]), epochs=2)))
    both = only(result.states.params)
    soft = pruning.soft_masks(both.gates, 1.0, initial=0.05)
    expected = entropy(pruning.apply_soft_masks(both.params, soft), *pop.dataset.test)
    np.testing.assert_allclose(result.metrics["test_loss"][0], expected, rtol=1e-4)


@pytest.mark.slow
def test_a_parallel_search_is_one_program():
    pop = population(SOFT)
    starts = (-0.2, 0.0, 0.1, 0.3)
    members = stack_members([member(0, initial) for initial in starts])
    found = last(pop.train(members, epochs=2)).metrics["sparsity"]
    again = last(pop.train(stack_members([member(1, 0.1, penalty=0.0)] * 4), epochs=2))
    assert pop.compilations == 1
    assert (np.diff(found) < 0).all()  # the lower they begin, the fewer survive
    assert np.isfinite(again.metrics["test_loss"]).all()


@pytest.mark.slow
def test_frozen_weights_stay_and_their_gates_move():
    for program in (SOFT, DRAWN):
        pop, one = population(program), member(0, learns=0.0)
        initial = only(pop.start(stack_members([one])).params)
        both = only(last(pop.train(stack_members([one]), epochs=2)).states.params)
        jax.tree.map(np.testing.assert_array_equal, both.params, initial.params)
        assert float(jnp.std(both.gates["dense1"]["kernel"])) > 0


@pytest.mark.slow
def test_drawn_masks_are_keyed_and_the_test_takes_the_ticket():
    pop = population(DRAWN)
    first, again, other = (
        last(pop.train(stack_members([one]), epochs=1))
        for one in (member(0), member(0), member(0)._replace(order_key=jax.random.key(9)))
    )
    jax.tree.map(np.testing.assert_array_equal, first.metrics, again.metrics)
    assert first.metrics["train_loss"] != other.metrics["train_loss"]
    both = only(first.states.params)
    ticket = pruning.apply_masks(both.params, pruning.ticket_masks(both.gates))
    expected = entropy(ticket, *pop.dataset.test)
    np.testing.assert_allclose(first.metrics["test_loss"][0], expected, rtol=1e-4)


def test_only_the_gates_of_supermasks_learn():
    """And every network has the start that it is asked for."""
    asked = {"continuous-sparsification": 1, "supermask": 0, "stochastic-supermask": 0}
    for name, learns in asked.items():
        method = find_method(name)
        for point in method.points(STUDY, 0):
            data = method.data(point, SimpleNamespace(study=STUDY))
            rate = 100.0 if name.startswith("stochastic") else STUDY.gate_learning_rate
            expected = point.setting, STUDY.knobs.gates.penalty, rate, learns
            np.testing.assert_allclose([float(leaf) for leaf in data], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["continuous-sparsification", "supermask", "edge-popup", "rare-gems"])
def test_in_a_sweep_gates_and_scores_learn_at_the_rate_of_their_network(name):
    """But where their own was asked for."""
    method = find_method(name)
    for gates, expected in ((None, 0.3), (0.5, 0.5)):
        study = dataclasses.replace(STUDY, gate_learning_rate=gates)
        point = next(iter(method.points(study, 0)))._replace(learning_rate=0.3, weight_decay=0.2)
        data = method.data(point, SimpleNamespace(study=study))
        np.testing.assert_allclose(data.learning_rate, expected)
        if name == "edge-popup":
            np.testing.assert_allclose(data.weight_decay, 0.2)
