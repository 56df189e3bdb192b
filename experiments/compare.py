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

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.compare_plan import Plan, Programs, make_programs
from experiments.compare_report import write_results
from experiments.compare_search import fitted, winner
from experiments.programs import observe_fitness
from experiments.run_folder import RunFolder, identity, is_finished
from experiments.stages import Stage, run_stage
from pruning.counting import check_sparsity
from train.data import load_dataset
from train.models import find_model
from train.progress import training_progress
from train.recipes import RECIPES, Recipe, build_model, default_recipe, lookup


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare K-starts, dissipating gradients and their combination with random pruning."""

    dataset: str = "digits"
    """digits (embedded), or any TFDS image-classification set, such as mnist or cifar10:3.0.2"""
    model: str = "lenet-300-100"
    """lenet-300-100, lenet-5, conv-2, conv-4 or conv-6"""
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
    recipe: str | None = None
    """a name in train.recipes.RECIPES; by default the one that fits the data set"""
    epochs: int | None = None
    """length of a training; by default the recipe's"""
    data_dir: Path | None = None
    """where TFDS sets are prepared; by default $TFDS_DATA_DIR, then ~/tensorflow_datasets"""
    out_dir: Path | None = None
    """where results go; by default runs/compare-DATASET-MODEL-HASH"""
    fresh: bool = False
    """start over instead of continuing what the output folder holds"""
    chunk_size: int = 32
    """networks that train together; a killed run repeats at most these"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        find_model(self.model)
        if not self.sparsities:
            raise ValueError("expected at least one sparsity in --sparsities")
        for sparsity in self.sparsities:
            check_sparsity(sparsity, "every one of --sparsities")
        if len(set(self.sparsities)) < len(self.sparsities):
            raise ValueError(f"expected different --sparsities, got {self.sparsities}")
        for name in ("seeds", "k", "search_epochs", "chunk_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"expected --{option} >= 1, got {getattr(self, name)}")
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

    def resolved_recipe(self) -> Recipe:
        """The recipe with its overrides."""
        recipe = lookup(RECIPES, self.recipe or default_recipe(self.dataset), "recipe")
        return recipe if self.epochs is None else recipe.of_length(self.epochs)

    def resolved_dissipate_epochs(self) -> int:
        """The epochs at whose end weights dissipate."""
        if self.dissipate_epochs is not None:
            return self.dissipate_epochs
        epochs = self.resolved_recipe().epochs
        return min(epochs, max(epochs // 2, self.search_epochs + 1))

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        fields = ("dataset", "model", "sparsities", "seeds", "k", "search_epochs", "fractions")
        return (
            {"experiment": "compare"}
            | {name: getattr(self, name) for name in fields}
            | {
                "dissipate_epochs": self.resolved_dissipate_epochs(),
                "recipe": dataclasses.asdict(self.resolved_recipe()),
            }
        )


def main() -> None:
    """Runs the comparison that the command line asks for."""
    try:
        run(tyro.cli(Compare, description=__doc__))
    except ValueError as error:
        sys.exit(f"error: {error}")


def run(config: Compare) -> Path:
    """Trains what is not trained yet, writes the results and prints the summary.

    Args:
        config: What to compare.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the config is no good.
    """
    settings = config.settings()
    name = f"compare-{config.dataset}-{config.model}".replace(":", "-").replace("/", "-")
    path = config.out_dir or Path("runs") / f"{name}-{identity(settings)}"
    plan = _plan(config)
    # The data come first: a misspelt name must not leave a folder behind.
    programs = None if is_finished(path) and not config.fresh else _programs(config, plan)
    folder = RunFolder(path, settings, fresh=config.fresh)
    if programs is not None:
        _train(config, plan, programs, folder)
        write_results(config.dataset, config.model, plan, folder)
    print((path / "summary.md").read_text())
    print(f"results in {path}")
    return path


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
    dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    model = build_model(config.model, plan.recipe, num_classes=dataset.num_classes)
    return make_programs(model, dataset, plan)


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
