"""Names that were given on a command line or in a config, found in a table of what there is."""

from typing import Any


def lookup(table: dict[str, Any], name: str, what: str) -> Any:
    """Finds a name that was given on the command line or in a config.

    Raises:
        ValueError: If there is none; lists the valid names.
    """
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; the valid names are: {', '.join(table)}")
    return table[name]
