"""Which weight stands where in an operand that is made of weights: ``Value.moves``.

An operand of a product may be a leaf reshaped, transposed, cut, cast, scaled or put beside another. Its
``moves`` are a function of all leaves by index that moves their entries in the same way: of the weights
it gives the weights of the operand, of numbers that count the weights it says which weight each is.
Casting, scaling (weight standardisation, an inner mask of constants) and functions of single entries
that are 0 at 0 (``tanh``) move nothing. There are no moves where weights are combined with other weights,
entry by entry or in a product, or after other functions (``exp``, a sigmoid); nor where weights are added
to an array of constants, which is taken for an input with a position embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pruning.connectivity.equations import bind
from pruning.connectivity.signal_rules import UNCHANGED
from pruning.connectivity.signals import Kind, Value

_MOVES = (
    *("broadcast", "broadcast_in_dim", "broadcast_to", "expand_dims", "reshape", "squeeze", "transpose"),
    *("concatenate", "rev", "slice", "split"),
)
_SCALINGS = ("mul", "div", "add", "sub", "max", "min", "clamp", "select_n")
_CASTS = ("convert_element_type", "bitcast_convert_type")
# Functions of one entry that are 0 at 0: a weight that is cut stays cut.
_ENTRYWISE = (
    *("neg", "abs", "sign", "round", "floor", "ceil", "square", "integer_pow", "sqrt", "cbrt"),
    *("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "expm1", "log1p"),
)


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
    if not any(value.moves for value in operands) or any(value.kind is Kind.SIGNAL for value in results):
        return [value._replace(moves=None) for value in results]
    if name in _MOVES and all(value.moves for value in operands):
        return [
            value._replace(moves=_moved(equation, operands, place)) for place, value in enumerate(results)
        ]
    if name == "dynamic_slice" and all(value.kind is Kind.CONSTANT for value in operands[1:]):
        places = [value.array for value in operands[1:]]
        return [results[0]._replace(moves=_moved(equation, operands[:1], 0, places))]
    if name in (*_SCALINGS, *_CASTS, *_ENTRYWISE):
        return [results[0]._replace(moves=_scaled(equation, operands))]
    return [value if name in UNCHANGED else value._replace(moves=None) for value in results]


def _moved(equation: Any, operands: Sequence[Value], place: int, more: Sequence[Any] = ()) -> Any:
    moves: list[Callable[[Any], Any]] = [value.moves for value in operands if value.moves is not None]
    return lambda leaves: bind(equation, [*(move(leaves) for move in moves), *more])[place]


def _scaled(equation: Any, operands: Sequence[Value]) -> Any:
    """Those of the one operand that has any and is as large as the result, or of several, if the same."""
    shape = equation.outvars[0].aval.shape
    pairs = zip(operands, equation.invars, strict=True)
    found = [value.moves for value, atom in pairs if value.moves and atom.aval.shape == shape]
    return found[0] if found and all(moves is found[0] for moves in found) else None
