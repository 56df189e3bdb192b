"""The code in the guides runs, and the guide to the library knows every public name."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import pruning
from experiments.methods.__main__ import methods_page

DOCS = Path(__file__).parents[1] / "docs"


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


# Keras adds arrays of different rank itself.
RANK_PROMOTION = {"keras.md": "allow"}
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if python_blocks(page)]


def went_the_whole_way(names):
    """K-starts, dissipation, RigL, files and compaction have done what the page of a front end says."""
    found, masks, small = (names[name] for name in ("found", "masks", "small"))
    assert pruning.count_prunable(found.masks) == 192
    assert pruning.count_kept(found.masks) in (96, 97)  # of 96, and what rounding a layer leaves
    assert 0 < pruning.sparsity(names["removed"]) < 1
    held = pruning.apply_masks(found.params, found.masks)
    assert all(map(np.array_equal, *map(arrays, (found.params, held))))
    statistics = [
        (leaf, before)
        for (path, leaf), before in zip(
            jax.tree_util.tree_leaves_with_path(found.params),
            jax.tree.leaves(names["variables"]),
            strict=True,
        )
        if re.search("mean|average|flat index", jax.tree_util.keystr(path))
    ]
    assert statistics
    assert all((leaf != before).any() for leaf, before in statistics)
    assert (pruning.count_kept(masks), pruning.count_prunable(masks)) == (20, 192)
    assert any(row.compacted_shape != row.shape for row in small.report.arrays)
    outputs = small.apply_fn(small.variables, names["images"])
    np.testing.assert_allclose(outputs, names["whole"], atol=1e-5)


def arrays(tree):
    """Keys have no values to compare."""
    return [
        leaf
        for leaf in jax.tree.leaves(tree)
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]


FRONT_ENDS = {"equinox.md", "haiku.md", "keras.md", "linen.md", "nnx.md"}


def test_these_guides_have_code():
    assert {page.name for page in PAGES} >= FRONT_ENDS | {
        "library.md",
        "migrating.md",
        "optimizers.md",
        "own-study.md",
    }


# Of front ends: fast tests keep the contract of public names in NNX.
SLOW = FRONT_ENDS | {"library.md", "migrating.md", "transformers.md"}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in PAGES],
)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page one after the other, as it says; they write into a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    names = {}
    with jax.numpy_rank_promotion(RANK_PROMOTION.get(page.name, "raise")):
        for block in python_blocks(page):
            exec(compile(block, page.name, "exec"), names)
        if page.name in FRONT_ENDS:
            went_the_whole_way(names)


def test_every_public_name_is_in_the_guide_to_the_library_or_that_of_methods():
    pages = ((DOCS / name).read_text() for name in ("library.md", "methods.md"))
    mentioned = {name for page in pages for name in re.findall(r"`(\w+)`", page)}
    assert set(pruning.__all__) <= mentioned


def test_the_page_of_methods_is_made_from_the_registry():
    assert (DOCS / "methods.md").read_text() == methods_page(), (
        "python -m experiments.methods > docs/methods.md"
    )
