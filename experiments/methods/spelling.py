"""Older spellings of stored settings and rows, in today's words: what is read is translated at once."""

from collections.abc import Mapping
from typing import Any

from experiments.methods.point import DENSE, point_of

Row = dict[str, Any]
VERSION = 2
"""Of how runs are stored. Version 1 had no number; its names were each experiment's own."""

_OTHER_KEYS = ("compare", "pruning_methods", "layer_collapse", "effective_sparsity")
_METHODS = {
    "compare": {
        "random": "random-uniform",
        "dissipate": "dissipating-band",
        "dissipate-to": "dissipating-gradients",
        "candidate": "k-starts",
        "search": "k-starts+dissipating-gradients",
        "k-starts+dissipate-to": "k-starts+dissipating-gradients",
        "random+dissipate-to": "random+dissipating-gradients",
        "retrained": "k-starts",
    },
    "missing_the_mark": {"search": "k-starts"},
    "pruning_methods": {"search": "k-starts+dissipating-gradients"},
}


def settings_of_today(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings as today's options are called, with the version of the keys of their seeds."""
    found = dict(settings)
    if "dissipate_epochs" in found:
        found["prune_epochs"] = found.pop("dissipate_epochs")
    if "seed_keys" not in found:
        others = found["experiment"] in _OTHER_KEYS or found.get("criterion") == "random"
        found["seed_keys"] = 1 if others else 2
    return found


def row_of_today(row: Row, experiment: str) -> Row:
    """A stored row with today's columns: all those of a point, and its name."""
    if "weight_decay" in row:
        return row
    row = dict(row)
    old, variant = row["method"], row.get("variant") or "none"
    row["method"] = _METHODS.get(experiment, {}).get(old, old)
    row["setting"] = row.pop("start", None)
    row["variant"] = variant
    if experiment == "compare":
        if old == "dissipate":
            row["setting"], row["variant"] = float(variant), "none"
        elif old == "k-starts":
            row["candidate"], row["variant"] = None, "none" if variant == "combined" else variant
        elif old == "retrained":
            row["variant"] = "retrained"
        elif old == "k-starts+dissipate-to":
            row["variant"] = "none"
    if row["method"] == DENSE:
        row["sparsity_target"], row["round"] = 0.0, None
    point = point_of(row)
    return row | point._asdict() | {"member": point.name}
