"""What the wheel ships: the library alone, with its four dependencies."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_wheel_ships_the_library_alone():
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["pruning"]}


def test_the_library_needs_four_packages():
    names = [line.split(">=")[0] for line in PROJECT["project"]["dependencies"]]
    assert sorted(names) == ["jax", "numpy", "optax", "safetensors"]
    assert any("!=0.10.2" in line for line in PROJECT["project"]["dependencies"])
