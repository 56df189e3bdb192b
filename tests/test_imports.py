"""Which folder may import which, read from the source of every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRUNING = {"jax", "numpy", "optax", "pruning", "safetensors", *sys.stdlib_module_names}


# The folders of the library in layers, from the ground up.
LAYERS = [
    {"files", "trees"},
    {"masks"},
    {"allocations", "connectivity", "formats", "gates"},
    {"scores"},
    {"search", "transforms"},
]


# Those of the experiments; above them stand the experiments, which never import each other, and commands.
FLOORS = ["options", "methods", "report", "engine"]


def files(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path):
    """The top-level names that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0] if node.level == 0 and node.module else path.parent.name


def cases(*folders):
    paths = [path for folder in folders for path in files(folder)]
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def test_there_are_files_to_look_at():
    assert len(files("pruning")) > 5
    assert len(files("train")) > 1


@pytest.mark.parametrize("path", cases("pruning"))
def test_pruning_imports_its_dependencies_alone(path):
    assert set(imports(path)) <= PRUNING


def library_folders(path):
    """The folders of the library from which a file imports, beside its own."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    names = [module.split(".") for module in modules if module.startswith("pruning.")]
    return {name[1] for name in names} - {folder_of(path)}


def folder_of(path):
    """The folder of the library that a file lies in, at whatever depth."""
    return path.relative_to(ROOT / "pruning").parts[0]


def test_every_folder_of_the_library_has_a_layer():
    folders = {folder_of(path) for path in files("pruning")} - {"__init__.py"}
    assert folders == set().union(*LAYERS)


@pytest.mark.parametrize("path", [case for case in cases("pruning") if case.id.count("/") > 1])
def test_the_folders_of_the_library_form_layers(path):
    """A folder may import from the layers below it; the folders of one layer do not know each other."""
    level = next(level for level, layer in enumerate(LAYERS) if folder_of(path) in layer)
    assert library_folders(path) <= set().union(*LAYERS[:level])


@pytest.mark.parametrize("path", [case for case in cases("experiments") if "__main__" not in case.id])
def test_the_folders_of_the_experiments_are_floors(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names = [module.split(".")[1] for module in modules if module.startswith("experiments.")]
    own = path.relative_to(ROOT / "experiments").parts[0]
    below = FLOORS[: FLOORS.index(own)] if own in FLOORS else FLOORS
    assert set(names) <= {own, *below}


@pytest.mark.parametrize("path", cases("pruning", "train"))
def test_the_library_and_train_never_import_experiments(path):
    assert not {"experiments", "tests"} & set(imports(path))


@pytest.mark.parametrize("path", cases("experiments"))
def test_experiments_never_import_tests(path):
    assert "tests" not in imports(path)


@pytest.mark.parametrize("path", cases("pruning", "train", "experiments"))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_importing_the_library_brings_in_no_framework():
    """Nothing hides an import from the reading above."""
    code = "import sys, pruning; print(*{'flax', 'equinox', 'train', 'experiments'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "", done.stderr
    assert done.returncode == 0, done.stderr
