"""What removed units add to others, moved into weights that are added there.

A removed unit whose value is a constant, relu of its bias, say, adds that constant times its outgoing
weights to every unit that follows. Without it the network's values are short of as much, until something
is added that is a weight: a bias, or the mean that a normalisation subtracts. There it is made good.
Where it cannot be, since padding makes it depend on the position, a function comes first, nothing is
added before the output, or the weight is stored in a lower precision than is computed in, the unit has to
stay. So it has where a weight that stays makes the constant (a slope that all units share): this weight's
gradient would miss what the unit adds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.compaction.axis_relations import Position, Summed
from pruning.connectivity.compaction.dependence import MOVES, Facts, arrivals
from pruning.connectivity.compaction.programs import Program, Step
from pruning.connectivity.equations import bind
from pruning.connectivity.signal_rules import UNCHANGED
from pruning.connectivity.signals import is_inexact
from pruning.trees.precision import wider

_ROUNDING = 32
"""Differences of so many units of rounding are none."""
_LINEAR = (*MOVES, *UNCHANGED, "neg", "convert_element_type", "reduce_sum", "reduce_window_sum")
_SUMS = ("add", "sub", "add_any")
_PRODUCTS = ("mul", "dot_general", "conv_general_dilated")


def added(array: Any, amount: Any, dtype: Any) -> jax.Array:
    """The sum of an array and an amount, computed in a dtype, as far as JAX has it here."""
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jnp.asarray(array).astype(dtype) + jnp.asarray(amount).astype(dtype)


class Missing(NamedTuple):
    """What a value is short of.

    Attributes:
        array: What has to be added to it, an array of its shape.
        sums: The sums whose removed terms it consists of.
    """

    array: np.ndarray
    sums: tuple[Summed, ...]


class Settlement(NamedTuple):
    """How what is missing is made good.

    Attributes:
        added: What is added to arguments, by number.
        unsettled: Sums whose removed units have to stay.
    """

    added: dict[int, np.ndarray]
    unsettled: list[Summed]


class _Entries(NamedTuple):
    """A value that is made of one argument by moving its entries.

    Attributes:
        argument: Which of the program's arguments, by its number.
        index: For each entry of the value, which entry of the argument it is.
    """

    argument: int
    index: np.ndarray


def settle(
    program: Program,
    kept: Mapping[Position, np.ndarray],
    sums: Sequence[Summed],
    facts: Facts,
    leaves: Mapping[int, Any],
) -> Settlement:
    """Follows what is missing through a program.

    Args:
        program: The steps of the network.
        kept: The entries that the smaller program has.
        sums: Its products, convolutions and sums.
        facts: What is known of its values.
        leaves: The numbers of the arguments that may change, with their masks: a pruned one may not.

    Returns:
        What is added to them, and the sums for which that does not do.
    """
    return _Settling(program, kept, {s.step.results[0]: s for s in sums}, facts, leaves).run()


class _Settling:
    """One walk through a program."""

    def __init__(
        self,
        program: Program,
        kept: Mapping[Position, np.ndarray],
        sums: Mapping[int, Summed],
        facts: Facts,
        leaves: Mapping[int, Any],
    ) -> None:
        self.masks = leaves
        self.of_weights = set(leaves)
        self.program, self.kept, self.sums, self.facts = program, kept, sums, facts
        self.from_staying = arrivals(program, facts, {leaf: self._stays(leaf) for leaf in leaves})
        self.missing: dict[int, Missing] = {}
        self.added: dict[int, np.ndarray] = {}
        self.unsettled: list[Summed] = []
        uses = Counter(value for step in program.plain_steps() for value in step.operands)
        uses.update(program.outputs)
        self.is_used_once = {value for value, count in uses.items() if count == 1}
        self.entries: dict[int, _Entries] = {}
        for leaf in leaves:
            size = int(np.prod(program.shape(leaf), dtype=int))
            if leaf in self.is_used_once and jnp.issubdtype(program.avals[leaf].dtype, jnp.floating):
                self.entries[leaf] = _Entries(leaf, np.arange(size).reshape(program.shape(leaf)))

    def run(self) -> Settlement:
        for step in self.program.plain_steps():
            if self.of_weights.intersection(step.operands):
                self.of_weights.update(step.results)
            self._note_entries(step)
            found = [self.missing.get(value) for value in step.operands]
            if any(found):
                self._pass_on(step, found)
            if step.results[0] in self.sums:
                self._lose(self.sums[step.results[0]])
        for value in self.program.outputs:
            if value in self.missing:
                self._give_up(self.missing[value])
        return Settlement(self.added, self.unsettled)

    def _note_entries(self, step: Step) -> None:
        """A leaf that is moved, and used for nothing else."""
        entries = self.entries.get(step.operands[0]) if len(step.operands) == 1 else None
        if entries is None or len(step.results) != 1 or step.results[0] not in self.is_used_once:
            return
        if step.name in MOVES:
            (index,) = bind(step.equation, [jnp.asarray(entries.index)])
            self.entries[step.results[0]] = entries._replace(index=np.asarray(index))
        elif step.name == "convert_element_type" or step.name in UNCHANGED:
            self.entries[step.results[0]] = entries

    def _lose(self, summed: Summed) -> None:
        """What the entries that are not kept would have added."""
        gone = [self._gone(value, axes) for value, axes in self._operands(summed)]
        if not gone[0].any():
            return
        first, *others = (self.facts.fixed(value) for value in summed.step.operands)
        (lost,) = bind(
            summed.step.equation, [jnp.asarray(np.where(gone[0], first, 0)), *map(jnp.asarray, others)]
        )
        missing = Missing(np.asarray(lost), (summed,))
        if self._is_of_staying(summed, gone[0]):
            self._give_up(missing)
        else:
            self._add(summed.step.results[0], missing)

    def _stays(self, leaf: int) -> np.ndarray:
        """The entries of an argument that are left, and not pruned."""
        left = ~self._gone(leaf, range(len(self.program.shape(leaf))))
        mask = self.masks[leaf]
        return left if mask is None else left & np.asarray(mask)

    def _is_of_staying(self, summed: Summed, gone: np.ndarray) -> bool:
        """Whether a weight that stays makes what entries that are not kept would have added."""
        one, *others = summed.step.operands
        constant = gone & ~self.facts.reached[one]
        terms = [[constant & self.from_staying[one], *(self.facts.possible[other] for other in others)]]
        if others:
            terms.append([constant & self.facts.possible[one], self.from_staying[others[0]]])
        return any(self._arrives(summed.step, flags) for flags in terms)

    def _arrives(self, step: Step, flags: Sequence[np.ndarray]) -> bool:
        """Whether a sum or product of flags is more than 0 where it is kept."""
        if not all(where.any() for where in flags):
            return False
        dtypes = [self.program.avals[value].dtype for value in step.operands]
        pairs = zip(flags, dtypes, strict=True)
        (count,) = bind(step.equation, [jnp.asarray(where, dtype) for where, dtype in pairs])
        result = step.results[0]
        return bool((np.asarray(count) > 0)[~self._gone(result, range(count.ndim))].any())

    def _operands(self, summed: Summed) -> list[tuple[int, tuple[int, ...]]]:
        return list(zip(summed.step.operands, summed.axes, strict=True))

    def _gone(self, value: int, axes: Sequence[int]) -> np.ndarray:
        """Where entries along some axes are not kept."""
        shape = self.program.shape(value)
        gone = np.zeros(shape, bool)
        for axis in axes:
            along = [1] * len(shape)
            along[axis] = shape[axis]
            gone |= ~self.kept[Position(value, axis)].reshape(along)
        return gone

    def _add(self, value: int, missing: Missing) -> None:
        """Only where entries are kept does it matter."""
        gone = self._gone(value, range(len(self.program.shape(value))))
        array = np.where(gone, np.zeros_like(missing.array), missing.array)
        sums = missing.sums
        if value in self.missing:
            array, sums = array + self.missing[value].array, (*sums, *self.missing[value].sums)
        if not np.isfinite(array).all():
            self._give_up(Missing(array, sums))
        elif array.any():
            self.missing[value] = Missing(array, sums)

    def _pass_on(self, step: Step, found: Sequence[Missing | None]) -> None:
        short = [missing for missing in found if missing is not None]
        sums = tuple(summed for missing in short for summed in missing.sums)
        if step.name in _SUMS:
            if self._make_good(step, found):
                return
        elif step.name in _PRODUCTS or (step.name == "div" and found[1] is None):
            beside = [v for v, missing in zip(step.operands, found, strict=True) if missing is None]
            # Past a weight, that weight's gradient would miss what is missing.
            if len(short) > 1 or any(
                value in self.of_weights or self.facts.reached[value].any() for value in beside
            ):
                self._give_up(*short)
                return
        elif step.name not in _LINEAR or not is_inexact(self.program.avals[step.results[0]]):
            self._give_up(*short)
            return
        arrays = [
            self._part(step, value, missing) for value, missing in zip(step.operands, found, strict=True)
        ]
        for value, result in zip(step.results, bind(step.equation, arrays), strict=True):
            self._add(value, Missing(np.asarray(result), sums))

    def _part(self, step: Step, value: int, missing: Missing | None) -> Any:
        """What is missing of an operand, or what it is multiplied by."""
        if missing is not None:
            return jnp.asarray(missing.array)
        if step.name in (*_PRODUCTS, "div"):
            return self.facts.arrays[value]
        return jnp.zeros(self.program.shape(value), self.program.avals[value].dtype)

    def _make_good(self, step: Step, found: Sequence[Missing | None]) -> bool:
        """Adds what is missing to a weight that is added; false if there is none."""
        for place, other in ((0, 1), (1, 0)):
            missing, entries = found[place], self.entries.get(step.operands[other])
            if missing is None or found[other] is not None or entries is None:
                continue
            shape = self.program.shape(step.results[0])
            is_kept = ~self._gone(step.results[0], range(len(shape)))
            index = np.broadcast_to(entries.index, shape)[is_kept]
            amounts = np.broadcast_to(missing.array, shape)[is_kept]
            leaf = self.program.shape(entries.argument)
            low, high = np.full(leaf, np.inf).ravel(), np.full(leaf, -np.inf).ravel()
            np.minimum.at(low, index, amounts)
            np.maximum.at(high, index, amounts)
            is_changed = high >= low
            low, high = np.where(is_changed, low, 0), np.where(is_changed, high, 0)
            rounding = _ROUNDING * float(jnp.finfo(missing.array.dtype).eps)
            if (high - low > rounding * np.maximum(np.abs(low), np.abs(high))).any():
                return False
            amount = ((low + high) / 2).reshape(leaf)
            mask = self.masks[entries.argument]
            if mask is not None and amount[~np.asarray(mask)].any():
                return False
            amount = -amount if step.name == "sub" else amount
            if not self._holds(entries.argument, amount, missing.array.dtype):
                return False
            self.added[entries.argument] = amount
            return True
        return False

    def _holds(self, leaf: int, amount: np.ndarray, dtype: Any) -> bool:
        """Whether an argument with an amount added is as precise as what is computed in that dtype."""
        array = jnp.asarray(self.facts.arrays[leaf])
        if jnp.finfo(array.dtype).eps <= jnp.finfo(dtype).eps:
            return True
        exact = added(array, amount, wider(array.dtype, dtype))
        stored = exact.astype(array.dtype).astype(exact.dtype)
        bound = _ROUNDING * float(jnp.finfo(dtype).eps) * jnp.abs(exact)
        return bool((jnp.abs(stored - exact) <= bound).all())

    def _give_up(self, *missing: Missing) -> None:
        for summed in {id(s): s for each in missing for s in each.sums}.values():
            if all(summed is not other for other in self.unsettled):
                self.unsettled.append(summed)
