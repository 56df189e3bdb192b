"""Dynamic sparse training: masks that move while the network trains, and keep every layer's count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import optax

import pruning
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Point
from experiments.methods.programs import Observed, Program
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from train.populations.population import MemberState
from train.populations.population import Method as Transformed

PyTree = Any


def _knobs(study: Study) -> dict[str, Any]:
    """Checks in the first three quarters of the training, as published; the cosine's end is theirs."""
    last, asked = 3 * study.last_step // 4, study.knobs.dynamic.check_steps
    every = min(100, study.steps_per_epoch) if asked is None else asked
    fraction = pruning.cosine_drop_fraction(study.knobs.dynamic.drop_fraction, max(1, last))
    return {"check_every": every, "stop_after": last, "drop_fraction": fraction}


def _rigl(study: Study, shapes: PyTree) -> Transformed:
    masks, knobs = pruning.full_masks(shapes), _knobs(study)
    return lambda optimizer, _: pruning.rigl(optimizer, masks, **knobs)


def _set(study: Study, shapes: PyTree) -> Transformed:
    masks, knobs = pruning.full_masks(shapes), _knobs(study)
    return lambda optimizer, key: pruning.sparse_evolutionary(key, optimizer, masks, **knobs)


RIGL = Program(name="RigL", method=_rigl)
SET = Program(name="SET", method=_set)


@dataclass(frozen=True, kw_only=True)
class Dynamic(Method):
    """From a random mask with the layer sparsities of ERK, that of ``random-erk`` with the same seed.

    Attributes:
        key: The field of ``SeedKeys`` with which weights grow; None where none is drawn.
    """

    key: str | None = None

    def data(self, point: Point, study: Study) -> PyTree:
        """The key of growth, if there is one."""
        return () if self.key is None else getattr(seed_keys(point.seed), self.key)

    def start(self, point: Point, given: Given) -> MemberState:
        """Under its first mask."""
        network = given.initial(point.seed)
        masks = pruning.random_masks(
            seed_keys(point.seed).scores,
            network.params,
            point.sparsity_target or 0.0,
            allocation=pruning.erdos_renyi_kernel,
        )
        return given.begin(point, network.params, network.batch_stats, masks)

    def observes(self, point: Point, study: Study) -> Observed:
        """The share of the weights that were ever kept, at the end."""
        return {study.epochs: observe_coverage}


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
)
