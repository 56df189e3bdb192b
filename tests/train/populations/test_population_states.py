"""Where members begin and stop: steps in the middle of epochs, given states, running statistics."""

import functools
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from tests.train.populations.test_population import (
    RECIPE,
    assert_close,
    dataset,
    hold,
    last,
    member,
    ordinary,
    population,
)
from train.data.augment import normalise
from train.evaluation import apply_model
from train.populations.members import in_turn, side_by_side
from train.populations.population import Population, stack_members
from train.recipes import Recipe

STEPS = 3  # of an epoch: 40 examples in batches of 16


class SmallNormalised(nn.Module):
    """A dense layer, batch normalisation, a dense layer."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.Dense(5)(images.reshape(len(images), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(3)(nn.relu(x))


def read(states):
    """A copy on the host: the population reuses the buffers."""
    return jax.tree.map(np.array, states)


def only(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


@pytest.mark.slow
def test_a_stop_is_a_result_and_changes_nothing():
    pop = population()
    members = stack_members([member(pop, 0)])
    whole = [(r.epoch, r.step, r.complete) for r in pop.train(members, epochs=2)]
    expected = read(last(pop.train(members, epochs=2)).states)
    stopped = [
        (r.epoch, r.step, r.complete, read(r.states)) for r in pop.train(members, epochs=2, stops=(1, 5))
    ]
    assert whole == [(1, 3, True), (2, 6, True)]
    places = [place for *place, _ in stopped]
    assert places == [[1, 1, False], [1, 3, True], [2, 5, False], [2, 6, True]]
    assert [int(states.step[0]) for *_, states in stopped] == [1, 3, 5, 6]
    assert_close(stopped[-1][-1].params, expected.params)
    assert pop.compilations == 1


@pytest.mark.slow
@pytest.mark.parametrize("execute", [in_turn, side_by_side])
def test_training_goes_on_from_a_state(execute):
    """The same batches, learning rates and momentum as without the interruption."""
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=0.1, momentum=0.9, drop_epochs=(1,))
    pop = Population(
        model=SmallNormalised(), dataset=dataset(), recipe=recipe, method=hold, execute=execute
    )
    members = stack_members([member(pop, seed) for seed in range(2)])
    expected = read(last(pop.train(members)).states)
    reached = {r.step: read(r.states) for r in pop.train(members, stops=(1, 4))}
    for step in (1, 3, 4):
        states = jax.tree.map(jnp.asarray, reached[step])
        results = list(pop.train(members, states=states, first_step=step))
        assert [result.step for result in results] == [end for end in (3, 6, 9) if end > step]
        assert_close(read(results[-1].states), expected, rtol=1e-4)


def test_the_loss_of_a_part_is_the_mean_of_its_steps():
    pop = ordinary()
    members = stack_members([member(pop, 0)])
    losses = {r.step: float(r.metrics["train_loss"][0]) for r in pop.train(members, epochs=1)}
    parts = [
        float(r.metrics["train_loss"][0]) for r in pop.train(members, epochs=1, stops=range(1, STEPS))
    ]
    assert np.mean(parts) == pytest.approx(losses[STEPS], rel=1e-5)


@pytest.mark.parametrize(
    "place", [{"first_step": -1}, {"first_step": 10}, {"stops": (10,)}, {"epochs": 1, "stops": (4,)}]
)
def test_a_step_outside_the_training_is_an_error(place):
    pop = ordinary()
    with pytest.raises(ValueError, match=r"a step of the training, 0 to \d+ \(\d epochs of 3 steps\)"):
        next(pop.train(stack_members([member(pop, 0)]), **place))


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [
        (RECIPE, 0.1),
        pytest.param(
            replace(RECIPE, schedule="cosine", label_smoothing=0.3),
            optax.cosine_decay_schedule(0.1, 3 * STEPS),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["usual", "cosine and smoothed labels"],
)
def test_a_member_is_an_ordinary_training_run(recipe, rate):
    """Two epochs step by step in Python: shuffled batches, SGD with decay, masks held.

    Batch statistics count in training, running ones in evaluation, where labels are never smoothed.
    """
    model, data = SmallNormalised(), dataset()
    pop = population(recipe, model=model, data=data)
    one = member(pop, 5)
    trained = last(pop.train(stack_members([one]), epochs=2))

    variables = jax.jit(model.init)(one.init_key, jnp.zeros((1, *data.train.images.shape[1:])))
    params, stats = pruning.apply_masks(variables["params"], one.method), variables["batch_stats"]
    tx = optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(rate, momentum=0.9))
    state = tx.init(params)

    @functools.partial(jax.jit, static_argnames="train")
    def evaluate(params, stats, images, labels, train=False):
        images, variables = normalise(images, (0.5,), (0.25,)), {"params": params, "batch_stats": stats}
        logits, updated = model.apply(variables, images, train=train, mutable=["batch_stats"])
        accuracy = jnp.mean(jnp.argmax(logits, -1) == labels)
        targets = optax.smooth_labels(jax.nn.one_hot(labels, 3), recipe.label_smoothing if train else 0.0)
        return optax.softmax_cross_entropy(logits, targets).mean(), (updated["batch_stats"], accuracy)

    slope = jax.value_and_grad(functools.partial(evaluate, train=True), has_aux=True)
    for epoch in range(2):
        order_key, _ = jax.random.split(jax.random.fold_in(one.order_key, epoch))
        order = np.asarray(jax.random.permutation(order_key, 40))
        losses = []
        for batch in np.append(order, order[:8]).reshape(STEPS, 16):
            examples = data.train.images[batch], data.train.labels[batch]
            (loss, (stats, _)), gradients = slope(params, stats, *examples)
            updates, state = tx.update(gradients, state, params)
            params = pruning.apply_masks(optax.apply_updates(params, updates), one.method)
            losses.append(loss)
    found, metrics = only(trained.states), only(trained.metrics)
    assert_close(found.params, params, rtol=1e-4)
    assert_close(found.batch_stats, stats, rtol=1e-4)
    loss, (_, accuracy) = evaluate(params, stats, *data.test)
    np.testing.assert_allclose(metrics["test_accuracy"], accuracy)
    np.testing.assert_allclose(metrics["test_loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["train_loss"], np.mean(losses), rtol=1e-4)


def test_a_started_member_is_at_its_initialization_under_its_mask():
    pop = ordinary()
    one = member(pop, 3)
    state = only(pop.start(stack_members([one])))
    expected = pruning.apply_masks(pop.initial_params(one.init_key), one.method)
    assert_close(state.params, expected)
    assert int(state.step) == 0
    assert state.batch_stats == {}


@pytest.mark.slow
def test_a_model_in_bfloat16_keeps_float32_where_it_counts():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            x = nn.Dense(5, dtype=jnp.bfloat16)(images.reshape(len(images), -1))
            x = nn.BatchNorm(use_running_average=not train, dtype=jnp.bfloat16)(x)
            return nn.Dense(3, dtype=jnp.bfloat16)(nn.relu(x))

    pop = population(model=Half())
    result = last(pop.train(stack_members([member(pop, 0)]), epochs=1))
    for leaf in jax.tree.leaves((result.states.params, result.states.batch_stats)):
        assert leaf.dtype == jnp.float32
    assert result.metrics["test_loss"].dtype == jnp.float32
    state = only(result.states)
    logits, _ = apply_model(Half(), state.params, state.batch_stats, jnp.ones((2, 4, 4, 1)), train=False)
    assert logits.dtype == jnp.float32
