"""Dynamic sparse training: masks that move while the network trains, and keep every layer's count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import optax

import pruning
from experiments.methods import random_layers, scored_methods
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Point
from experiments.methods.programs import Observed, Program
from experiments.methods.scored import Scored, named
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from train.populations.population import MemberState
from train.populations.population import Method as Transformed

PyTree = Any


def _knobs(study: Study) -> dict[str, Any]:
    """The end of the cosine is that of the checks."""
    last, asked = max(1, study.last_check), study.knobs.dynamic.check_steps
    every = min(100, study.steps_per_epoch, last) if asked is None else asked
    fraction = pruning.cosine_drop_fraction(study.knobs.dynamic.drop_fraction, last)
    return {"check_every": every, "stop_after": last, "drop_fraction": fraction}


def _rigl(study: Study, shapes: PyTree) -> Transformed:
    masks, knobs = pruning.full_masks(shapes), _knobs(study)
    return lambda optimizer, _: pruning.rigl(optimizer, masks, **knobs)


def _set(study: Study, shapes: PyTree) -> Transformed:
    masks, knobs = pruning.full_masks(shapes), _knobs(study)
    return lambda optimizer, key: pruning.sparse_evolutionary(key, optimizer, masks, **knobs)


def _constant_fan_in(study: Study, shapes: PyTree) -> Transformed:
    """Units may go in every layer but the last, whose units are the classes."""
    masks, knobs = pruning.full_masks(shapes), _knobs(study)
    hidden = lambda path, leaf: jax.tree_util.keystr(path) != study.layers[-1]  # noqa: E731
    return lambda optimizer, _: pruning.constant_fan_in_rigl(optimizer, masks, ablatable=hidden, **knobs)


RIGL = Program(name="RigL", method=_rigl)
SET = Program(name="SET", method=_set)
CONSTANT_FAN_IN = Program(name="SRigL", method=_constant_fan_in)


RANDOM = named(random_layers.METHODS, "random-erk")


@dataclass(frozen=True, kw_only=True)
class Dynamic(Method):
    """From the mask that a scored method gives the same seed.

    Attributes:
        begins: The method whose masks its networks begin with.
        key: The field of ``SeedKeys`` with which weights grow; None where none is drawn.
    """

    begins: Scored = RANDOM
    key: str | None = None

    @property
    def masks_by(self) -> Method:
        """The scored method."""
        return self.begins

    def data(self, point: Point, given: Given) -> PyTree:
        """The key of growth, if there is one."""
        return () if self.key is None else getattr(seed_keys(point.seed), self.key)

    def start(self, point: Point, given: Given) -> MemberState:
        """Under its first mask."""
        network = given.initial(point.seed)
        return given.begin(point, network.params, network.batch_stats, self.first_masks(point, given))

    def first_masks(self, point: Point, given: Given) -> PyTree:
        """That of the scored method."""
        static = point.of_same_seed(self.begins.name, sparsity_target=point.sparsity_target)
        return given.kept_masks(static, lambda: self.begins.masks(static, given))

    def observes(self, point: Point, study: Study) -> Observed:
        """The share of the weights that were ever kept, at the end."""
        return {study.epochs: observe_coverage}


@dataclass(frozen=True, kw_only=True)
class ConstantFanIn(Dynamic):
    """From a random mask that leaves every unit of a layer as many weights, all layers one sparsity."""

    @property
    def masks_by(self) -> Method:
        """No other method has such masks."""
        return self

    def first_masks(self, point: Point, given: Given) -> PyTree:
        """See the class."""
        key, params = seed_keys(point.seed).scores, given.initial(point.seed).params
        scores = pruning.random_scores(key, params)
        return pruning.constant_fan_in_masks(scores, point.sparsity_target or 0.0)


def observe_coverage(states: MemberState) -> dict[str, jax.Array]:
    """The coverage of each network.

    Args:
        states: Stacked.
    """
    explored = optax.tree.get(states.opt_state, "explored")
    share: Callable[[PyTree], jax.Array] = lambda masks: 1 - pruning.sparsity(masks)  # noqa: E731
    return {"explored": jax.vmap(share)(explored)}


METHODS = (
    Dynamic(
        name="rigl",
        look=Look("RigL", "#BB5566", "P"),
        when=When.DURING,
        functions=("random_masks", "erdos_renyi_kernel", "rigl"),
        source="Evci et al. 2020 (arXiv 1911.11134)",
        choices=(
            "A step with a check applies no gradient, as in the paper's algorithm; checks in the "
            "first three quarters of the steps; drop fraction 0.3, falling as a cosine. The "
            "reference adds a little noise to the magnitudes, none here. It keeps the first layer "
            "dense on ImageNet; here none is."
        ),
        program=RIGL,
    ),
    Dynamic(
        name="set",
        look=Look("SET", "#997700", "v"),
        when=When.DURING,
        functions=("random_masks", "erdos_renyi_kernel", "sparse_evolutionary"),
        source="Mocanu et al. 2018 (arXiv 1707.04780)",
        choices=(
            "Drops the smallest magnitudes, as RigL's reference does; the paper drops the "
            "smallest positive and the largest negative weights, which a widely used code gets "
            "wrong for the negative ones. The gradient is applied first."
        ),
        program=SET,
        key="growth",
    ),
    Dynamic(
        name="rigl-snip",
        look=Look("RigL from SNIP", "#882244", "^"),
        when=When.DURING,
        functions=("snip_scores", "global_masks", "rigl"),
        source="Evci et al. 2020 (arXiv 1911.11134), from the mask of Lee et al. 2019",
        program=RIGL,
        begins=named(scored_methods.METHODS, "snip"),
    ),
    Dynamic(
        name="rigl-synflow",
        look=Look("RigL from SynFlow", "#DD8899", "D"),
        when=When.DURING,
        functions=("synflow_scores", "iterative_masks", "rigl"),
        source="Evci et al. 2020 (arXiv 1911.11134), from the mask of Tanaka et al. 2020",
        program=RIGL,
        begins=named(scored_methods.METHODS, "synflow"),
    ),
    ConstantFanIn(
        name="srigl",
        look=Look("SRigL", "#553300", "X"),
        when=When.DURING,
        functions=("random_scores", "constant_fan_in_masks", "constant_fan_in_rigl"),
        source="Lasby et al. 2024 (arXiv 2305.02299)",
        choices=(
            "All layers have one sparsity, rounded down for each unit; the authors' layers have those of "
            "ERK. Units go for good where fewer than 0.3 of their weights are salient, kept ones by "
            "magnitude and pruned ones by gradient; in the released code gradients of kept weights count "
            "too, and a unit may return. Drops and checks as in `rigl`."
        ),
        program=CONSTANT_FAN_IN,
    ),
)
