"""Lottery tickets: Continuous Sparsification against iterative magnitude pruning, and what each costs.

    python -m experiments.ticket_search
    python -m experiments.ticket_search --dataset mnist --model lenet-300-100 --data-dir DIR --seeds 5

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100; the second and its
result: docs/results/ticket-search-mnist. Interrupted, the same command goes on after the last finished
round; finished, it prints the stored summary.

All networks of a seed share initial weights and data order. Networks with masks are members of one
compiled program, networks with gates of another: rounds, seeds and starts of the gates are data.

- ``imp``: rounds of train, remove a fraction of what is left, rewind to an early step of the dense
  network. The ticket's accuracy is that of the next round's training.
- ``imp-continued``: no rewinding between rounds; each round's ticket is rewound and trained by itself.
- ``learning-rate-rewinding``: no rewinding at all, only the schedule begins anew.
- ``imp-reinit``: imp's tickets with other initial weights, trained from step 0.
- ``cs-parallel``: one round of Continuous Sparsification for each start of the gates, side by side.
- ``cs-sequential``: several rounds from one start. CS tickets are rewound to an early step of their own
  search and trained by themselves, under plain masks (the authors' code divides them by sigmoid(s0)); a
  ticket that leaves nothing of a layer is not trained, and ends its chain.

Rewound networks begin with a new optimizer at their place in the schedule, so that a ticket's file (its
masks, where its weights are, its settings) is all that ``experiments.train_ticket`` needs.

Source: Savarese et al. 2020 (arXiv 1912.04427); Frankle and Carbin 2019 (arXiv 1803.03635); Renda et
al. 2020 (arXiv 2003.02389).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.options import run_command, run_in_folder
from experiments.programs import held_masks, param_shapes
from experiments.run_folder import Row, RunFolder
from experiments.soft_programs import continuous_sparsification, gated_optimizer
from experiments.stages import NamedMember, Stage, chunk_that_fits, run_stage
from experiments.ticket_options import TicketSearch
from experiments.ticket_plan import place_of
from experiments.ticket_report import write_results
from experiments.ticket_states import TicketStates
from train.data.datasets import Dataset
from train.populations.devices import dataset_on_every_device
from train.populations.population import Population
from train.populations.progress import TrainingProgress, training_progress
from train.recipes import build_model


def main() -> None:
    """Runs what the command line asks for."""
    run_command(TicketSearch, run, __doc__)


def run(config: TicketSearch) -> Path:
    """Searches what is not searched yet, writes the results and prints the summary.

    Args:
        config: What to search.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the config is no good.
    """

    def prepare() -> Callable[[RunFolder], None]:
        search = Search(config, config.load())

        def fill(folder: RunFolder) -> None:
            search.train(folder)
            write_results(config.dataset, config.model, search.plan, folder)

        return fill

    return run_in_folder(config, prepare)


class Search:
    """The two programs of a search, and the rounds in which they train its networks."""

    def __init__(self, config: TicketSearch, dataset: Dataset) -> None:
        """Puts the data on the device.

        Args:
            config: What to search.
            dataset: What is learned.

        Raises:
            ValueError: If the rewinding step lies outside the training.
        """
        recipe = config.resolved_recipe()
        steps = recipe.steps_per_epoch(len(dataset.train.labels) - recipe.validation_examples)
        self.config, self.plan = config, config.plan(steps)
        model = build_model(config.model, recipe, num_classes=dataset.num_classes)
        dataset = dataset_on_every_device(dataset, config.mesh())
        self.static = Population(
            model=model,
            dataset=dataset,
            recipe=recipe,
            method=held_masks(param_shapes(model, dataset)),
            mesh=config.mesh(),
        )
        self.soft = Population(
            model=model,
            dataset=dataset,
            recipe=recipe,
            method=gated_optimizer(recipe, steps_per_epoch=steps),
            reparametrization=continuous_sparsification(
                config.final_temperature, epochs=recipe.epochs, steps_per_epoch=steps
            ),
            mesh=config.mesh(),
        )

    def train(self, folder: RunFolder) -> None:
        """Trains all that is not trained yet, round by round.

        Args:
            folder: Where finished networks, snapshots and tickets are kept.

        Raises:
            ValueError: If snapshots of finished networks are gone.
        """
        plan = self.plan
        # One size for both programs: a ticket's file says with how many others it was trained.
        size = self.config.chunk_size or min(
            chunk_that_fits(self.static, plan.dense()[0].member),
            chunk_that_fits(self.soft, plan.gated(1, 0.0, 0).member),
        )
        states = TicketStates(plan, self.static, self.soft, folder, chunk_size=size)
        states.save_initial()
        early, last = plan.rewind_step, plan.last_step
        with training_progress(plan.member_epochs) as progress:

            def train(members: list[NamedMember], population: Population, **knobs: Any) -> None:
                stage = Stage(
                    name=f"{members[0].columns['method']}, round {members[0].columns['round']}",
                    population=population,
                    members=members,
                    epochs=plan.recipe.epochs,
                    at_stop=states.keep,
                    **knobs,
                )
                run_stage(stage, folder, progress, chunk_size=size)

            def train_masked(members: list[NamedMember]) -> None:
                """Networks that begin at the same step train together."""
                groups: dict[int, list[NamedMember]] = {}
                for named in self._useful(members, states, folder, progress):
                    groups.setdefault(plan.start_of(named).step, []).append(named)
                for step, group in groups.items():
                    train(group, self.static, first_step=step, start=states.start, stops=(last,))

            train(plan.dense(), self.static, stops=_after_start(early, last))
            for round in range(1, plan.rounds + 1):
                train_masked(plan.iterative(round))
            for round in range(1, plan.soft_rounds + 1):
                if round == 1:
                    train(plan.searches(1), self.soft, stops=_after_start(early, last))
                elif members := self._useful(plan.searches(round), states, folder, progress):
                    train(members, self.soft, start=states.soft_start, stops=(last,))
            train_masked(plan.tickets())
        counts = f"networks with masks {self.static.compilations}, with gates {self.soft.compilations}"
        print(f"training programs compiled: {counts}")

    def _useful(
        self,
        members: list[NamedMember],
        states: TicketStates,
        folder: RunFolder,
        progress: TrainingProgress,
    ) -> list[NamedMember]:
        """Those that it makes sense to train; of the others the folder keeps the reason."""
        rows = folder.rows()
        done = {row["member"] for row in rows}
        ended = {place_of(row) for row in rows if row.get("untrained_because")}
        useful = []
        for named in members:
            reason = None if named.name in done else states.why_useless(named, ended)
            if reason is not None:
                folder.save_part([_untrained(named, reason)])
            if reason is None and place_of(named.columns) not in ended:
                useful.append(named)
            else:
                progress.skip(self.plan.recipe.epochs)
        return useful


def _after_start(*steps: int) -> tuple[int, ...]:
    return tuple(step for step in steps if step > 0)


def _untrained(named: NamedMember, reason: str) -> Row:
    return {
        "member": named.name,
        **named.columns,
        "epoch": 0,
        "train_loss": None,
        "sparsity": None,
        "test_loss": None,
        "test_accuracy": None,
        "failed": True,
        "seconds": 0.0,
        "untrained_because": reason,
    }


if __name__ == "__main__":
    main()
