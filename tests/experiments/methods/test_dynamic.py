"""Dynamic sparse training in a run: where it begins, that masks move, and what is recorded of them."""

import dataclasses

import jax
import numpy as np
import pytest

import pruning
from experiments.dynamic_sparse_training import BEGINNINGS, DynamicSparseTraining, summary
from experiments.engine.networks import Networks
from experiments.methods.dynamic import _knobs
from experiments.methods.method import When
from experiments.methods.point import Point
from experiments.methods.registry import find_method
from experiments.methods.seeds import seed_keys
from experiments.methods.study import study_of
from experiments.options.knobs import DynamicKnobs
from experiments.options.training import GridOptions
from tests.experiments.everything import KNOBS, Everything, rows_of
from tests.experiments.made_up import results, several
from train.populations.population import stack_members


@pytest.fixture(scope="module")
def networks():
    options = Everything(methods=("rigl",))
    knobs = dataclasses.replace(KNOBS, dynamic=DynamicKnobs(check_steps=4, drop_fraction=0.5))
    options = dataclasses.replace(options, knobs=knobs)
    points = lambda study: find_method("rigl").points(study, 0)  # noqa: E731
    return Networks(options, options.load(), points, find_method)


def test_it_begins_with_the_mask_of_random_erk_and_moves_it(networks):
    point = Point("rigl", sparsity_target=0.9)
    began = networks.start(point)
    masks, params = pruning.get_masks(began.opt_state), networks.initial(0).params
    expected = pruning.random_masks(
        seed_keys(0).scores, params, 0.9, allocation=pruning.erdos_renyi_kernel
    )
    jax.tree.map(np.testing.assert_array_equal, masks, expected)
    population = networks.population(networks.schedule.program(point))
    states = stack_members([began])
    (result,) = population.train(stack_members([networks.member(point)]), states=states, epochs=1)
    ended = jax.tree.map(lambda leaf: leaf[0], population.masks(result.states))
    moved = jax.tree.map(lambda a, b: int((a & ~b).sum()), ended, masks)
    assert all(count > 0 for count in jax.tree.leaves(moved))
    assert jax.tree.map(np.sum, ended) == jax.tree.map(np.sum, masks)


def test_what_stands_beside_a_still_mask_begins_with_it():
    names = DynamicSparseTraining().methods
    begins = {name: find_method(name).masks_by.name for name in names}
    moving = {name: still for name, still in begins.items() if find_method(name).when is When.DURING}
    assert BEGINNINGS.items() <= moving.items()
    assert set(moving) - set(BEGINNINGS) == {"srigl"}  # It holds a mask of its own.
    rows = [one for name in names for one in several(name, [0.8, 0.9])]
    text = "\n".join(summary(results(rows), None))
    assert "| RigL beats Random, ERK |" in text
    assert "SRigL beats" not in text
    assert "| SRigL |" in text


@pytest.mark.slow
def test_coverage_is_recorded_of_the_last_epoch(everything):
    rows = rows_of(everything)
    for method in ("rigl", "set"):
        row = rows[Point(method, sparsity_target=0.9)]
        assert 0.1 < row["explored"] < 1
        np.testing.assert_allclose(row["sparsity"], 0.9, atol=1e-3)
    assert rows[Point("random-erk", sparsity_target=0.9)]["explored"] is None


def test_growth_at_random_has_a_key_of_its_own():
    keys = [find_method("set").data(Point("set", seed=seed), None) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] != seed_keys(0).scores


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"check_steps": 0}, "--check-steps >= 1"),
        ({"drop_fraction": 1.2}, r"--drop-fraction in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_named(knobs, says):
    with pytest.raises(ValueError, match=says):
        DynamicKnobs(**knobs)


def test_settings_are_those_of_the_run():
    knobs = dataclasses.replace(KNOBS, dynamic=DynamicKnobs(check_steps=7))
    assert GridOptions.settings(Everything(knobs=knobs))["check_steps"] == 7


def test_checks_that_none_of_the_training_reaches_are_refused():
    options = Everything(methods=("rigl",), epochs=2)
    knobs = dataclasses.replace(KNOBS, dynamic=DynamicKnobs(check_steps=35))
    options = dataclasses.replace(options, knobs=knobs)
    with pytest.raises(
        ValueError, match=r"--check-steps <= 34, three quarters of the training's 46 steps"
    ):
        Networks(options, options.load(), lambda study: [], find_method)


@pytest.mark.parametrize(("epochs", "every"), [(1, 17), (2, 23), (20, 23)])
def test_masks_move_in_short_trainings_too(epochs, every):
    """An epoch of digits has 23 steps; masks stay after three quarters of the training."""
    knobs = _knobs(study_of(Everything(methods=("rigl",), steps=(), epochs=epochs), 23, ()))
    assert knobs["check_every"] == every <= knobs["stop_after"]
