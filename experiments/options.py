"""What the experiments' command lines share: their common options, and a run in its folder."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro
from jax.sharding import Mesh

from experiments.compiled_programs import keep_compiled_programs
from experiments.endings import errors_in_one_line
from experiments.option_checks import MOST_EPOCHS, check_counts, check_stored
from experiments.processes import is_first, join, wait_for_all
from experiments.run_folder import RunFolder, identity, is_finished
from train.data.datasets import Dataset, load_dataset
from train.lowering import LOWERINGS, lowered
from train.models import find_model
from train.populations.devices import check_devices, device_mesh
from train.recipes import RECIPES, Recipe, default_recipe, lookup


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every experiment."""

    experiment: ClassVar[str]
    # They decide where and how, not what comes out; the recipe is resolved.
    without_effect: ClassVar[tuple[str, ...]] = (
        "data_dir",
        "out_dir",
        "fresh",
        "stream",
        "lowering",
        "recipe",
        "coordinator_address",
        "num_processes",
        "process_id",
    )

    dataset: str = "digits"
    """digits (embedded), or any TFDS image-classification set, such as mnist or cifar10:3.0.2"""
    model: str = "lenet-300-100"
    """a name of train.models, such as lenet-5, resnet-20 or vgg-16"""
    recipe: str | None = None
    """a name in train.recipes.RECIPES; by default the one that fits the data set"""
    data_dir: Path | None = None
    """where TFDS sets are prepared; by default $TFDS_DATA_DIR, then ~/tensorflow_datasets"""
    out_dir: Path | None = None
    """where results go; by default runs/EXPERIMENT-DATASET-MODEL-HASH"""
    stream: bool = False
    """read images from disk while networks train, as is done in any case with sets of more than 8 GiB,
    instead of keeping them on the device"""
    lowering: str | None = None
    """how networks are computed, a name in train.lowering.LOWERINGS; by default as suits the platform"""
    fresh: bool = False
    """start over instead of continuing what the output folder holds"""
    coordinator_address: str | None = None
    """of several processes: HOST:PORT of the first; found on Slurm and TPU pods"""
    num_processes: int | None = None
    """of several processes: how many; found likewise"""
    process_id: int | None = None
    """of several processes: which this one is, from 0; found likewise"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        find_model(self.model)
        self.resolved_recipe()
        if self.lowering is not None:
            lookup(LOWERINGS, self.lowering, "lowering")
        check_stored(self.dataset, stream=self.stream)

    def resolved_recipe(self) -> Recipe:
        """The recipe, with its overrides."""
        name = default_recipe(self.dataset) if self.recipe is None else self.recipe
        return lookup(RECIPES, name, "recipe")

    def load(self) -> Dataset:
        """The data set, where it was prepared; raises a ValueError if it cannot be read."""
        size = self.resolved_recipe().image_size
        return load_dataset(self.dataset, data_dir=self.data_dir, stream=self.stream, image_size=size)

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in self.without_effect
        }
        recipe = dataclasses.asdict(self.resolved_recipe())
        return {"experiment": self.experiment} | fields | {"recipe": recipe}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """The options of experiments that train."""

    without_effect: ClassVar[tuple[str, ...]] = (
        *Options.without_effect,
        "chunk_size",
        "devices_per_network",
        "epochs",
    )

    epochs: int | None = None
    """length of a training, its schedule in proportion; by default the recipe's"""
    chunk_size: int | None = None
    """networks that train together; a killed run repeats at most ten minutes of these; by default 32 on
    CPUs and 256 elsewhere, or as many as fit into memory"""
    devices_per_network: int = 1
    """devices that each network's batches are divided over, for networks too large for one"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_counts(self, "devices_per_network", "chunk_size")
        check_counts(self, "epochs", most=MOST_EPOCHS)

    def mesh(self) -> Mesh:
        """The devices; raises a ValueError if they cannot be divided as asked."""
        return device_mesh(devices_per_member=self.devices_per_network)

    def resolved_recipe(self) -> Recipe:
        """The recipe, with its overrides."""
        recipe = super().resolved_recipe()
        return recipe if self.epochs is None else recipe.of_length(self.epochs)


def counted(count: int, what: str) -> str:
    """A count with its noun: "1 seed", "3 seeds".

    Args:
        count: How many.
        what: The noun, in the singular.
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def run_command(options: type[Any], run: Callable[[Any], object], description: str | None) -> None:
    """Runs an experiment with the options of the command line; a user's mistake ends it in one line.

    Compiled programs are kept for the next run (``experiments.compiled_programs``).

    Args:
        options: The dataclass of the options.
        run: Takes an instance of it.
        description: What ``--help`` says.
    """
    goes_on = issubclass(options, Options)
    with errors_in_one_line(
        "; what is finished is stored, and the same command goes on" if goes_on else ""
    ):
        keep_compiled_programs()
        parsed = tyro.cli(options, description=description)
        if isinstance(parsed, Options):
            join(parsed.coordinator_address, parsed.num_processes, parsed.process_id)
        check_devices()
        chosen = getattr(parsed, "lowering", None)
        with nullcontext() if chosen is None else lowered(lookup(LOWERINGS, chosen, "lowering")):
            run(parsed)


def run_in_folder(
    options: Options, prepare: Callable[[], Callable[[RunFolder], None]], *, rewrite: bool = False
) -> Path:
    """Does what is not done yet, and prints the summary.

    Args:
        options: Of the experiment.
        prepare: Reads the data and says how to fill the folder; called before there is a folder, so
            that a misspelt name does not leave one behind, and not at all for a finished run.
        rewrite: Whether the results of a finished run are written again.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the options are no good.
    """
    settings = options.settings()
    parts = (options.experiment.replace("_", "-"), options.dataset, options.model, identity(settings))
    path = options.out_dir or Path("runs") / "-".join(parts).replace(":", "-").replace("/", "-")
    with _readable(path):
        unfinished = options.fresh or rewrite or not is_finished(path)
    if isinstance(options, TrainingOptions):
        options.mesh()  # Before what takes long.
    # The first one reads the data; what it keeps decoded is there for the others.
    fill = prepare() if unfinished and is_first() else None
    wait_for_all()
    if unfinished and fill is None:
        fill = prepare()
    wait_for_all()  # All have seen what there is before the first one changes it.
    folder = RunFolder(path, settings, fresh=options.fresh) if is_first() else None
    wait_for_all()
    folder = folder or RunFolder(path, settings, fresh=False)
    if fill is not None:
        fill(folder)
    if is_first():
        folder.forget_unfinished()
        with _readable(path):
            summary = (path / "summary.md").read_text(encoding="utf-8")
        print(summary)
        print(f"results in {path}")
    return path


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Reports what cannot be read of an output folder as what it is to the user: one that will not do."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"cannot read the output folder {path}: {error}; choose another with --out-dir"
        ) from error
