"""Results as a table: one row a network and epoch, in today's words, whatever version has stored them.

``docs/results/README.md`` says what each column is.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.methods.method import When
from experiments.methods.point import DENSE, Point, point_of
from experiments.methods.registry import find_method, in_order
from experiments.methods.spelling import row_of_today
from experiments.methods.study import Study
from experiments.options.knobs import knobs_of
from experiments.options.training import Grid
from experiments.report.config import Settings, read_config, unequal
from experiments.report.paired import Pairs
from experiments.report.stored_rows import Row, read_results
from train.recipes import recipe_from

Table = Any
"""A pandas.DataFrame, whose own types say too little of its columns."""
KEPT, SIZE = "kept", "size"
"""Before a layer's path: columns of the weights that it keeps, and has."""
SWEEPS = {"learning_rates": "learning_rate", "weight_decays": "weight_decay"}
"""Options that train every network with each of their values, and the columns of these."""
EXAMPLES = {"digits": 1437, "mnist": 60_000, "cifar10": 50_000}
"""Training examples, for runs that were stored before they said how many steps an epoch has."""


def load(folder: str | Path) -> Table:
    """The results of a finished run.

    Args:
        folder: With results.parquet, and config.json where the parquet file is of an older version.

    Returns:
        The table; its ``attrs`` have the run's ``settings`` and ``facts``.

    Raises:
        ValueError: If there is no such run, it is not finished, or its files are damaged.
    """
    folder = Path(folder)
    path = folder / "results.parquet"
    if (folder / "parts").is_dir() and not path.exists():
        raise ValueError(
            f"the run in {folder} is not finished: the command that began it goes on, and then writes "
            "its results"
        )
    try:
        rows, run = read_results(path)
    except ValueError as error:
        raise ValueError(f"{path} {error}: expected the folder of a finished run") from error
    try:
        if run is None:
            _, settings = read_config(folder / "config.json")
            run = {"settings": settings, "facts": _facts_of(settings)}
        table = as_table([row_of_today(row, run["settings"]["experiment"]) for row in rows])
    except (OSError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} has not the results of a run ({error!r}): expected the folder of a finished run"
        ) from error
    if "methods" not in run["settings"]:  # Once an experiment had no option for them.
        run["settings"]["methods"] = [m for m in in_order(set(table["method"])) if m != DENSE]
    table.attrs = run
    return table


def as_table(rows: Iterable[Row]) -> Table:
    """Rows as a table, in the order of tables: by method, its networks, and epoch."""
    table: Table = pd.DataFrame(list(rows))
    whole = ["pruned_at_step", "round", "candidate", "seed", "epoch"]
    table = table.astype({name: "Int64" for name in whole if name in table})
    rank = {name: place for place, name in enumerate(in_order(table["method"].unique()))}
    by = [name for name in (*Point._fields, "epoch") if name in table]
    order = table.assign(method=table["method"].map(rank)).sort_values(by, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def as_rows(table: Table) -> list[Row]:
    """A table as rows; what is not known is None."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def merged(tables: Iterable[Table]) -> Table:
    """Several runs of one experiment, of other seeds or methods, as one table.

    A network that several of them trained counts once, as the first of them has it. Where one run has
    a sweep of learning rates or weight decays, networks of the recipe's own are a part of it.

    Raises:
        ValueError: If they differ in anything but methods, seeds and the grid.
    """
    tables = list(tables)
    for option, column in SWEEPS.items():
        swept = [table.attrs["settings"] for table in tables if table.attrs["settings"].get(option)]
        if swept:
            gates = swept[0].get("gate_learning_rate")
            tables = [_as_part_of_a_sweep(table, option, column, gates) for table in tables]
    settings = dict(tables[0].attrs["settings"])
    for other in tables[1:]:
        theirs = other.attrs["settings"]
        for name in dict.fromkeys((*settings, *theirs)):
            here, there = settings.get(name), theirs.get(name)
            if here == there:
                continue
            if name not in _MERGED:
                raise ValueError(
                    "expected runs of one experiment that differ in methods, seeds or grid alone, got "
                    + "; ".join(
                        f"{n} {a!r} and {b!r}" for n, a, b in unequal({name: here}, {name: there})
                    )
                )
            settings[name] = _united(here, there)
    seeds = {int(seed) for table in tables for seed in table["seed"]}
    settings |= {"seeds": len(seeds), "first_seed": min(seeds)}
    found: dict[tuple[str, int], Row] = {}
    for row in (row for table in tables for row in as_rows(table)):
        # The dense network, say, is in all of them.
        found.setdefault((row["member"], row["epoch"]), row)
    table = as_table(found.values())
    table.attrs = {"settings": settings, "facts": _united_facts(tables)}
    return table


def _as_part_of_a_sweep(table: Table, option: str, column: str, gates: float | None) -> Table:
    """A run, where it is of the recipe's own rate, as a sweep of this rate alone.

    Where gates follow the weights in the sweep (``gates`` is None), they do so here.
    """
    settings = table.attrs["settings"]
    if settings.get(option):
        return table
    own = settings["recipe"][column]
    rows = [row | {column: own} for row in as_rows(table)]
    found = as_table(row | {"member": point_of(row).name} for row in rows)
    changed: dict[str, Any] = {option: [own]}
    if column == "learning_rate" and gates is None and settings.get("gate_learning_rate") == own:
        changed["gate_learning_rate"] = None
    found.attrs = table.attrs | {"settings": settings | changed}
    return found


def _united_facts(tables: Iterable[Table]) -> dict[str, Any]:
    """What the data told any of the runs; of what several were told, the first one's word."""
    found: dict[str, Any] = {}
    for facts in (table.attrs["facts"] for table in tables):
        seconds = facts.get("mask_seconds", {}) | found.get("mask_seconds", {})
        found = facts | found | ({"mask_seconds": seconds} if seconds else {})
    return found


def _united(here: Any, there: Any) -> Any:
    """A setting of two runs in one: the items of both lists, of which one may be None, or the larger."""
    if isinstance(here, list) or isinstance(there, list):
        return list(dict.fromkeys((*(here or ()), *(there or ()))))
    return max(here or 0, there or 0)


_MERGED = {
    "methods",
    "seeds",
    "first_seed",
    "sparsities",
    "ablations",
    "steps",
    "step_sparsities",
    *SWEEPS,
    "starts",
    "stochastic_starts",
    "fractions",
}


@dataclass(frozen=True)
class Results:
    """A table, and what is asked of it again and again.

    Attributes:
        table: From ``load``.
    """

    table: Table

    @property
    def settings(self) -> Settings:
        """All that decided the results of the run, in today's words."""
        return self.table.attrs["settings"]

    @property
    def facts(self) -> dict[str, Any]:
        """What only the data told the run: how many steps an epoch has."""
        return self.table.attrs["facts"]

    @property
    def study(self) -> Study:
        """What all networks of the run have in common."""
        settings = self.settings
        recipe = recipe_from(settings["recipe"])
        return Study(
            recipe=recipe,
            steps_per_epoch=self.facts["steps_per_epoch"],
            knobs=knobs_of(settings),
            # Runs of older versions name only what their experiment used.
            prune_epochs=settings.get("prune_epochs", recipe.epochs),
            gate_learning_rate=settings.get("gate_learning_rate", recipe.learning_rate),
            grid=Grid(),
        )

    @property
    def epochs(self) -> int:
        """How many epochs a training has."""
        return self.settings["recipe"]["epochs"]

    @property
    def seeds(self) -> int:
        """How many seeds were asked for."""
        return self.settings["seeds"]

    @cached_property
    def methods(self) -> list[str]:
        """The methods of the run, in the order of tables and legends."""
        return in_order(set(self.settings["methods"]) & set(self.table["method"]))

    @cached_property
    def at_sparsities(self) -> list[str]:
        """The methods that prune to given sparsities."""
        return [method for method in self.methods if find_method(method).at_sparsities]

    @cached_property
    def of_own_sparsity(self) -> list[str]:
        """The methods that find their own sparsity; their networks have a setting in its place."""
        return [method for method in self.methods if not find_method(method).at_sparsities]

    @cached_property
    def sparsities(self) -> list[float]:
        """The sparsities that were asked for, rising; none where all methods find their own."""
        return sorted(self.settings.get("sparsities", ()))

    @cached_property
    def final(self) -> Table:
        """The last epoch of the networks that methods are judged by, the dense one among them."""
        table = self.table
        return table[(table["epoch"] == table["epoch"].max()) & table["candidate"].isna()]

    @property
    def title(self) -> str:
        """Of figures and summaries: "lenet-5 on mnist, 3 seeds, 16 epochs"."""
        where = f"{self.settings['model']} on {self.settings['dataset']}"
        trained = f", {counted(self.epochs, 'epoch')}" if self.table["epoch"].max() > 0 else ""
        return f"{where}, {counted(self.seeds, 'seed')}{trained}"

    def has(self, *methods: str) -> bool:
        """Whether the run has all of these methods."""
        return set(methods) <= set(self.methods)

    def of(self, method: str, variant: str = "none", step: int | None = None) -> Table:
        """The final rows of a method.

        Args:
            method: Its name.
            variant: An ablation of the method, or "none".
            step: Where it pruned; None for its own place: initialization, or for methods after training
                wherever they go on from.
        """
        rows = self.final[(self.final["method"] == method) & (self.final["variant"] == variant)]
        if step is not None:
            return rows[rows["pruned_at_step"] == step]
        at_init = find_method(method).when is When.BEFORE
        return rows[rows["pruned_at_step"] == 0] if at_init else rows

    def accuracy(self, method: str, variant: str = "none", step: int | None = None) -> Pairs:
        """Final test accuracy (fraction; NaN where training failed) by (seed, sparsity)."""
        rows = self.of(method, variant, step)
        accuracies = rows["test_accuracy"].mask(rows["failed"].astype(bool))
        keys = zip(rows["seed"].astype(int), rows["sparsity_target"], strict=True)
        return dict(zip(keys, accuracies.astype(float), strict=True))

    def dense(self) -> list[float]:
        """Final test accuracies of the dense networks, a seed each."""
        return list(self.accuracy(DENSE).values())

    def diverged(self) -> list[str]:
        """The names of networks whose training has failed."""
        failed = self.final[self.final["failed"].astype(bool)]
        return sorted(failed["member"])


def counted(count: int, what: str) -> str:
    """A count with its noun, given in the singular: "1 seed", "3 seeds"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def label(method: str, variant: str = "none") -> str:
    """What a method, or a variant of it, is called in tables and legends."""
    name = find_method(method).look.label
    return name if variant == "none" else f"{name}, {variant}"


def layer_name(path: str) -> str:
    """A kernel's path as a reader knows the layer: "stage1/block1/conv1"."""
    return "/".join(re.findall(r"\['(.+?)'\]", path)).removesuffix("/kernel") or path


def _facts_of(settings: Settings) -> dict[str, Any]:
    """What the data told a run that was stored without it."""
    if "recipe" not in settings:
        return {}
    recipe = settings["recipe"]
    examples = EXAMPLES.get(settings["dataset"].split(":")[0])
    if examples is None:
        return {}
    examples -= recipe["validation_examples"]
    return {"steps_per_epoch": -(-examples // recipe["batch_size"])}
