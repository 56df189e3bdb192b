"""The program of an epoch, made from shapes, is the one that trains: what is read of it is true."""

import dataclasses

import jax
import pytest

from tests.compilations import compiled_programs
from tests.train.populations.on_devices import streamed
from tests.train.populations.test_population import dataset, member, population
from train.data.datasets import Split
from train.populations.population import stack_members


def test_shapes_suffice_and_give_the_program_that_trains():
    pop = population()
    members = stack_members([member(pop, seed) for seed in range(2)])
    lowered = pop.lower(members)
    shapes = jax.eval_shape(
        lambda: (members, tuple(pop.train_split), tuple(pop.evaluation_splits["test"]))
    )
    data = dataclasses.replace(dataset(), train=Split(*shapes[1]), test=Split(*shapes[2]))
    assert population(data=data).lower(shapes[0]).as_text() == lowered.as_text()

    next(pop.train(members))
    assert pop.compilations == 1  # Training traced nothing anew.


@pytest.mark.slow
def test_its_bytes_are_those_of_a_device():
    pop = population()
    held = [
        pop.lower(stack_members([member(pop, seed) for seed in range(size)])).compile().memory_analysis()
        for size in (1, 3)
    ]
    state = jax.eval_shape(pop.start, stack_members([member(pop, 0)]))
    each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert held[1].output_size_in_bytes - held[0].output_size_in_bytes >= 2 * each
    assert held[0].argument_size_in_bytes > pop.train_split.images.nbytes


@pytest.mark.slow
def test_a_population_that_reads_while_it_trains_has_a_program_of_its_blocks():
    pop = population(data=streamed(dataset()))
    members = stack_members([member(pop, seed) for seed in range(2)])
    with compiled_programs() as names:
        pop.lower(members).compile()
        train = [name for name in names if name == "_train_members"]
        next(pop.train(members))
    assert train == ["_train_members"]
    assert pop.compilations == 1
