"""Pruning at initialization, assessed: every method, its ablations, and the baselines after training.

    python -m experiments.missing_the_mark
    python -m experiments.missing_the_mark --dataset mnist --model lenet-300-100 --data-dir DIR

Expected: the first in two minutes on 2 CPU cores, digits with LeNet-300-100 (its result with five seeds:
docs/results/missing-the-mark-digits); the second, with all of the recipe's 16 epochs, in hours.
Interrupted, the same command goes on where it was; finished, it prints the stored summary.

All members of a seed share initial weights and data order. A static mask is data, so every method,
ablation, pruning step, sparsity and seed is a member of one compiled program; K-starts' searches and
dissipating gradients are two more.

- Methods at initialization see the initial weights and 10 examples a class. With ``--steps`` they also
  prune the same network at later steps of its training, which then goes on.
- ``magnitude-after-training`` prunes the trained network by magnitude, in one shot, and trains it again
  with the whole schedule (learning-rate rewinding), in the same order of the data, without its old
  momentum. ``lottery-ticket-rewinding`` puts the same mask on the network of an early step, its momentum
  included, and goes on from there.
- ``shuffle`` permutes each layer's mask, ``reinit`` trains other initial weights under the same mask
  (from step 0), ``invert`` keeps the other end of the ranking.

Source: Frankle et al. 2021 (arXiv 2009.08576); K-starts and dissipating gradients: Haroon 2022
(arXiv 2209.02201).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

import pruning
from experiments.compare_search import fitted, winner
from experiments.mark_masks import MaskMaker
from experiments.mark_options import MissingTheMark
from experiments.mark_plan import Plan
from experiments.mark_published import read_accuracies
from experiments.mark_report import write_results
from experiments.mark_states import StartingStates, snapshot_name
from experiments.options import run_command, run_in_folder
from experiments.programs import (
    dissipating_to,
    held_masks,
    held_random_masks,
    observe_fitness,
    param_shapes,
)
from experiments.run_folder import RunFolder
from experiments.snapshots import Snapshots
from experiments.stages import NamedMember, Stage, run_stage
from train.data.datasets import Dataset
from train.populations.devices import dataset_on_every_device
from train.populations.population import MemberState, Population, stack_members
from train.populations.progress import training_progress
from train.recipes import build_model


def main() -> None:
    """Runs the assessment that the command line asks for."""
    run_command(MissingTheMark, run, __doc__)


def run(config: MissingTheMark) -> Path:
    """Trains what is not trained yet, writes the results and prints the summary.

    Args:
        config: What to assess.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the config is no good.
    """

    def prepare() -> Callable[[RunFolder], None]:
        published = config.reference and read_accuracies(
            config.reference, model=config.model, dataset=config.dataset
        )
        run = Run(config, config.load())

        def fill(folder: RunFolder) -> None:
            run.train(folder)
            steps = run.static.steps_per_epoch
            write_results(config.dataset, config.model, run.plan, steps, published, folder)

        return fill

    return run_in_folder(config, prepare, rewrite=config.reference is not None)


class Run:
    """The programs of one assessment, and the stages in which they train its members."""

    def __init__(self, config: MissingTheMark, dataset: Dataset) -> None:
        """Puts the data on the device.

        Args:
            config: What to assess.
            dataset: What is learned.

        Raises:
            ValueError: If a pruning step lies outside the training.
        """
        recipe = config.resolved_recipe()
        steps = recipe.steps_per_epoch(len(dataset.train.labels) - recipe.validation_examples)
        self.config, self.plan = config, config.plan(steps)
        self.model = build_model(config.model, recipe, num_classes=dataset.num_classes)
        shapes = param_shapes(self.model, dataset)
        self.dataset = dataset_on_every_device(dataset, config.mesh())
        last = config.search_epochs * steps
        self.static = self._population(held_masks(shapes))
        self.search = self._population(held_random_masks(shapes, first=last - steps + 1, last=last))
        self.dissipating = self._population(dissipating_to(shapes, check_every=steps))
        # Scores are computed in full precision, from examples that are trained on.
        exact = dataclasses.replace(recipe, compute_dtype="float32")
        self.maker = MaskMaker(
            build_model(config.model, exact, num_classes=dataset.num_classes),
            dataclasses.replace(dataset, train=self.static.train_split),
            recipe,
        )

    def train(self, folder: RunFolder) -> None:
        """Trains all that is not trained yet, in the order in which stages need each other.

        Args:
            folder: Where finished members and the dense networks' snapshots are kept.

        Raises:
            ValueError: If snapshots of finished dense networks are gone.
        """
        plan, epochs = self.plan, self.plan.recipe.epochs
        dense = plan.dense()
        template = jax.eval_shape(self.static.start, stack_members([dense[0].member]))
        snapshots = Snapshots(folder, template)
        stops = sorted({*plan.steps, plan.rewind_step, epochs * self.static.steps_per_epoch} - {0})
        for named in dense:
            name = snapshot_name(named.columns["seed"])
            if named.name in folder.done() and not all(snapshots.has(name, stop) for stop in stops):
                raise ValueError(
                    f"the snapshots of {name} are gone from {folder.path}: start over with --fresh"
                )

        def keep(named: NamedMember, step: int, state: MemberState) -> None:
            snapshots.save(snapshot_name(named.columns["seed"]), step, state)

        observe = {epochs: observe_layers}
        first = [
            Stage(
                name="dense",
                population=self.static,
                members=dense,
                epochs=epochs,
                stops=stops,
                at_stop=keep,
                observe=observe,
            ),
            Stage(
                name="searches",
                population=self.search,
                members=plan.searches(),
                epochs=plan.search_epochs,
                observe={plan.search_epochs: observe_fitness},
            ),
            Stage(
                name="dissipation",
                population=self.dissipating,
                members=plan.dissipating(),
                epochs=epochs,
                observe=observe,
            ),
        ]
        states = StartingStates(
            plan,
            self.static,
            self.maker,
            snapshots,
            lambda: winners(folder, plan),
        )

        def static(name: str, members: list[NamedMember], step: int) -> Stage:
            return Stage(
                name=name,
                population=self.static,
                members=members,
                epochs=epochs,
                first_step=step,
                start=states.state,
                observe=observe,
            )

        later = [
            static("static masks", plan.at_start(), 0),
            static("rewound", plan.rewound(), plan.rewind_step),
            *(static(f"pruned at {step}", plan.pruned_at(step), step) for step in plan.steps),
        ]
        with training_progress(sum(stage.member_epochs for stage in (*first, *later))) as progress:
            for stage in (*first, *later):
                run_stage(stage, folder, progress, chunk_size=self.config.chunk_size)
        counts = {"static masks": self.static, "searches": self.search, "dissipation": self.dissipating}
        compiled = ", ".join(f"{name} {program.compilations}" for name, program in counts.items())
        print(f"training programs compiled: {compiled}")

    def _population(self, method: Any) -> Population:
        return Population(
            model=self.model,
            dataset=self.dataset,
            recipe=self.config.resolved_recipe(),
            method=method,
            mesh=self.config.mesh(),
        )


def winners(folder: RunFolder, plan: Plan) -> dict[tuple[int, float], int]:
    """The candidate of the highest combined fitness of each search.

    Args:
        folder: With the searches finished.
        plan: What was searched.

    Returns:
        (seed, sparsity) -> the candidate.
    """
    searches = fitted(folder.rows(), "search", plan.search_epochs)
    return {key: winner(found, "combined") for key, found in searches}


@jax.jit
def observe_layers(states: MemberState) -> dict[str, jax.Array]:
    """How many weights each layer keeps, shape (N,) each.

    Args:
        states: States with masks, leading axis N.

    Returns:
        ``kept`` and the layer's path -> the count.
    """
    masks = pruning.get_masks(states.opt_state)
    return {
        f"kept{jax.tree_util.keystr(path)}": mask.reshape(len(mask), -1).sum(axis=1)
        for path, mask in jax.tree_util.tree_leaves_with_path(masks)
    }


if __name__ == "__main__":
    main()
