"""Which weight stands where in an operand that is made of weights: ``Value.moves``.

An operand of a product may be a leaf reshaped, transposed, cut, cast, scaled or put beside another. Its
``moves`` are a function of all leaves by index that moves their entries in the same way: of the weights
it gives the weights of the operand, of numbers that count the weights it says which weight each is.
Scaling (weight standardisation, an inner mask) and casting move nothing. Where weights are combined with
other weights, entry by entry or in a product, there are no moves.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pruning.connectivity.equations import bind
from pruning.connectivity.signals import Kind, Value

_MOVES = (
    *("broadcast", "broadcast_in_dim", "broadcast_to", "expand_dims", "reshape", "squeeze", "transpose"),
    *("concatenate", "rev", "slice", "split"),
)
_SCALINGS = ("mul", "div", "add", "sub", "neg", "abs", "max", "min", "clamp", "select_n")
_CASTS = ("convert_element_type", "bitcast_convert_type", "reduce_precision")


def with_moves(equation: Any, operands: Sequence[Value], results: Sequence[Value]) -> list[Value]:
    """The results of an equation, with the moves of those that are weights.

    Args:
        equation: A ``jax.extend.core.JaxprEqn``.
        operands: The values of its operands.
        results: The values of its results, without moves (or as they are, where they are its operands).

    Returns:
        The results with them.
    """
    name = equation.primitive.name
    if not any(value.moves for value in operands) or any(value.kind > Kind.WEIGHTS for value in results):
        return [value._replace(moves=None) for value in results]
    if name in _MOVES and all(value.moves for value in operands):
        return [
            value._replace(moves=_moved(equation, operands, place)) for place, value in enumerate(results)
        ]
    if name == "dynamic_slice" and all(value.kind is Kind.CONSTANT for value in operands[1:]):
        places = [value.array for value in operands[1:]]
        return [results[0]._replace(moves=_moved(equation, operands[:1], 0, places))]
    if name in (*_SCALINGS, *_CASTS):
        return [results[0]._replace(moves=_scaled(equation, operands))]
    return [value if name in _SAME else value._replace(moves=None) for value in results]


_SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "sharding_constraint")


def _moved(equation: Any, operands: Sequence[Value], place: int, more: Sequence[Any] = ()) -> Any:
    moves: list[Callable[[Any], Any]] = [value.moves for value in operands if value.moves is not None]
    return lambda leaves: bind(equation, [*(move(leaves) for move in moves), *more])[place]


def _scaled(equation: Any, operands: Sequence[Value]) -> Any:
    """Those of the one operand that has any and is as large as the result, or of several, if the same."""
    shape = equation.outvars[0].aval.shape
    pairs = zip(operands, equation.invars, strict=True)
    found = [value.moves for value, atom in pairs if value.moves and atom.aval.shape == shape]
    return found[0] if found and all(moves is found[0] for moves in found) else None
