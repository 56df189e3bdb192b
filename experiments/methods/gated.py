"""Methods with a gate beside every weight: Continuous Sparsification, supermasks, stochastic supermasks.

They find their own sparsities, a network for each value with which gates begin. That value is data: a
parallel search over several is one program.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Point
from experiments.methods.programs import Program
from experiments.methods.study import Study
from experiments.options.knobs import GateKnobs, check_start
from experiments.options.training import TrainingOptions
from train.populations import population
from train.populations.reparametrization import Reparametrization
from train.recipes import make_optimizer

PyTree = Any


class Gated(NamedTuple):
    r"""A member with gates; all scalars.

    Attributes:
        initial: Where its gates begin, :math:`s_0`.
        penalty: The weight of the sum of soft masks in the loss, :math:`\lambda`.
        learning_rate: The learning rate of its gates.
        weights_learn: 1 where the weights are trained too, 0 where they are frozen.
    """

    initial: jax.Array
    penalty: jax.Array
    learning_rate: jax.Array
    weights_learn: jax.Array


def _gated(study: Study, shapes: PyTree) -> population.Method:
    """Weights are trained as the recipe says, and gates alike but without weight decay."""
    without_decay = dataclasses.replace(study.recipe, weight_decay=0.0)

    def method(optimizer: optax.GradientTransformation, data: Gated):
        gates = make_optimizer(without_decay, data.learning_rate, jnp.float32(0), study.steps_per_epoch)
        weights = optax.chain(optimizer, optax.scale(data.weights_learn))
        return pruning.soft_masked_optimizer(weights, gates)

    return method


def continuous_sparsification(study: Study) -> Reparametrization:
    """Weights times soft masks, the temperature rising from epoch to epoch.

    In the last step of all the network is tested with its ticket, the limit of the soft masks; before, as
    it is computed in the last step that was trained.
    """
    steps = study.last_step
    temperature = pruning.temperature_schedule(
        study.knobs.gates.final_temperature, steps=steps, constant_for=study.steps_per_epoch
    )

    def soft(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> PyTree:
        return pruning.soft_masks(both.gates, jnp.asarray(temperature(step)), initial=data.initial)

    def tested(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> PyTree:
        limit = 1 / jax.nn.sigmoid(data.initial)
        factors = jax.tree.map(
            lambda mask, factor: jnp.where(step < steps - 1, factor, jnp.where(mask, limit, 0)),
            _ticket(both, ()),
            soft(both, data, step),
        )
        return pruning.apply_soft_masks(both.params, factors)

    def penalty(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> jax.Array:
        total = pruning.gate_penalty(both.gates, jnp.asarray(temperature(step)), initial=data.initial)
        return data.penalty * total

    return Reparametrization(
        begin=_with_gates,
        params=lambda key, both, data, step: pruning.apply_soft_masks(
            both.params, soft(both, data, step)
        ),
        penalty=penalty,
        tested=tested,
        masks=_ticket,
    )


def drawn_gates(study: Study) -> Reparametrization:
    """Weights times masks that are drawn anew each step; tested with the gates above 0.

    The penalty is of the expected number of weights.
    """

    def drawn(key: jax.Array, both: pruning.SoftMasked, data: Gated, step: jax.Array) -> PyTree:
        return pruning.apply_soft_masks(both.params, pruning.sampled_masks(key, both.gates))

    def penalty(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> jax.Array:
        # sigmoid(s) is the soft mask at temperature 1, up to the scale that is 1 / 2 at s0 = 0.
        return data.penalty * pruning.gate_penalty(both.gates, 1.0) / 2

    return Reparametrization(
        begin=_with_gates,
        params=drawn,
        penalty=penalty,
        tested=lambda both, data, step: pruning.apply_masks(both.params, _ticket(both, ())),
        masks=_ticket,
    )


def _with_gates(params: PyTree, transformation: Any, data: Gated) -> pruning.SoftMasked:
    return pruning.SoftMasked(params, pruning.initial_gates(params, data.initial))


def _ticket(both: pruning.SoftMasked, opt_state: PyTree) -> PyTree:
    return pruning.ticket_masks(both.gates)


SOFT = Program(name="soft masks", method=_gated, reparametrization=continuous_sparsification)
DRAWN = Program(name="drawn masks", method=_gated, reparametrization=drawn_gates)


@dataclass(frozen=True, kw_only=True)
class WithGates(Method):
    """A network for each value with which gates begin.

    Attributes:
        weights_learn: Whether the weights are trained too, or stay as they were initialised.
    """

    weights_learn: bool
    program: Program = SOFT
    has_gates: bool = True
    at_sparsities: bool = False

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if gates cannot be computed; warns of those that cannot open."""
        check_soft_masks(options, "--starts", options.knobs.gates.starts)

    def starts(self, gates: GateKnobs) -> tuple[float, ...]:
        """The values with which gates begin."""
        return gates.starts

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a value."""
        for start in self.starts(study.knobs.gates):
            yield Point(self.name, setting=start, seed=seed)

    def learning_rate(self, point: Point, study: Study) -> float:
        """Of the gates."""
        return study.gate_rate(point)

    def data(self, point: Point, given: Given) -> PyTree:
        """Where gates begin and how they learn."""
        rate, penalty = self.learning_rate(point, given.study), given.study.knobs.gates.penalty
        return Gated(*map(jnp.float32, (point.setting, penalty, rate, self.weights_learn)))


@dataclass(frozen=True, kw_only=True)
class WithDrawnGates(WithGates):
    """Masks are drawn from the gates' probabilities at each step."""

    program: Program = DRAWN

    def check(self, options: TrainingOptions) -> None:
        """Drawn masks close and open at every value."""

    def starts(self, gates: GateKnobs) -> tuple[float, ...]:
        """The values with which gates begin."""
        return gates.stochastic_starts

    def learning_rate(self, point: Point, study: Study) -> float:
        """Of the gates."""
        return study.knobs.gates.stochastic_learning_rate


def check_soft_masks(options: TrainingOptions, option: str, starts: tuple[float, ...]) -> None:
    """Raises a ValueError if soft masks cannot be trained so; warns of gates that cannot open."""
    for start in starts:
        check_start(option, start, options.knobs.gates.final_temperature)
    if options.resolved_recipe().epochs < 2:
        raise ValueError(
            "expected --epochs >= 2: the temperature rises between epochs, from 1 to its final value"
        )


METHODS = (
    WithGates(
        name="continuous-sparsification",
        look=Look("Continuous Sparsification", "#AA3377", "X"),
        when=When.DURING,
        functions=("soft_masks", "soft_masked_optimizer", "ticket_masks"),
        source="Savarese et al. 2020 (arXiv 1912.04427)",
        weights_learn=True,
    ),
    WithGates(
        name="supermask",
        look=Look("Supermask", "#44AA99", "d"),
        when=When.DURING,
        functions=("soft_masks", "ticket_masks"),
        source="Savarese et al. 2020 (arXiv 1912.04427), section 5",
        weights_learn=False,
    ),
    WithDrawnGates(
        name="stochastic-supermask",
        look=Look("Stochastic supermask", "#AA4499", "<"),
        when=When.DURING,
        functions=("sampled_masks", "ticket_masks"),
        source="Zhou et al. 2019 (arXiv 1905.01067)",
        weights_learn=False,
    ),
)
