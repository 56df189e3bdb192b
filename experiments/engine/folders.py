"""Where a run's results go: a folder named after its settings, or one that was begun earlier."""

import json
from pathlib import Path
from typing import Any

from experiments.engine.identity import different_settings, identity
from experiments.options.options import Options
from experiments.report.config import read_config


def find_folder(options: Options, settings: dict[str, Any]) -> Path:
    """The output folder of a run, which need not exist.

    Args:
        options: Of the run. Without ``--out-dir`` the folder is runs/EXPERIMENT-DATASET-MODEL-HASH, the
            hash being that of the settings that differ from their defaults.
        settings: All that decides the results. A folder beside it that holds them under another hash, of
            an earlier version, is taken instead.
    """
    if options.out_dir is not None:
        return options.out_dir
    parts = (options.experiment.replace("_", "-"), options.dataset, options.model)
    stem = "-".join(parts).replace(":", "-").replace("/", "-")
    path = Path("runs") / f"{stem}-{identity(options.chosen())}"
    if path.exists():
        return path
    for earlier in sorted(Path("runs").glob(f"{stem}-*")):
        if _holds(earlier, settings, options.where_unnamed()):
            print(f"goes on in {earlier}, where this run was begun")
            return earlier
    return path


def _holds(path: Path, settings: dict[str, Any], unnamed: dict[str, Any]) -> bool:
    try:
        _, there = read_config(path / "config.json")
    except (OSError, ValueError):
        return False
    # A stored tuple is a list.
    here, unnamed = json.loads(json.dumps([settings, unnamed]))
    return different_settings(there, here, unnamed) is None
