"""Cuts out of a network's arrays what its masks leave unused, and keeps what the network computes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pruning.connectivity.compaction.axis_relations import Summed
from pruning.connectivity.compaction.axis_rules import relations_of
from pruning.connectivity.compaction.choosing import wanted
from pruning.connectivity.compaction.constants import added, settle
from pruning.connectivity.compaction.dependence import Facts, facts_of
from pruning.connectivity.compaction.parts import Arrays, Axes, arrays_of, axes_of, cut
from pruning.connectivity.compaction.programs import Program, program_of
from pruning.connectivity.compaction.reporting import CompactionReport, left_whole, rows_of
from pruning.connectivity.compaction.running import Smaller, run, without
from pruning.connectivity.signals import is_inexact
from pruning.masks.reading import fit_masks
from pruning.masks.tree import apply_masks, check_masks
from pruning.trees.leaves import PyTree, is_traced
from pruning.trees.precision import wider

ApplyFn = Callable[..., PyTree]


class Compacted(NamedTuple):
    """A network without the units that its masks leave unused.

    Attributes:
        apply_fn: ``apply_fn(variables, *inputs)``, of the compacted variables; computes what the masked
            network computes. It traces the network anew for each shape of its inputs: jit it.
        variables: The arrays that are left, a tree like the network's; pruned weights are 0.
        masks: The masks of what is left.
        report: What was removed, and what could not be.
        rewrite: From another function of the network's variables, ``function(variables, *inputs)``, to
            the same of the compacted ones: a training step's forward pass, a loss. What it returns of the
            size of the variables, new statistics, comes out in the compacted size; where it sums over the
            variables (a penalty), it sums over those that are left.
    """

    apply_fn: ApplyFn
    variables: PyTree
    masks: PyTree
    report: CompactionReport
    rewrite: Callable[[ApplyFn], ApplyFn]


def compact(apply_fn: ApplyFn, variables: PyTree, masks: PyTree, *inputs: PyTree) -> Compacted:
    r"""Removes the units, channels and heads that no longer do anything, and computes the same outputs.

    A unit goes if nothing leads out of it, or if no input reaches it. Then it is a constant :math:`c`,
    and with its outgoing weights :math:`w_o` it adds :math:`c \, w_o` to each unit that follows,
    which moves into what is added there: a bias, or a normalisation's running mean, which is subtracted.
    The network is read from its jaxpr, so it may be any: which axes lose the same entries (through
    residual sums, normalisations, flattening, concatenations, depthwise convolutions, attention heads,
    gated products) follows from the primitives.

    What is left computes the same outputs for any number of examples, and has the gradients of the same
    weights. A weight that masks keep counts as there, also where it is 0. A unit stays whole where it
    cannot go: its constant depends on the position (a convolution pads), is made by a weight that stays
    (a slope that all units share), nothing is added to it before a function or another weight, or what is
    added there is stored in a lower precision than the network computes in; one of these holds for a
    constant unit before the same weights; others that must go with it are wanted (a residual sum, the
    inputs of one group of a convolution); or its axis enters what is not followed entry by entry (a
    maximum over units, a loop, sorting). The axes of inputs and outputs stay. No array becomes empty: of
    a layer of which nothing is wanted one unit is left. A ``jax.checkpoint`` inside is written out.

    Args:
        apply_fn: ``apply_fn(variables, *inputs)`` is the network as it is used, with running
            statistics, not those of the batch; its outputs are of any structure.
        variables: Any pytree of concrete arrays: params, and statistics beside them.
        masks: Concrete masks of that tree. ``None`` may stand for a subtree: ``{"params": masks,
            "batch_stats": None}``.
        *inputs: Arrays that it is read for, of any values; examples lie along the first axis, and one is
            enough. Of a network of single examples, ``jax.vmap`` takes several.

    Returns:
        The compacted network.

    Raises:
        ValueError: If the masks do not fit the variables, they or the variables are traced, one of the
            variables is a number, an input is no array, ``apply_fn`` takes one example and not two, or no
            floating-point output depends on the inputs.

    >>> params = {"a": jnp.ones((1, 3)), "bias": jnp.ones(3), "b": jnp.ones((3, 1)), "c": jnp.zeros(1)}
    >>> def apply_fn(p, x):
    ...     return jax.nn.relu(x @ p["a"] + p["bias"][None]) @ p["b"] + p["c"][None]
    >>> masks = {"a": jnp.array([[True, False, True]]), "b": jnp.array([[True], [True], [False]])}
    >>> small = compact(apply_fn, params, {**masks, "bias": None, "c": None}, jnp.ones((1, 1)))
    >>> small.variables["a"].shape, small.variables["c"]  # the second unit was relu(1) for every input
    ((1, 1), Array([1.], dtype=float32))

    Source: the units that go are those that effective sparsity counts as pruned (Vysogorets and Kempe
    2021, arXiv 2107.02306); removing channels with their biases, Li et al. 2017 (arXiv 1608.08710).
    """
    masks = fit_masks(masks, variables)
    check_masks(masks, variables)
    if any(is_traced(leaf) for leaf in jax.tree.leaves((variables, masks))):
        raise ValueError("compact needs concrete variables and masks: call it outside jit and vmap")
    tree = arrays_of(apply_masks(variables, masks))
    given = _several(inputs)
    program = _program_of_several(tree.of_arrays(apply_fn), tree.arrays, inputs, given)
    of_arrays = tree.masks_in(masks)
    facts = facts_of(program, [*tree.arrays, *jax.tree.leaves(given)], of_arrays)
    _check_outputs(program, facts)
    leaves = dict(zip(program.arguments, of_arrays, strict=False))
    chosen = _choose(program, facts, leaves, tree.paths)
    small = tree.with_arrays(
        [
            cut(_with(array, chosen.added.get(leaf)), axes)
            for leaf, array, axes in zip(chosen.leaves, tree.arrays, chosen.axes, strict=True)
        ]
    )
    small_masks = tree.cut_masks(masks, chosen.axes)

    def rewrite(function: ApplyFn) -> ApplyFn:
        return _rewritten(function, tree, chosen.axes)

    rows = rows_of(tree, chosen.axes, masks, small_masks)
    report = CompactionReport(rows, chosen.left_whole)
    return Compacted(_for_examples(rewrite(apply_fn), given), small, small_masks, report, rewrite)


def _with(array: Any, amount: Any) -> Any:
    if amount is None:
        return array
    return added(array, amount, wider(array.dtype, amount.dtype)).astype(array.dtype)


class _Choice(NamedTuple):
    """What is kept of each of a program's leaves, what is added to it, and what could not go."""

    leaves: Sequence[int]
    axes: list[Axes]
    added: dict[int, Any]
    left_whole: tuple[str, ...]


def _choose(program: Program, facts: Facts, leaves: Mapping[int, Any], paths: Sequence[str]) -> _Choice:
    """Wants ever more, until the constants of all that is removed have a weight to go to."""
    relations = relations_of(program)
    used = {value for step in program.plain_steps() for value in step.operands}
    whole = [value for value in program.arguments if value not in leaves or value not in used]
    stuck: list[Summed] = []
    while True:
        kept = wanted(program, relations, facts, [*whole, *program.outputs], list(leaves), stuck)
        axes = {leaf: axes_of(kept, leaf, program) for leaf in leaves}
        # Of what is not wanted, only what the smaller arrays lack is not computed.
        there = without(program, axes).kept
        settlement = settle(program, there, relations.sums, facts, leaves)
        known = {id(summed) for summed in stuck}
        stuck += [summed for summed in settlement.unsettled if id(summed) not in known]
        # What is short of something without being wanted has no weights along its axis: all stays then.
        again = [summed for summed in settlement.unsettled if id(summed) in known]
        whole += [value for summed in again for value in summed.step.operands]
        if not settlement.unsettled:
            named = dict(zip(leaves, paths, strict=True))
            said = left_whole(program, relations, named, stuck)
            return _Choice(list(leaves), list(axes.values()), settlement.added, said)


def _several(inputs: PyTree) -> PyTree:
    """One example twice: of an axis of one entry it cannot be seen what becomes of more."""

    def array(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise ValueError(
                f"expected arrays as inputs, got {leaf!r}: pass jnp.zeros of that shape and dtype"
            )
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise ValueError(
                f"expected arrays as inputs, got {type(leaf).__name__} {leaf!r}: let apply_fn close over "
                "what is none, or pass jnp.asarray of it"
            )
        return jnp.asarray(leaf)

    arrays = jax.tree.map(array, inputs)
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(arrays) if leaf.ndim}
    if sizes != {1}:
        return arrays
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0) if leaf.ndim else leaf, arrays)


def _program_of_several(
    function: ApplyFn, arrays: Sequence[Any], inputs: PyTree, several: PyTree
) -> Program:
    """The function's program for several examples; one for which it has none is no example of a batch."""
    try:
        return program_of(function, arrays, *several)[0]
    except (TypeError, ValueError) as error:
        jax.eval_shape(function, arrays, *inputs)  # What fails for the inputs themselves says so.
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(inputs)]
        raise ValueError(
            "expected an apply_fn of any number of examples along the first axis of its inputs, got one "
            f"that takes {shapes} and not two of it: pass jax.vmap of it over x, and x[None]"
        ) from error


def _check_outputs(program: Program, facts: Facts) -> None:
    floats = [value for value in program.outputs if is_inexact(program.avals[value])]
    if not any(facts.reached[value].any() for value in floats):
        raise ValueError(
            "expected a floating-point output of apply_fn(variables, *inputs) that depends on the inputs "
            "and on kept weights, got none: pass the network's inputs, and masks that leave a path"
        )


def _rewritten(function: ApplyFn, tree: Arrays, axes: Sequence[Axes]) -> ApplyFn:
    """The function on smaller arrays; programs are kept by the shapes of what it is called with."""
    programs: dict[Any, tuple[Smaller, Any]] = {}

    def smaller_of(arrays: Sequence[Any], inputs: Any) -> tuple[Smaller, Any]:
        shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), inputs)
        forms = [(array.shape, str(array.dtype)) for array in (*arrays, *jax.tree.leaves(inputs))]
        key = (jax.tree.structure(inputs), *forms)
        if key in programs:
            return programs[key]
        leaves = [
            jax.ShapeDtypeStruct(tuple(map(len, there)), array.dtype)
            for there, array in zip(axes, arrays, strict=True)
        ]
        program, structure = program_of(tree.of_arrays(function), leaves, *shapes)
        kept = dict(zip(program.arguments[: len(axes)], axes, strict=True))
        found = without(program, kept), structure
        # What is traced belongs to the call that it is traced in.
        if not any(is_traced(array) for array in program.constants.values()):
            programs[key] = found
        return found

    def compacted(variables: PyTree, *inputs: PyTree) -> PyTree:
        arrays, arrived = tree.arrays_in(variables, axes), jax.tree.map(jnp.asarray, inputs)
        smaller, structure = smaller_of(arrays, arrived)
        return structure.unflatten(run(smaller, [*arrays, *jax.tree.leaves(arrived)]))

    return compacted


def _for_examples(apply_fn: ApplyFn, given: PyTree) -> ApplyFn:
    """Refuses inputs that are larger in more than their number: what was read may not hold for them."""
    expected = [leaf.shape[1:] for leaf in jax.tree.leaves(given)]

    def of_examples(variables: PyTree, *inputs: PyTree) -> PyTree:
        found = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(inputs)]
        if found != expected:
            raise ValueError(
                "expected inputs like those that the network was compacted for, of shapes "
                f"{expected} after the first axis, got {found}: compact it for these"
            )
        return apply_fn(variables, *inputs)

    return of_examples
