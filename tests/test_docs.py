"""The code in the guides runs, and the guide to the library knows every public name."""

import re
from pathlib import Path

import jax
import pytest

import pruning
from experiments.methods.__main__ import methods_page

DOCS = Path(__file__).parents[1] / "docs"


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


# Keras adds arrays of different rank itself.
RANK_PROMOTION = {"keras.md": "allow"}
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if python_blocks(page)]


def test_these_guides_have_code():
    assert {page.name for page in PAGES} >= {
        "equinox.md",
        "haiku.md",
        "keras.md",
        "library.md",
        "linen.md",
        "migrating.md",
        "nnx.md",
        "optimizers.md",
        "own-study.md",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page one after the other, as it says; they write into a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    names = {}
    with jax.numpy_rank_promotion(RANK_PROMOTION.get(page.name, "raise")):
        for block in python_blocks(page):
            exec(compile(block, page.name, "exec"), names)


def test_every_public_name_is_in_the_guide_to_the_library_or_that_of_methods():
    pages = ((DOCS / name).read_text() for name in ("library.md", "methods.md"))
    mentioned = {name for page in pages for name in re.findall(r"`(\w+)`", page)}
    assert set(pruning.__all__) <= mentioned


def test_the_page_of_methods_is_made_from_the_registry():
    assert (DOCS / "methods.md").read_text() == methods_page(), (
        "python -m experiments.methods > docs/methods.md"
    )
