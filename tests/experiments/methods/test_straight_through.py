"""What is pruned learns on behind its mask, and scores learn beside frozen weights."""

import jax
import numpy as np
import pytest

import pruning
from experiments.engine.networks import Networks
from experiments.methods.point import Point
from experiments.methods.registry import find_method
from experiments.options.knobs import Knobs, ScheduleKnobs
from experiments.pruning_methods import PruningMethods
from train.populations.population import stack_members

NAMES = ("gradual-magnitude-ste", "edge-popup")
OPTIONS = PruningMethods(
    methods=NAMES,
    sparsities=(0.8,),
    seeds=1,
    epochs=2,
    knobs=Knobs(schedule=ScheduleKnobs(prune_epochs=1)),
)


@pytest.fixture(scope="module")
def networks():
    def asked(study):
        return [point for name in NAMES for point in find_method(name).points(study, 0)]

    return Networks(OPTIONS, OPTIONS.load(), asked, find_method)


def trained(networks, name, epochs):
    """The state at the beginning, and the result after so many epochs."""
    point = Point(name, sparsity_target=0.8)
    population = networks.population(networks.schedule.program(point))
    members = stack_members([networks.member(point)])
    start = population.start(members)
    *_, result = population.train(members, epochs=epochs)
    alone = lambda tree: jax.device_get(jax.tree.map(lambda leaf: leaf[0], tree))  # noqa: E731
    return alone(start), alone(result.states), result


def kernels(params):
    return [params[f"dense{number}"]["kernel"] for number in (1, 2, 3)]


@pytest.mark.slow
def test_pruned_weights_learn_on_and_may_return(networks):
    start, first, result = trained(networks, "gradual-magnitude-ste", 1)
    assert float(result.metrics["sparsity"][0]) == pytest.approx(0.8, abs=1e-4)
    _, last, _ = trained(networks, "gradual-magnitude-ste", 2)
    masks = [kernels(pruning.get_masks(state.opt_state)) for state in (first, last)]
    returned = False
    for before, after, weights, moved in zip(
        *masks, kernels(first.params), kernels(last.params), strict=True
    ):
        assert (weights[~before] != 0).all()
        behind = ~before & ~after
        assert (weights[behind] != moved[behind]).any()
        returned |= bool((after & ~before).any())
    assert returned
    whole = np.concatenate([mask.ravel() for mask in masks[1]])
    sizes = np.concatenate([np.abs(kernel).ravel() for kernel in kernels(last.params)])
    assert sizes[whole].min() >= sizes[~whole].max()
    assert all(mask.all() for mask in kernels(pruning.get_masks(start.opt_state)))


def test_the_accuracy_is_that_of_the_masked_network(networks):
    """Not of the dense weights behind the mask."""
    _, last, result = trained(networks, "gradual-magnitude-ste", 2)
    masked = jax.device_get(pruning.apply_masks(last.params, pruning.get_masks(last.opt_state)))
    test = OPTIONS.load()
    images = (test.test.images / 255.0 - test.mean[0]) / test.std[0]
    x = images.reshape(len(images), -1)
    for number in (1, 2, 3):
        layer = masked[f"dense{number}"]
        x = x @ layer["kernel"] + layer["bias"]
        x = np.maximum(x, 0) if number < 3 else x
    accuracy = np.mean(x.argmax(-1) == test.test.labels)
    assert float(result.metrics["test_accuracy"][0]) == pytest.approx(accuracy, abs=2 / len(images))


@pytest.mark.slow
def test_edge_popup_learns_scores_alone(networks):
    start, last, _ = trained(networks, "edge-popup", 2)
    for before, after in zip(
        jax.tree.leaves(start.params.params), jax.tree.leaves(last.params.params), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    scores, masks = kernels(last.params.gates), kernels(pruning.get_masks(last.opt_state).gates)
    for before, score, mask in zip(kernels(start.params.gates), scores, masks, strict=True):
        assert (before != score).any()
        bound = 1 / np.sqrt(before.shape[0])
        assert 0.9 * bound < np.abs(before).max() <= bound
        assert np.abs(score)[mask].min() >= np.abs(score)[~mask].max()
        assert mask.sum() == mask.size - pruning.pruned_count(0.8, mask.size)
