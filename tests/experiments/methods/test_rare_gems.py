"""Rare Gems in a population: gates move first, then the weights that they have found."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from experiments.engine.networks import Networks
from experiments.methods.point import Point
from experiments.methods.rare_gems import DIGGING, Digging
from experiments.methods.registry import find_method
from experiments.options.knobs import GateKnobs, Knobs, ScheduleKnobs
from experiments.pruning_methods import PruningMethods
from train.populations.population import stack_members
from train.recipes import Recipe, make_optimizer

POINT = Point("rare-gems", sparsity_target=0.75)
KNOBS = Knobs(schedule=ScheduleKnobs(prune_epochs=2), gates=GateKnobs(gate_learning_rate=3.0))
OPTIONS = PruningMethods(methods=("rare-gems",), sparsities=(0.75,), seeds=1, epochs=3, knobs=KNOBS)


@pytest.fixture(scope="module")
def results():
    """At the beginning, and after each of two epochs of search and one of training; and the test set."""
    data = OPTIONS.load()
    networks = Networks(OPTIONS, data, lambda study: [POINT], find_method)
    population = networks.population(networks.schedule.program(POINT))
    members = stack_members([networks.member(POINT)])
    alone = lambda tree: jax.device_get(jax.tree.map(lambda leaf: leaf[0], tree))  # noqa: E731
    found = [(alone(population.start(members)), None)]
    found += [(alone(one.states), alone(one.metrics)) for one in population.train(members)]
    images = ((data.test.images / 255.0 - data.mean[0]) / data.std[0]).reshape(len(data.test.labels), -1)
    return found, images, data.test.labels


def masks_of(state):
    return pruning.get_masks(state.opt_state)


def kernels(params):
    return [params[f"dense{number}"]["kernel"] for number in (1, 2, 3)]


def accuracy(params, images, labels):
    x = images
    for number in (1, 2, 3):
        x = x @ params[f"dense{number}"]["kernel"] + params[f"dense{number}"]["bias"]
        x = np.maximum(x, 0) if number < 3 else x
    return np.mean(x.argmax(-1) == labels)


@pytest.mark.slow
def test_weights_wait_and_are_pruned_by_the_smallest_gates(results):
    (start, _), *searched, _ = results[0]
    weights, sizes = kernels(start.params.params), [layer.size for layer in kernels(start.params.params)]
    for (state, metrics), sparsity in zip(searched, (0.5, 0.75), strict=True):
        kept, gates = kernels(masks_of(state)), kernels(state.params.gates)
        removed = sum(int((~mask).sum()) for mask in kept)
        assert removed == pruning.pruned_count(sparsity, sum(sizes))
        assert metrics["sparsity"] == pytest.approx(removed / sum(sizes), abs=1e-6)
        for now, before, mask, gate in zip(
            kernels(state.params.params), weights, kept, gates, strict=True
        ):
            np.testing.assert_array_equal(now, np.where(mask, before, 0))
            assert (gate[~mask] == 0).all()
            assert gate.min() >= 0
            assert gate.max() <= 1
        assert all((state.params.params[f"dense{n}"]["bias"] == 0).all() for n in (1, 2, 3))


def test_then_the_weights_learn_and_gates_and_masks_stay(results):
    *_, (found, _), (last, _) = results[0]
    for one, other in ((masks_of(found), masks_of(last)), (found.params.gates, last.params.gates)):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    for before, after, mask in zip(
        kernels(found.params.params), kernels(last.params.params), kernels(masks_of(last)), strict=True
    ):
        assert (after[~mask] == 0).all()
        assert (after[mask] != before[mask]).mean() > 0.5
    assert any((last.params.params[f"dense{n}"]["bias"] != 0).any() for n in (1, 2, 3))


RECIPE = Recipe(epochs=4, batch_size=1, learning_rate=1.0, weight_decay=0.5, drop_epochs=(2,))
TINY = SimpleNamespace(recipe=RECIPE, prune_epochs=2, steps_per_epoch=1)
BOTH = pruning.SoftMasked({"w": jnp.ones((1, 2))}, {"w": jnp.array([[1.0, 0.25]])})


def test_gates_have_a_schedule_of_their_own_and_weights_the_rest_of_the_recipes():
    """The rate falls to a tenth after half of a training: of the search's two epochs, and of all four."""
    optimizer = make_optimizer(RECIPE, 1.0, 0.5, 1)
    data = Digging(jax.random.key(0), jnp.zeros(2), jnp.float32(0.5))
    tx = DIGGING.method(TINY, None)(optimizer, data)
    step, state, both, found = jax.jit(tx.update), tx.init(BOTH), BOTH, []
    for _ in range(3):
        updates, state = step(jax.tree.map(jnp.ones_like, both), state, both)
        both = optax.apply_updates(both, updates)
        found.append((float(both.gates["w"][0, 0]), float(both.params["w"][0, 0])))
    # Gates without weight decay; the gradient of the weights is 1 + 0.5 w.
    np.testing.assert_allclose(found, [(0.5, 1), (0.45, 1), (0.45, 1 - 0.1 * 1.5)], rtol=1e-6)


def test_gates_are_rounded_and_penalised_in_the_search_alone():
    gems = DIGGING.reparametrization(TINY)
    computed = [gems.params(None, BOTH, None, jnp.int32(step))["w"].tolist() for step in (1, 2)]
    assert computed == [[[1, 0]], [[1, 1]]]
    tested = [gems.tested(BOTH, None, jnp.int32(step))["w"].tolist() for step in (0, 1)]
    assert tested == computed  # A step counts as trained here.
    penalties = [float(gems.penalty(BOTH, None, jnp.int32(step))) for step in (1, 2)]
    assert penalties == pytest.approx([1e-4 * (1 + 0.25**2), 0])


def test_the_search_is_tested_with_rounded_gates_and_its_end_with_all_that_is_kept(results):
    found, images, labels = results
    for epoch in (1, 2, 3):
        state, metrics = found[epoch]
        params, gates = state.params
        if epoch == 1:
            params = pruning.rounded_gates(params, gates, masks_of(state))
        expected = accuracy(jax.device_get(params), images, labels)
        assert float(metrics["test_accuracy"]) == pytest.approx(expected, abs=2 / len(labels))


def test_an_epoch_is_left_for_the_weights():
    with pytest.raises(ValueError, match="--prune-epochs < --epochs, got 3, 3"):
        PruningMethods(
            methods=("rare-gems",), epochs=3, knobs=Knobs(schedule=ScheduleKnobs(prune_epochs=3))
        )
