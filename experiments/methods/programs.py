"""Kinds of training program: all networks of one kind are members of one compiled program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import optax

import pruning
from experiments.methods.study import Study
from train.populations import population
from train.populations.population import MemberState
from train.populations.reparametrization import DIRECT, Reparametrization

PyTree = Any
Observe = Callable[[MemberState], dict[str, jax.Array]]
Observed = Mapping[int, Observe]
"""Epoch -> what to read from stacked states after it; arrays of shape (N,)."""


def _direct(study: Study) -> Reparametrization:
    return DIRECT


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a population is compiled from, beside model, data and recipe.

    Attributes:
        name: For the terminal.
        method: ``method(study, shapes)`` wraps the recipe's optimizer, for params of these shapes.
        reparametrization: How what is trained becomes the params.
        serves: Another program whose networks this one can train as well, to the same numbers: a run that
            needs both compiles this one alone.
    """

    name: str
    method: Callable[[Study, PyTree], population.Method]
    reparametrization: Callable[[Study], Reparametrization] = _direct
    serves: "Program | None" = None


def held_masks(shapes: PyTree) -> population.Method:
    """Holds the masks of a member's state; it begins with all weights kept."""
    masks = pruning.full_masks(shapes)
    return lambda optimizer, _: optax.chain(optimizer, pruning.hold_masks(masks))


def _held(study: Study, shapes: PyTree) -> population.Method:
    return held_masks(shapes)


def _held_and_summed(study: Study, shapes: PyTree) -> population.Method:
    """Sums the magnitudes of gradients over the last epoch of a search."""
    held, last = held_masks(shapes), study.knobs.search.search_epochs * study.steps_per_epoch
    sums = pruning.accumulate_gradients(first=last - study.steps_per_epoch + 1, last=last)
    return lambda optimizer, data: optax.chain(sums, held(optimizer, data))


STATIC = Program(name="masks", method=_held)
"""Every static mask there is, made beforehand: the masks travel in the members' states."""

SEARCHED = Program(name="masks and sums of gradients", method=_held_and_summed, serves=STATIC)
"""The same, for networks whose fitness is looked at."""
