"""K-starts, dissipating gradients and their combination against random pruning and the dense network.

    python -m experiments.compare
    python -m experiments.compare --dataset mnist --model lenet-300-100 --data-dir DIR \
        --sparsities 0.8 0.9 0.95 0.98 0.99 --seeds 10 --k 16 --epochs 10

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100; the second and its
result: docs/results/compare-mnist. Interrupted, the same command goes on where it was; finished, it
prints the stored summary.

Every member of one seed shares initial weights and data order. K-starts trains all k candidates to
the end, so that the winner of each fitness, their mean and the best of them after full training come
from the same networks; only what the fitness saw after the search's epochs chooses the winner. The
combination searches at sparsity 1 - sqrt(1 - s), so that K-starts and dissipation remove the same
fraction of what they find.

Source: Haroon 2022 (arXiv 2209.02201).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compare_plan import Plan, Programs, make_programs
from experiments.compare_report import write_results
from experiments.compare_search import fitted, winner
from experiments.option_checks import check_counts, check_finite, check_sparsities
from experiments.options import TrainingOptions, run_command, run_in_folder
from experiments.programs import observe_fitness
from experiments.run_folder import RunFolder
from experiments.stages import Stage, run_stage
from train.populations.progress import training_progress
from train.recipes import build_model


@dataclass(frozen=True, kw_only=True)
class Compare(TrainingOptions):
    """Compare K-starts, dissipating gradients and their combination with random pruning."""

    experiment = "compare"

    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98)
    """fractions of the prunable weights to remove"""
    seeds: int = 5
    """independent repetitions: initial weights, data order, masks"""
    k: int = 8
    """candidates of each K-starts search"""
    search_epochs: int = 2
    """epochs after which the fittest candidate is chosen"""
    fractions: tuple[float, ...] = (0.1, 0.3, 1.0)
    """bands of dissipating gradients, as fractions of the initial weight"""
    dissipate_epochs: int | None = None
    """weights dissipate at the end of each of so many first epochs; by default half of all"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_sparsities(self, "sparsities")
        check_counts(self, "seeds", "k", "search_epochs")
        check_finite(self, "fractions")
        if any(not fraction >= 0 for fraction in self.fractions):
            raise ValueError(f"expected --fractions >= 0, got {self.fractions}")
        if len({f"{fraction:g}" for fraction in self.fractions}) < len(self.fractions):
            raise ValueError(f"expected different --fractions, got {self.fractions}")
        epochs, dissipate = self.resolved_recipe().epochs, self.resolved_dissipate_epochs()
        if not self.search_epochs < dissipate <= epochs:
            raise ValueError(
                "expected --search-epochs < --dissipate-epochs <= --epochs, got "
                f"{self.search_epochs}, {dissipate}, {epochs}: the combination dissipates after its "
                "search and before the end"
            )

    def resolved_dissipate_epochs(self) -> int:
        """The epochs at whose end weights dissipate."""
        if self.dissipate_epochs is not None:
            return self.dissipate_epochs
        epochs = self.resolved_recipe().epochs
        return min(epochs, max(epochs // 2, self.search_epochs + 1))

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        return super().settings() | {"dissipate_epochs": self.resolved_dissipate_epochs()}


def main() -> None:
    """Runs the comparison that the command line asks for."""
    run_command(Compare, run, __doc__)


def run(config: Compare) -> Path:
    """Trains what is not trained yet, writes the results and prints the summary.

    Args:
        config: What to compare.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the config is no good.
    """
    plan = _plan(config)

    def prepare() -> Callable[[RunFolder], None]:
        programs = _programs(config, plan)

        def fill(folder: RunFolder) -> None:
            _train(config, plan, programs, folder)
            write_results(config.dataset, config.model, plan, folder)

        return fill

    return run_in_folder(config, prepare)


def _plan(config: Compare) -> Plan:
    return Plan(
        sparsities=config.sparsities,
        seeds=config.seeds,
        k=config.k,
        search_epochs=config.search_epochs,
        fractions=config.fractions,
        dissipate_epochs=config.resolved_dissipate_epochs(),
        recipe=config.resolved_recipe(),
    )


def _programs(config: Compare, plan: Plan) -> Programs:
    dataset = config.load()
    model = build_model(config.model, plan.recipe, num_classes=dataset.num_classes)
    return make_programs(model, dataset, plan, config.mesh())


def _train(config: Compare, plan: Plan, programs: Programs, folder: RunFolder) -> None:
    """The stages, in order; the later ones begin from the winners that the earlier ones found."""
    epochs, search = plan.recipe.epochs, plan.search_epochs
    observe = {search: observe_fitness}
    static, searches = plan.static(), plan.combination_searches()
    others = plan.seeds * len(plan.sparsities) * 4 + len(bands := plan.bands())
    total = (len(static) + others) * epochs + len(searches) * search
    with training_progress(total) as progress:

        def train(name: str, population: Any, members: Any, length: int, observe: Any) -> None:
            stage = Stage(
                name=name, population=population, members=members, epochs=length, observe=observe
            )
            run_stage(stage, folder, progress, chunk_size=config.chunk_size)

        train("candidates", programs.static, static, epochs, observe)
        train("searches", programs.static, searches, search, observe)
        rows = folder.rows()
        chosen = {key: winner(found, "combined") for key, found in fitted(rows, "candidate", search)}
        train("retraining", programs.static, plan.retrained(chosen), epochs, {})
        train("dissipation", programs.band, bands, epochs, {})
        chosen = {key: winner(found, "combined") for key, found in fitted(rows, "search", search)}
        train("dissipation to target", programs.target, plan.targets(chosen), epochs, {})
    compiled = sum(program.compilations for program in programs)
    print(f"training programs compiled: {compiled}")


if __name__ == "__main__":
    main()
