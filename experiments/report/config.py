"""A run's stored settings, in today's words whatever version has stored them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.methods.spelling import settings_of_today
from train.recipes import recipe_from

Settings = dict[str, Any]


def read_config(path: Path) -> tuple[dict[str, Any], Settings]:
    """A run's config.json, and its settings in today's words.

    Raises:
        ValueError: If it is none.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config.get("run_by", []), list):
            raise TypeError("run_by is no list")
        settings = settings_of_today(config["settings"])
        if "recipe" in settings:
            # What recipes could not say then has the default that it has now.
            settings["recipe"] = _as_json(dataclasses.asdict(recipe_from(settings["recipe"])))
        flat(settings)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a run's config ({error!r}): choose another folder with --out-dir"
        ) from error
    return config, settings


def _as_json(settings: Mapping[str, Any]) -> Settings:
    return json.loads(json.dumps(settings))


def unequal(there: Settings, here: Settings) -> list[tuple[str, Any, Any]]:
    """Names and both values of the settings in which two runs differ, by name."""
    there, here = flat(there), flat(here)
    names = sorted(there.keys() | here.keys())
    both = [(name, there.get(name), here.get(name)) for name in names]
    return [one for one in both if one[1] != one[2]]


def flat(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings as one dict: ``{"recipe": {"epochs": 3}}`` as ``{"recipe.epochs": 3}``."""
    found: Settings = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
