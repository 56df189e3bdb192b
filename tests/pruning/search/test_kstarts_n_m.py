"""K-starts whose candidates are N:M masks: the parts of ``k_starts``, with another draw."""

import jax
import jax.numpy as jnp
import numpy as np

import pruning

PARAMS = {"w": jnp.arange(1.0, 25).reshape(8, 3), "b": jnp.zeros(3)}


@jax.jit
def search(key):
    def draw(key):
        return pruning.n_m_masks(pruning.random_scores(key, PARAMS), 1, 4)

    masks = jax.vmap(draw)(jax.random.split(key, 6))
    grown = lambda params, _: (jax.tree.map(lambda p: p * 2, params), {"w": params["w"], "b": None})  # noqa: E731
    trained, sums = pruning.train_candidates(grown, PARAMS, masks)
    return masks, pruning.fittest(trained, masks, pruning.weight_fitness(trained, sums, masks))


def test_candidates_and_the_winner_keep_one_of_every_four_inputs():
    masks, found = search(jax.random.key(1))
    candidates = np.asarray(masks["w"])
    np.testing.assert_array_equal(candidates.reshape(6, 2, 4, 3).sum(2), 1)
    assert len({mask.tobytes() for mask in candidates}) == 6
    # Every candidate keeps 6 weights: the fittest is the one that keeps the largest of them.
    sums = np.where(candidates, PARAMS["w"], 0).sum((1, 2))
    assert int(found.winner) == sums.argmax()
    np.testing.assert_array_equal(found.masks["w"], candidates[sums.argmax()])
    np.testing.assert_array_equal(found.params["w"], np.where(found.masks["w"], 2 * PARAMS["w"], 0))
