"""What a method is: the one definition from which every experiment, figure and table takes it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from experiments.methods.mask_maker import MaskMaker
from experiments.methods.point import Need, Point
from experiments.methods.programs import STATIC, Observed, Program
from experiments.methods.ranking import Seen
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations.population import MemberState

PyTree = Any


class When(StrEnum):
    """When a method decides what is pruned."""

    BEFORE = "before training"
    DURING = "during training"
    AFTER = "after training"


class Look(NamedTuple):
    """How a method looks on every figure.

    Attributes:
        label: The name in legends, written as in the papers.
        colour: Hexadecimal.
        marker: Matplotlib's.
    """

    label: str
    colour: str
    marker: str


class Given(Protocol):
    """What the engine gives a network that is about to begin: other networks, and places to begin at."""

    study: Study
    maker: MaskMaker

    def initial(self, seed: int, draw: str = "init") -> MemberState:
        """The dense network of a seed at step 0, its weights drawn with one of the seed's keys."""
        ...

    def state(self, need: Need) -> MemberState:
        """The state of another network at a step."""
        ...

    def rows(self, point: Point) -> list[dict[str, Any]]:
        """The rows of a finished network, by epoch."""
        ...

    def seen(self, need: Need) -> Seen:
        """What a score may see of a dense network and of the data."""
        ...

    def kept_masks(self, point: Point, make: Callable[[], PyTree]) -> PyTree:
        """The masks of a point; made once, where others use them soon after."""
        ...

    def begin(
        self, point: Point, trained: PyTree, batch_stats: PyTree, masks: PyTree = None, step: int = 0
    ) -> MemberState:
        """The state of a network that begins with given weights and a new optimizer, at a step."""
        ...

    def save_ticket(self, point: Point, masks: PyTree, weights: Need | None, step: int) -> None:
        """Stores a mask, and where its weights are; None for other initial weights of the seed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method; what most of them do not need has a default.

    Attributes:
        name: Its one spelling, on command lines and in tables.
        look: On figures.
        when: It decides what is pruned.
        functions: Of ``pruning`` that it is made of.
        source: The paper.
        choices: What paper and code leave open or disagree about, and what is done here; plain sentences.
        program: What trains its networks.
        ablations: Variants that make sense.
        at_sparsities: Whether it prunes to given sparsities; otherwise it finds its own.
        in_rounds: Whether it searches for tickets in rounds, networks begetting networks.
        has_gates: Whether gates, or scores, are trained beside the weights.
        in_first_epochs: Whether its masks change in the first ``--prune-epochs`` alone.
    """

    name: str
    look: Look
    when: When
    functions: tuple[str, ...]
    source: str
    choices: str = ""
    program: Program = STATIC
    ablations: tuple[str, ...] = ()
    at_sparsities: bool = True
    in_rounds: bool = False
    has_gates: bool = False
    in_first_epochs: bool = False

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError that names the option that is wrong for this method."""

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """The networks of a seed that the method is judged by: one a variant and sparsity."""
        for variant in variants(self, study):
            for sparsity in study.grid.sparsities:
                yield Point(self.name, variant, sparsity_target=sparsity, seed=seed)

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """What a network of this method needs of others."""
        return ()

    def program_of(self, point: Point) -> Program:
        """What trains a network of this method."""
        return self.program

    def data(self, point: Point, given: Given) -> PyTree:
        """What tells the network from others of its program (``Member.method``)."""
        return ()

    def first_step(self, point: Point, study: Study) -> int:
        """The training step at which a network of this method begins."""
        return 0

    def epochs(self, point: Point, study: Study) -> int:
        """The epoch after which its training ends."""
        return study.epochs

    def observes(self, point: Point, study: Study) -> Observed:
        """What is read of its state, and after which epochs, besides what is read of every network."""
        return {}

    def order(self, point: Point) -> str:
        """The field of ``SeedKeys`` with which its data are ordered."""
        return "order"

    def start(self, point: Point, given: Given) -> MemberState | None:
        """Its state at the first step; None for that in which its program begins."""
        return None

    def passes(self, examples: int) -> float:
        """What its masks cost: examples that are passed forward and backward, the training left out.

        Args:
            examples: How many a score sees.
        """
        return 0

    @property
    def masks_by(self) -> "Method":
        """The method whose mask it begins with, where that is another's."""
        return self

    def why_useless(self, point: Point, given: Given) -> str | None:
        """Why there is no use in training a network, once what it needs is there; None if there is."""
        return None


def variants(method: Method, study: Study) -> tuple[str, ...]:
    """The method itself, and those of its ablations that are asked for."""
    return ("none", *(ablation for ablation in study.grid.ablations if ablation in method.ablations))


@dataclass(frozen=True, kw_only=True)
class Dense(Method):
    """The network of which nothing is pruned."""

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One."""
        yield Point(self.name, sparsity_target=0.0, seed=seed)
