"""Successive elimination: the worse half of K-starts' candidates is dropped after each epoch.

The candidates are those of K-starts. With 16 of them and a search of 2 epochs K-starts trains 32
candidate-epochs, elimination 30.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.methods.method import Given, Look, When
from experiments.methods.point import Need, Point
from experiments.methods.programs import Observed, Program, held_masks
from experiments.methods.searched import Candidates, Searching, observe_fitness
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations.population import MemberState
from train.populations.population import Method as Transformed

PyTree = Any


def _held_and_summed(study: Study, shapes: PyTree) -> Transformed:
    """Sums gradients from where a network begins: each epoch of the search is begun anew."""
    held = held_masks(shapes)
    return lambda optimizer, data: optax.chain(pruning.accumulate_gradients(), held(optimizer, data))


ELIMINATED = Program(name="masks and sums of gradients an epoch", method=_held_and_summed)


def epochs_of_search(k: int) -> int:
    """After how many halvings one of k candidates is left, and 1 of a single one."""
    return max(1, math.ceil(math.log2(k)))


@dataclass(frozen=True, kw_only=True)
class Eliminating(Searching):
    """The last candidate's mask is trained from the initial weights to the end.

    A candidate's round is the epoch that it is trained in.
    """

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if a search is longer than a training."""
        k, epochs = options.knobs.search.k, options.resolved_recipe().epochs
        if epochs_of_search(k) > epochs:
            raise ValueError(
                f"expected at most {2**epochs} candidates, of which {self.name} drops half after each of "
                f"the {epochs} epochs, got --k {k}"
            )

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """The search's last candidates; of a candidate those of the epoch before, and its own state."""
        k = study.knobs.search.k
        if point.candidate is None:
            return tuple(Need(one) for one in _candidates(point, epochs_of_search(k), k))
        round = point.round or 1
        if round == 1:
            return ()
        itself = Need(point._replace(round=round - 1), (round - 1) * study.steps_per_epoch)
        return (itself, *(Need(one) for one in _candidates(point, round - 1, k)))

    def program_of(self, point: Point) -> Program:
        """Candidates are observed."""
        return self.program if point.candidate is None else ELIMINATED

    def first_step(self, point: Point, study: Study) -> int:
        """The beginning of its epoch."""
        return 0 if point.candidate is None else ((point.round or 1) - 1) * study.steps_per_epoch

    def epochs(self, point: Point, study: Study) -> int:
        """Candidates are trained for one epoch."""
        return study.epochs if point.candidate is None else point.round or 1

    def observes(self, point: Point, study: Study) -> Observed:
        """The fitness of candidates."""
        return {} if point.candidate is None else {point.round or 1: observe_fitness}

    def start(self, point: Point, given: Given) -> MemberState:
        """Under its mask; a candidate goes on from where it was, with sums of gradients of 0."""
        if point.candidate is None or point.round == 1:
            return super().start(point, given)
        (itself, *_) = self.needs(point, given.study)
        state = given.state(itself)
        sums = optax.tree.get(state.opt_state, "gradient_sums")
        zeros = jax.tree.map(jnp.zeros_like, sums)
        return state._replace(opt_state=optax.tree.set(state.opt_state, gradient_sums=zeros))

    def masks(self, point: Point, given: Given) -> PyTree:
        """That of a candidate, or of the fittest after the last epoch."""
        if point.candidate is not None:
            return super().masks(point, given)
        epochs = epochs_of_search(given.study.knobs.search.k)
        (winner,) = _survivors(point, epochs, 1, given)
        return super().masks(point._replace(candidate=winner), given)

    def why_useless(self, point: Point, given: Given) -> str | None:
        """It was not among the fitter half of the epoch before."""
        round, k = point.round or 1, given.study.knobs.search.k
        if point.candidate is None or round == 1:
            return None
        left = math.ceil(k / 2 ** (round - 1))
        survives = point.candidate in _survivors(point, round - 1, left, given)
        return None if survives else f"it was eliminated after epoch {round - 1}"


def _candidates(point: Point, round: int, k: int) -> list[Point]:
    """All of an epoch of a search, the eliminated ones too."""
    return [point._replace(variant="none", round=round, candidate=index) for index in range(k)]


def _survivors(point: Point, round: int, left: int, given: Given) -> list[int]:
    """The fittest of an epoch; each is judged beside those that were trained in it."""
    rows = {
        one.candidate: given.rows(one)
        for one in _candidates(point, round, given.study.knobs.search.k)
        if not given.rows(one)[-1].get("untrained_because")
    }
    fitness = Candidates([*rows.values()], round).fitness["combined"]
    order = np.argsort(np.where(np.isfinite(fitness), -fitness, np.inf), kind="stable")
    alive = [index for index in rows if index is not None]
    return [alive[place] for place in order[:left]]


METHODS = (
    Eliminating(
        name="successive-elimination",
        look=Look("Successive elimination", "#806080", "H"),
        when=When.BEFORE,
        functions=("successive_elimination", "combined_fitness"),
        source="Jamieson and Talwalkar 2016 (arXiv 1502.07943), of Haroon 2022's candidates",
    ),
)
