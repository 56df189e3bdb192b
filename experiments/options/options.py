"""The options of every experiment: data, model, recipe, and where results go."""

import dataclasses
import enum
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from experiments.options.checks import check_stored
from train import recipes
from train.data.datasets import Dataset, load_dataset
from train.lookup import lookup
from train.lowering import LOWERINGS
from train.models import MODELS, find_model
from train.named_recipes import RECIPES, default_recipe
from train.recipes import Recipe


class NotReplaced(enum.Enum):
    """In the place of a field's value, which may be None: what the recipe has stays."""

    AS_IN_RECIPE = enum.auto()


def _not_replaced(hint: Any) -> tuple[Any, Any]:
    shown = tyro.conf.arg(help_behavior_hint="(default: as in the recipe)")
    return Annotated[hint | NotReplaced, shown], field(default=NotReplaced.AS_IN_RECIPE)


RecipeFields: Any = dataclasses.make_dataclass(
    "RecipeFields",
    [(name, *_not_replaced(hint)) for name, hint in typing.get_type_hints(Recipe).items()],
    frozen=True,
    kw_only=True,
)


def _of_recipes() -> str:
    """What ``--help`` says of the fields: the recipe's own words, with the names that can be given."""
    _, _, fields = (Recipe.__doc__ or "").partition("\n")
    named = re.sub(r"A name in ``(\w+)``", lambda m: ", ".join(getattr(recipes, m[1])), fields)
    return f"Fields of the recipe to replace; by default none.\n{named.replace('``', '')}"


RecipeFields.__doc__ = _of_recipes()


@dataclass(frozen=True, kw_only=True)
class Plumbing:
    """How a run is executed; none of it decides what comes out."""

    stream: bool = False
    """read images from disk while networks train, as is done in any case with sets of more than 8 GiB,
    instead of keeping them on the device"""
    lowering: Annotated[
        str | None,
        tyro.conf.arg(
            help=f"how networks are computed: {', '.join(LOWERINGS)}; by default as suits the platform"
        ),
    ] = None
    coordinator_address: str | None = None
    """of several processes: HOST:PORT of the first; found on Slurm and TPU pods"""
    num_processes: int | None = None
    """of several processes: how many; found likewise"""
    process_id: int | None = None
    """of several processes: which this one is, from 0; found likewise"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        if self.lowering is not None:
            lookup(LOWERINGS, self.lowering, "lowering")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every experiment."""

    experiment: ClassVar[str]
    # They decide where and how, not what comes out; the recipe is resolved.
    without_effect: ClassVar[tuple[str, ...]] = (
        "data_dir",
        "out_dir",
        "fresh",
        "recipe",
        "recipe_fields",
        "plumbing",
    )

    dataset: str = "digits"
    """digits (embedded), or any TFDS image-classification set, such as mnist or cifar10:3.0.2"""
    model: Annotated[
        str, tyro.conf.arg(help=f"{', '.join(MODELS)}, or a wide residual network: wide-resnet-28-10")
    ] = "lenet-300-100"
    recipe: Annotated[
        str | None,
        tyro.conf.arg(help=f"{', '.join(RECIPES)}; by default the one that fits the data set"),
    ] = None
    data_dir: Path | None = None
    """where TFDS sets are prepared; by default $TFDS_DATA_DIR, then ~/tensorflow_datasets"""
    out_dir: Path | None = None
    """where results go; by default runs/EXPERIMENT-DATASET-MODEL-HASH"""
    fresh: bool = False
    """start over instead of continuing what the output folder holds"""
    recipe_fields: Annotated[Any, tyro.conf.arg(name="recipe", constructor=RecipeFields)] = field(
        default_factory=RecipeFields
    )
    plumbing: tyro.conf.OmitArgPrefixes[Plumbing] = field(default_factory=Plumbing)

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        find_model(self.model)
        self._check_fields_matter()
        check_stored(self.dataset, stream=self.plumbing.stream)

    def resolved_recipe(self) -> Recipe:
        """The recipe, with its overrides."""
        name = default_recipe(self.dataset) if self.recipe is None else self.recipe
        return dataclasses.replace(self._of_length(lookup(RECIPES, name, "recipe")), **self.replaced())

    def load(self) -> Dataset:
        """The data set, where it was prepared; raises a ValueError if it cannot be read."""
        size = self.resolved_recipe().image_size
        stream = self.plumbing.stream
        return load_dataset(self.dataset, data_dir=self.data_dir, stream=stream, image_size=size)

    def replaced(self) -> dict[str, Any]:
        """The fields of the recipe that were given, by name."""
        given = vars(self.recipe_fields)
        return {name: value for name, value in given.items() if not isinstance(value, NotReplaced)}

    def settings(self) -> dict[str, Any]:
        """All that decides the results, by name, resolved; the recipe in a dictionary of its own."""
        recipe = dataclasses.asdict(self.resolved_recipe())
        return {"experiment": self.experiment} | self.given() | {"recipe": recipe}

    def chosen(self) -> dict[str, Any]:
        """The settings that differ from their defaults; those of the recipe from the data set's own."""
        usual = self.defaults()
        chosen = {name: value for name, value in self.given().items() if value != usual[name]}
        recipe, other = self.resolved_recipe(), RECIPES[default_recipe(self.dataset)]
        for name, value in vars(recipe).items():
            if value != getattr(other, name):
                chosen[f"recipe.{name}"] = value
        return chosen

    def given(self) -> dict[str, Any]:
        """The options that decide the results, as they were given; the recipe's not among them."""
        return {name: getattr(self, name) for name in self._deciding()}

    def defaults(self) -> dict[str, Any]:
        """What they are by default."""
        return {name: default_of(field) for name, field in self._deciding().items()}

    def where_unnamed(self) -> dict[str, Any]:
        """What a stored run that does not name a setting had, of those that are not as by default here.

        The others are what they are here: their defaults, or what follows from other settings.
        """
        chosen = self.chosen()
        return {name: value for name, value in self.defaults().items() if name in chosen}

    def _deciding(self) -> dict[str, Any]:
        fields = {field.name: field for field in dataclasses.fields(self)}
        return {name: fields[name] for name in fields if name not in self.without_effect}

    def _check_fields_matter(self) -> None:
        """Raises a ValueError if the recipe is wrong, or one of the fields given for it does nothing."""
        given, recipe = self.replaced(), self.resolved_recipe()
        idle = {
            "momentum": (recipe.optimizer != "sgd", f"the optimizer is {recipe.optimizer}"),
            "nesterov": (
                recipe.optimizer != "sgd" or not recipe.momentum,
                "only SGD with --recipe.momentum has it",
            ),
            "drop_factor": (not recipe.drop_epochs, "the recipe has no --recipe.drop-epochs"),
        }
        for name, (is_idle, because) in idle.items():
            if is_idle and given.get(name):
                raise ValueError(f"--recipe.{name.replace('_', '-')} would do nothing: {because}")

    def _of_length(self, recipe: Recipe) -> Recipe:
        return recipe


def default_of(field: Any) -> Any:
    """The default of a dataclass's field."""
    made = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if made else field.default


def own_first(options: Any) -> Any:
    """Sorts the fields of a dataclass as ``--help`` shows them: its own first, the plumbing last."""
    fields = options.__dataclass_fields__
    own = [name for name in options.__annotations__ if name in fields]
    inherited = [name for name in fields if name not in (*own, "plumbing")]
    options.__dataclass_fields__ = {name: fields[name] for name in (*own, *inherited, "plumbing")}
    return options
