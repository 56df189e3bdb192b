"""K-starts among N:M masks: groups lie along the inputs, and what they do not divide stays dense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.methods.registry import find_method
from experiments.methods.searched import draw_n_m_masks
from experiments.methods.study import study_of
from experiments.options.knobs import SearchKnobs
from experiments.pruning_methods import PruningMethods
from tests.experiments.everything import EPOCH, Everything

PARAMS = {
    "conv1": {"kernel": jnp.ones((3, 3, 3, 8)), "bias": jnp.ones(8)},
    "conv2": {"kernel": jnp.ones((1, 1, 8, 5))},
    "head": {"kernel": jnp.ones((12, 10))},
}


def test_a_candidate_keeps_n_of_every_m_inputs_where_m_divides_them():
    masks, others = (draw_n_m_masks(jax.random.key(i), PARAMS, 1, 4) for i in range(2))
    assert masks["conv1"]["kernel"].all()
    assert masks["conv1"]["bias"] is None
    np.testing.assert_array_equal(masks["conv2"]["kernel"].reshape(2, 4, 5).sum(1), 1)
    np.testing.assert_array_equal(masks["head"]["kernel"].reshape(3, 4, 10).sum(1), 1)
    assert (masks["head"]["kernel"] != others["head"]["kernel"]).any()


def test_a_network_for_each_n_whatever_the_sparsities():
    points = list(find_method("k-starts-n-m").points(study_of(Everything(), EPOCH, ()), 3))
    assert {point.sparsity_target for point in points} == {None}
    assert {point.setting for point in points if point.variant == "none"} == {2.0}


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"--group-size to divide the inputs of a layer.* 3, 8, 12, got 7"
    ):
        draw_n_m_masks(jax.random.key(0), PARAMS, 2, 7)
    for kept in ((0,), (4,), (1, 5)):
        with pytest.raises(ValueError, match=r"--kept-in-group from 1 to below --group-size .4., got"):
            SearchKnobs(kept_in_group=kept)
    with pytest.raises(ValueError, match="different --kept-in-group"):
        SearchKnobs(kept_in_group=(1, 1))
    with pytest.raises(ValueError, match="--group-size >= 1, got 0"):
        SearchKnobs(group_size=0)
    assert PruningMethods(methods=("k-starts-n-m",)).methods == ("k-starts-n-m",)
