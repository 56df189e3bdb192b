"""Ways in which a file, or what JSON holds, may be damaged: what the tests of stored files try."""

import itertools

OTHER_VALUES = (None, True, -1, 10**9, 2.5, float("nan"), "", "text", [], [[]], {}, {"a": 1})


def flipped(content, step=1):
    """Each copy of a content with one bit flipped: every bit of every ``step``-th byte."""
    for place, bit in itertools.product(range(0, len(content), step), range(8)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        yield bytes(damaged)


def cut(content, step=1):
    """Each beginning of a content."""
    return (content[:length] for length in range(0, len(content), step))


def mutated(value):
    """Each copy of a JSON value with one value in it replaced by one of another kind, or left out."""
    yield from (other for other in OTHER_VALUES if not _same(other, value))
    if isinstance(value, dict):
        for key, inner in value.items():
            rest = {name: one for name, one in value.items() if name != key}
            yield rest
            yield rest | {f"{key}?": inner}
            yield from (value | {key: other} for other in mutated(inner))
    if isinstance(value, list):
        yield [*value, "more"]
        for place, inner in enumerate(value):
            yield value[:place] + value[place + 1 :]
            yield from ([*value[:place], other, *value[place + 1 :]] for other in mutated(inner))


def _same(one, other):
    return type(one) is type(other) and one == other
