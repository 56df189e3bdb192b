"""Ways in which a file, or what JSON holds, may be damaged: what the tests of stored files try."""

OTHER_VALUES = (None, True, -1, 10**9, 2.5, float("nan"), "", "text", [], [[]], {}, {"a": 1})


def flipped(content):
    """Each copy of a content with one bit flipped: in every byte, another one of its eight in turn."""
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place * 5 % 8)
        yield bytes(damaged)


def cut(content):
    """Each beginning of a content."""
    return (content[:length] for length in range(len(content)))


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
