"""Ways of pruning at equal training epochs: before, while and after the weights learn.

    python -m experiments.pruning_methods
    python -m experiments.pruning_methods --dataset mnist --model lenet-300-100 --data-dir DIR --seeds 5

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100; the second, with all of
the recipe's 16 epochs, in half an hour (its result with 6: docs/results/pruning-methods-mnist).
Interrupted, the same command goes on; finished, it prints the stored summary.

All networks of a seed share initial weights and data order, and are trained for the same number of
epochs. The searches of K-starts come on top and are said.

- ``random``, ``magnitude``, ``snip``, ``grasp``, ``synflow``: masks at initialization.
- ``magnitude-fine-tuned``: pruned by magnitude after ``--prune-epochs``, in one shot, and trained on.
- ``gradual-magnitude``: pruned by magnitude at the end of each of these epochs, on the cubic schedule.
- ``dissipating-gradients``: the least displaced weights go at the end of each of them; with
  ``k-starts+`` from the fittest of k random masks.
- ``continuous-sparsification``: gates trained beside the weights, no rewinding: what is tested is the
  network's ticket at the end, with the weights that it has then. Its sparsity is found, not set.
- ``supermask``: the same, but only the gates learn; the weights stay as they were initialised.
- ``stochastic-supermask``: likewise, with masks that are drawn from the gates' probabilities at each
  step; what is tested keeps the weights with a probability above one half.

Source: Savarese et al. 2020 (arXiv 1912.04427), section 5; Zhou et al. 2019 (arXiv 1905.01067), section
5; Zhu and Gupta 2017 (arXiv 1710.01878); Frankle et al. 2021 (arXiv 2009.08576); Haroon 2022 (arXiv
2209.02201).
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax

import pruning
from experiments.compare_search import fitted, winner
from experiments.mark_masks import MaskMaker, Seen
from experiments.methods_options import PruningMethods
from experiments.methods_plan import DENSE, SEARCH, methods_keys
from experiments.methods_report import write_results
from experiments.options import run_command, run_in_folder
from experiments.programs import (
    dissipating_to,
    gradual_to,
    held_masks,
    held_random_masks,
    observe_fitness,
    param_shapes,
    with_masks,
)
from experiments.run_folder import RunFolder
from experiments.snapshots import Snapshots
from experiments.soft_programs import continuous_sparsification, drawn_gates, gated_optimizer
from experiments.stages import NamedMember, Stage, run_stage
from train.data.datasets import Dataset
from train.populations.devices import dataset_on_every_device
from train.populations.population import Member, MemberState, Population, stack_members
from train.populations.progress import training_progress
from train.populations.reparametrization import DIRECT, Reparametrization
from train.recipes import build_model


def main() -> None:
    """Runs what the command line asks for."""
    run_command(PruningMethods, run, __doc__)


def run(config: PruningMethods) -> Path:
    """Trains what is not trained yet, writes the results and prints the summary.

    Args:
        config: What to compare.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the config is no good.
    """

    def prepare() -> Callable[[RunFolder], None]:
        comparison = Comparison(config, config.load())

        def fill(folder: RunFolder) -> None:
            comparison.train(folder)
            write_results(config.dataset, config.model, comparison.plan, folder)

        return fill

    return run_in_folder(config, prepare)


class Comparison:
    """The programs of one comparison, and the stages in which they train its members."""

    def __init__(self, config: PruningMethods, dataset: Dataset) -> None:
        """Puts the data on the device.

        Args:
            config: What to compare.
            dataset: What is learned.
        """
        recipe = config.resolved_recipe()
        self.config, self.plan = config, config.plan()
        self.model = build_model(config.model, recipe, num_classes=dataset.num_classes)
        self.dataset = dataset_on_every_device(dataset, config.mesh())
        shapes = param_shapes(self.model, dataset)
        self.static = self._population(held_masks(shapes))
        steps = self.static.steps_per_epoch
        self.prune_step = self.plan.prune_epochs * steps
        last = self.plan.search_epochs * steps
        self.gradual = self._population(gradual_to(check_every=steps))
        self.search = self._population(held_random_masks(shapes, first=last - steps + 1, last=last))
        self.dissipating = self._population(dissipating_to(shapes, check_every=steps))
        gated = gated_optimizer(recipe, steps_per_epoch=steps)
        self.stochastic = self._population(gated, drawn_gates())
        self.soft = self._population(
            gated,
            continuous_sparsification(
                config.final_temperature, epochs=recipe.epochs, steps_per_epoch=steps
            ),
        )
        exact = dataclasses.replace(recipe, compute_dtype="float32")
        self.maker = MaskMaker(
            build_model(config.model, exact, num_classes=dataset.num_classes),
            dataclasses.replace(dataset, train=self.static.train_split),
            recipe,
        )
        self._seen = lru_cache(maxsize=1)(self._compute_seen)

    def train(self, folder: RunFolder) -> None:
        """Trains all that is not trained yet, in the order in which stages need each other.

        Args:
            folder: Where finished members and the dense networks' snapshots are kept.

        Raises:
            ValueError: If snapshots of finished dense networks are gone.
        """
        plan, epochs = self.plan, self.plan.recipe.epochs
        template = jax.eval_shape(self.static.start, stack_members([plan.dense()[0].member]))
        snapshots = Snapshots(folder, template)

        def keep(named: NamedMember, step: int, state: MemberState) -> None:
            snapshots.save(f"{DENSE}-seed-{named.columns['seed']}", step, state)

        def fine_tuned(named: NamedMember) -> MemberState:
            dense = snapshots.load(f"{DENSE}-seed-{named.columns['seed']}", self.prune_step)
            scores = pruning.magnitude_scores(dense.params)
            return with_masks(dense, pruning.global_masks(scores, named.columns["sparsity_target"]))

        searches = plan.searches()
        networks = [plan.dense(), plan.at_start(), plan.fine_tuned(), plan.gradual()]
        networks += [plan.gated(), plan.stochastic(), plan.dissipating(_first_candidates(searches))]
        total = sum(map(len, networks)) * epochs + len(searches) * plan.search_epochs
        total -= len(plan.fine_tuned()) * plan.prune_epochs
        with training_progress(total) as progress:

            def train(name: str, population: Population, members: Any, **knobs: Any) -> None:
                knobs = {"epochs": epochs} | knobs
                stage = Stage(name=name, population=population, members=members, **knobs)
                run_stage(stage, folder, progress, chunk_size=self.config.chunk_size)

            train(DENSE, self.static, plan.dense(), stops=[self.prune_step], at_stop=keep)
            train("at initialization", self.static, plan.at_start(), start=self._pruned_at_start)
            train(
                "fine-tuning",
                self.static,
                plan.fine_tuned(),
                first_step=self.prune_step,
                start=fine_tuned,
            )
            train("gradual", self.gradual, plan.gradual())
            observe = {plan.search_epochs: observe_fitness}
            train("searches", self.search, searches, epochs=plan.search_epochs, observe=observe)
            chosen = fitted(folder.rows(), SEARCH, plan.search_epochs)
            winners = {key: winner(found, "combined") for key, found in chosen}
            train("dissipation", self.dissipating, plan.dissipating(winners))
            train("soft masks", self.soft, plan.gated())
            train("drawn masks", self.stochastic, plan.stochastic())
        pruned = (self.static, self.gradual, self.search, self.dissipating)
        programs = (*pruned, self.soft, self.stochastic)
        print(f"training programs compiled: {sum(program.compilations for program in programs)}")

    def _population(self, method: Any, reparametrization: Reparametrization = DIRECT) -> Population:
        return Population(
            model=self.model,
            dataset=self.dataset,
            recipe=self.plan.recipe,
            method=method,
            reparametrization=reparametrization,
            mesh=self.config.mesh(),
        )

    def _pruned_at_start(self, named: NamedMember) -> MemberState:
        columns = named.columns
        dense = self._at_start(named.member)
        masks = self.maker.masks(
            columns["method"], self._seen(columns["seed"]), columns["sparsity_target"]
        )
        return with_masks(dense, masks)

    def _compute_seen(self, seed: int) -> Seen:
        keys, (dense, *_) = methods_keys(seed), self.plan.dense()
        state = self._at_start(dense.member._replace(init_key=keys.init))
        other = self._at_start(dense.member._replace(init_key=keys.other_init))
        return self.maker.seen(seed, keys.scores, state, other.params)

    def _at_start(self, member: Member) -> MemberState:
        states = self.static.start(stack_members([member]))
        return jax.tree.map(lambda leaf: leaf[0], states)


def _first_candidates(searches: list[NamedMember]) -> dict[tuple[int, float], int]:
    """In the place of winners, where only the number of members counts."""
    return {(named.columns["seed"], named.columns["sparsity_target"]): 0 for named in searches}


if __name__ == "__main__":
    main()
