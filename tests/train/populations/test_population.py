"""Population training: members do not know of each other, and a member is an ordinary training run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from tests.compilations import compiled_programs
from train.data.datasets import Dataset, Split, hold_out
from train.models import make_model
from train.populations.members import in_turn, side_by_side
from train.populations.population import Member, Population, stack_members
from train.recipes import Recipe

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.1, momentum=0.9, weight_decay=1e-3)
MODEL = make_model("lenet-300-100", num_classes=3)


def dataset(train=40, test=20, shape=(4, 4, 1)):
    rng = np.random.default_rng(0)

    def split(size):
        labels = rng.integers(0, 3, size).astype(np.int32)
        images = rng.integers(0, 200, (size, *shape)) + 20 * labels[:, None, None, None]
        return Split(images.astype(np.uint8), labels)

    channels = shape[-1]
    return Dataset(
        name="blobs",
        train=split(train),
        test=split(test),
        num_classes=3,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


def hold(optimizer, masks):
    return optax.chain(optimizer, pruning.hold_masks(masks))


def population(recipe=RECIPE, method=hold, model=MODEL, data=None):
    return Population(model=model, dataset=data or dataset(), recipe=recipe, method=method)


@functools.cache
def ordinary():
    """The population of all tests that need no other: what it runs is compiled once."""
    return population()


def member(pop, seed, sparsity=0.5, learning_rate=0.1):
    key = jax.random.key(seed)
    masks = pruning.random_masks(key, pop.initial_params(key), sparsity)
    return Member(key, key, jnp.float32(learning_rate), jnp.float32(1e-3), masks)


def last(results):
    *_, result = results
    return result


def assert_close(first, second, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), first, second)


def test_a_member_alone_equals_the_same_member_in_a_population():
    pop = ordinary()
    members = [member(pop, seed) for seed in range(3)]
    together = last(pop.train(stack_members(members)))
    alone = last(pop.train(stack_members(members[1:2])))
    pick = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)  # noqa: E731
    assert_close(pick(together.states, 1), pick(alone.states, 0))
    assert_close(pick(together.metrics, 1), pick(alone.metrics, 0))


def test_one_program_serves_all_sparsities_seeds_and_rates():
    pop = population()
    for seed, sparsity, rate in ((0, 0.0, 0.1), (1, 0.9, 0.1), (2, 0.99, 0.01)):
        last(pop.train(stack_members([member(pop, seed, sparsity, rate)] * 2)))
    assert pop.compilations == 1


def test_pruned_weights_stay_zero_and_the_sparsity_is_reported():
    pop = ordinary()
    one = member(pop, 0, sparsity=0.75)
    for result in pop.train(stack_members([one])):
        params = jax.tree.map(lambda leaf: leaf[0], result.states.params)
        pruned = jax.tree.map(
            lambda p, q: bool(jnp.all(p == q)), params, pruning.apply_masks(params, one.method)
        )
        assert all(jax.tree.leaves(pruned))
        np.testing.assert_allclose(result.metrics["sparsity"], pruning.sparsity(one.method), rtol=1e-6)


def test_a_diverged_member_leaves_the_others_alone():
    pop = ordinary()
    good, bad = member(pop, 0), member(pop, 1, learning_rate=np.inf)
    metrics = last(pop.train(stack_members([good, bad]))).metrics
    alone = last(pop.train(stack_members([good]))).metrics
    assert not np.isfinite(metrics["train_loss"][1])
    np.testing.assert_allclose(metrics["test_loss"][0], alone["test_loss"][0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("execute", [in_turn, pytest.param(side_by_side, marks=pytest.mark.slow)])
def test_a_shared_order_key_is_every_members_order_key(execute):
    pop = Population(model=MODEL, dataset=dataset(), recipe=RECIPE, method=hold, execute=execute)
    shared = jax.random.key(7)
    members = stack_members([member(pop, seed)._replace(order_key=shared) for seed in range(2)])
    own = last(pop.train(members))
    together = last(pop.train(members._replace(order_key=shared)))
    assert_close(own.metrics, together.metrics)
    other = last(pop.train(members._replace(order_key=jax.random.key(8))))
    assert not np.allclose(own.metrics["test_loss"], other.metrics["test_loss"])


@pytest.mark.slow
def test_what_fills_up_the_last_evaluation_batch_does_not_count(monkeypatch):
    """20 examples in batches of 8: the last batch holds 4 and is filled up with 4 that were seen."""
    whole = ordinary()
    members = stack_members([member(whole, 0)])
    expected = last(whole.train(members, epochs=1)).metrics
    monkeypatch.setattr("train.evaluation.EVALUATION_BATCH", 8)
    found = last(population().train(members, epochs=1)).metrics
    assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_step": 3}, "expected states at first_step, 3, got steps \\[0\\]"),
        ({"size": 0}, "expected size from 1 to the 2 members, got 0"),
        ({"size": 3}, "expected size from 1 to the 2 members, got 3"),
    ],
)
def test_states_and_sizes_that_do_not_fit_are_refused(options, message):
    pop = ordinary()
    members = stack_members([member(pop, seed) for seed in range(2)])
    with pytest.raises(ValueError, match=message):
        next(pop.train(members, states=pop.start(members), **options))


def test_there_is_a_member_to_stack():
    with pytest.raises(ValueError, match="at least one member to stack"):
        stack_members([])


def test_what_is_held_out_is_what_validates_and_is_not_trained_on():
    pop = population(dataclasses.replace(RECIPE, validation_examples=12))
    trained, held = hold_out(dataset().train, 12)
    for found, expected in ((pop.train_split, trained), (pop.evaluation_splits["validation"], held)):
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
    seen = {image.tobytes() for image in np.asarray(trained.images)}
    assert not seen & {image.tobytes() for image in np.asarray(held.images)}


@pytest.mark.slow
def test_a_recipe_may_hold_out_validation_examples():
    pop = population(dataclasses.replace(RECIPE, validation_examples=12))
    assert len(pop.train_split.labels) == 28
    metrics = last(pop.train(stack_members([member(pop, 0)]), epochs=1)).metrics
    assert {"validation_loss", "validation_accuracy", "test_accuracy"} <= set(metrics)


@pytest.mark.slow
def test_every_step_of_every_epoch_augments_anew():
    """Of one image again and again, and with a rate of 0, losses differ by what was drawn alone."""
    data = dataset(shape=(8, 8, 3))
    same = Split(np.repeat(data.train.images[:1], 32, 0), np.repeat(data.train.labels[:1], 32, 0))
    recipe = dataclasses.replace(RECIPE, crop_padding=2)
    pop = population(recipe, data=dataclasses.replace(data, train=same))
    members = stack_members([member(pop, 0, learning_rate=0.0)])
    losses = [float(r.metrics["train_loss"][0]) for r in pop.train(members, epochs=2, stops=(1, 3))]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("changes", [{"mean": (0.1,) * 3}, {"std": (0.1,) * 3}])
def test_moments_for_other_channels_are_refused_before_anything_is_compiled(changes):
    with pytest.raises(
        ValueError, match=r"each of the 1 channels of blobs, got 3: give so many, or None"
    ):
        population(dataclasses.replace(RECIPE, **changes))


@pytest.mark.slow
def test_augmentation_is_keyed_and_changes_the_run():
    data = dataset(shape=(8, 8, 3))
    plain = population(data=data)
    augmented = population(dataclasses.replace(RECIPE, flip=True, crop_padding=2), data=data)
    losses = [
        float(last(pop.train(stack_members([member(pop, 0)]), epochs=1)).metrics["train_loss"][0])
        for pop in (plain, augmented, augmented)
    ]
    assert losses[0] != losses[1]
    assert losses[1] == losses[2]


def test_dissipating_members_share_a_program_over_fractions():
    steps = 3

    def method(optimizer, fraction):
        dissipate = pruning.dissipate(fraction, check_every=steps, stop_after=2 * steps)
        return optax.chain(optimizer, dissipate)

    pop = population(method=method)
    members = [member(pop, 0)._replace(method=jnp.float32(fraction)) for fraction in (0.0, 0.1, 10.0)]
    found = [result.metrics["sparsity"] for result in pop.train(stack_members(members))]
    assert pop.compilations == 1
    assert found[0][0] < found[0][1] < found[0][2] < 1
    np.testing.assert_array_equal(found[1], found[2])  # the window has closed


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [False, True])
def test_the_first_epoch_s_program_is_that_of_all_others(resumed):
    """XLA compiles once: arrays that are placed otherwise would be another program."""
    pop = population()
    members = stack_members([member(pop, seed) for seed in range(2)])
    states = jax.device_get(pop.start(members)) if resumed else None
    with compiled_programs() as names:
        assert len(list(pop.train(members, states=states))) == 3
    assert names.count("_train_members") == 1
