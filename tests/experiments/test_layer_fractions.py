"""Searches in several layer fractions: which networks there are, and what is said of them."""

from experiments.layer_fractions import SCORED, SEARCHES, LayerFractions, points, summary
from experiments.methods.study import study_of
from tests.experiments.everything import EPOCH
from tests.experiments.made_up import results, several


def test_masks_of_scores_are_there_shuffled_and_not():
    options = LayerFractions(seeds=1, sparsities=(0.9,))
    found = points(options, study_of(options, EPOCH, ()))
    assert len(found) == 1 + 2 * len(SEARCHES) + len(SCORED)
    assert {(one.method, one.variant) for one in found} >= set(SEARCHES.values())
    assert {one.method for one in found if one.variant == "none"} >= {*SCORED, *SEARCHES}


def test_each_search_is_set_beside_one_mask_of_its_layers():
    rows = several("dense", [0.9, 0.9]) + several("random-uniform", [0.3, 0.5])
    rows += several("snip", [0.8, 0.92]) + several("snip", [0.5, 0.72], variant="shuffle")
    rows += several("k-starts-snip", [0.6, 0.7])
    text = "\n".join(summary(results(rows), None))
    assert "| SNIP, shuffle | 61.00 ± 15.56 |" in text
    assert "| SNIP, shuffle beats Random, uniform | +21.00 ± 12.71, **holds** |" in text
    assert "| K-starts, SNIP's layers beats SNIP, shuffle | +4.00 ± 76.24, undecided |" in text
    assert "| shuffle hurts SNIP | -25.00 ± 63.53, undecided |" in text
    assert "| K-starts, SNIP's layers beats SNIP | -21.00 ± 12.71, **does not hold** |" in text
    assert "K-starts, ERK" not in text
    assert "adds more than" not in text
    assert "K-starts chooses among 8 masks after 2 epochs." in text
    rows += several("k-starts", [0.3, 0.6])
    text = "\n".join(summary(results(rows), None))
    assert "| K-starts, SNIP's layers adds more than K-starts | -1.00 ± 139.77, undecided |" in text


def test_without_a_search_none_is_spoken_of():
    text = "\n".join(summary(results(several("random-uniform", [0.3, 0.5])), None))
    assert "K-starts" not in text
