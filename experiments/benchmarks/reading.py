"""What a compiled program says of itself: bytes of a device, collectives, an estimate of its time."""

import math
import re
from typing import Any

from jax.stages import Compiled

KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
MOST_UNKNOWN = 8
"""Operations without an estimate, beyond which the others are not known to a millionth of a second."""
_COLLECTIVE = re.compile(rf" = (?P<shapes>.*?) (?P<kind>{'|'.join(KINDS)})(-start)?\(")
_SHAPE = re.compile(r"(?P<dtype>[a-z]+\d*[a-z0-9]*)\[(?P<sides>[\d,]*)\]")


def bytes_held(compiled: Compiled) -> dict[str, int]:
    """Bytes of a device: of what goes in, of what comes out, and of what is held meanwhile."""
    found: Any = compiled.memory_analysis()
    return {
        "arguments": found.argument_size_in_bytes,
        "results": found.output_size_in_bytes - found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
    }


def collectives(compiled: Compiled) -> dict[str, dict[str, int]]:
    """What devices tell each other: kind -> how many of it there are, and the bytes of the largest."""
    found: dict[str, dict[str, int]] = {}
    for match in _COLLECTIVE.finditer(compiled.as_text() or ""):
        size = max(map(_bytes, _SHAPE.finditer(match["shapes"])), default=0)
        of_kind = found.setdefault(match["kind"], {"count": 0, "largest": 0})
        of_kind["count"] += 1
        of_kind["largest"] = max(of_kind["largest"], size)
    return found


def estimated_seconds(compiled: Compiled) -> tuple[float, int] | None:
    """How long the compiler thinks that a program runs; None where it does not say.

    A TPU's compiler adds up its estimates, and -1 for each operation that it has none of, as of a loop.
    So where all together take less than a second, the sum tells both. It is a float32: behind many -1
    short operations are lost, and nothing is said.

    Returns:
        The seconds of the operations that it knows, and how many it does not.
    """
    found = (compiled.cost_analysis() or {}).get("optimal_seconds")
    if found is None:
        return None
    unknown = max(0, -math.floor(found))
    return (found + unknown, unknown) if unknown <= MOST_UNKNOWN else None


def _bytes(shape: re.Match[str]) -> int:
    bits = re.search(r"\d+", shape["dtype"])
    sides = (int(side) for side in shape["sides"].split(",") if side)
    return math.prod(sides) * max(1, int(bits[0]) // 8 if bits else 1)
