"""Recipes: schedules by hand, optimizers against optax's, and errors that name the field."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.named_recipes import RECIPES, default_recipe
from train.recipes import Recipe, build_model, make_optimizer, make_schedule

SMALL = Recipe(epochs=4, batch_size=10, learning_rate=1.0)


def test_schedule_warms_up_and_drops():
    recipe = dataclasses.replace(SMALL, warmup_epochs=1, drop_epochs=(2, 3), drop_factor=0.1)
    schedule = make_schedule(recipe, 0.5, steps_per_epoch=2)
    rates = [float(schedule(step)) for step in range(8)]
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rtol=1e-6)


def of_schedule(schedule, **change):
    """A schedule of 20 steps, and its rates."""
    recipe = dataclasses.replace(SMALL, schedule=schedule, **change)
    schedule = make_schedule(recipe, 0.5, steps_per_epoch=5)
    return np.array([float(schedule(step)) for step in range(22)])


def test_cosine_warms_up_and_falls_to_0_after_the_last_step():
    rates = of_schedule("cosine", warmup_epochs=1)
    np.testing.assert_allclose(rates[:6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.5], rtol=1e-6)
    # A third, a half and two thirds of the 15 steps that are left: 60, 90 and 120 degrees.
    np.testing.assert_allclose(rates[[10, 15]], [0.5 * 0.75, 0.5 * 0.25], rtol=1e-6)
    np.testing.assert_allclose(rates[20:], 0, atol=1e-8)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.5, 5, 20)
    np.testing.assert_allclose(rates[5:], [theirs(step) for step in range(5, 22)], atol=1e-7)


def test_cosine_without_a_warm_up_begins_at_its_highest():
    theirs = optax.cosine_decay_schedule(0.5, 20)
    np.testing.assert_allclose(of_schedule("cosine"), [theirs(step) for step in range(22)], atol=1e-7)


def test_one_cycle_rises_to_its_peak_and_falls_linearly():
    rates = of_schedule("one-cycle", peak_fraction=0.2)
    np.testing.assert_allclose(rates[:5], [0.125, 0.25, 0.375, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(rates[[12, 19]], [0.25, 0.5 / 16], rtol=1e-6)
    np.testing.assert_allclose(rates[20:], 0, atol=1e-8)
    theirs = optax.linear_onecycle_schedule(20, 0.5, 0.2, 1.0, div_factor=1e6, final_div_factor=1e6)
    np.testing.assert_allclose(rates[4:], [theirs(step) for step in range(4, 22)], atol=1e-4)


def test_one_cycle_may_fall_by_half_a_cosine():
    rates = of_schedule("one-cycle-cosine", peak_fraction=0.2)
    np.testing.assert_allclose(rates[:5], [0.125, 0.25, 0.375, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(rates[12], 0.25, rtol=1e-6)
    theirs = optax.cosine_onecycle_schedule(20, 0.5, 0.2, final_div_factor=1e6)
    np.testing.assert_allclose(rates[4:], [theirs(step) for step in range(4, 22)], atol=1e-6)


def test_a_peak_within_the_first_step_leaves_no_rise():
    rates = of_schedule("one-cycle", peak_fraction=0.01)
    np.testing.assert_allclose(rates[[0, 10, 20]], [0.5, 0.25, 0], atol=1e-7)


def test_drops_that_fall_on_one_epoch_are_one():
    recipe = dataclasses.replace(SMALL, epochs=160, drop_epochs=(80, 120))
    assert [recipe.of_length(epochs).drop_epochs for epochs in (1, 3, 8)] == [(1,), (2,), (4, 6)]


def test_weight_decay_plays_no_part_where_the_recipe_has_none():
    for optimizer in ("sgd", "adam", "adamw"):
        tx = make_optimizer(dataclasses.replace(SMALL, optimizer=optimizer), 0.5, 0.5, 1)
        params = {"w": jnp.ones(2)}
        updates, _ = tx.update({"w": jnp.zeros(2)}, tx.init(params), params)
        np.testing.assert_array_equal(updates["w"], 0)


def test_every_example_is_seen_in_an_epoch():
    assert SMALL.steps_per_epoch(20) == 2
    assert SMALL.steps_per_epoch(21) == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"momentum": 0.9}, lambda: optax.sgd(0.5, 0.9)),
        ({"weight_decay": 0.1}, lambda: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.5))),
        ({"momentum": 0.9, "nesterov": True}, lambda: optax.sgd(0.5, 0.9, nesterov=True)),
        ({"optimizer": "adam"}, lambda: optax.adam(0.5)),
        ({"optimizer": "adamw", "weight_decay": 0.1}, lambda: optax.adamw(0.5, weight_decay=0.1)),
        (
            {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine"},
            lambda: optax.adamw(optax.cosine_decay_schedule(0.5, 20), weight_decay=0.1),
        ),
    ],
)  # fmt: skip
def test_optimizers(change, expected):
    recipe = dataclasses.replace(SMALL, **change)
    ours, theirs = make_optimizer(recipe, 0.5, recipe.weight_decay, 5), expected()
    params = {"w": jnp.array([1.0, -2.0])}
    states = ours.init(params), theirs.init(params)
    for _ in range(3):
        gradients = {"w": params["w"] * 0.5}
        updates, mine = ours.update(gradients, states[0], params)
        wanted, other = theirs.update(gradients, states[1], params)
        states = mine, other
        np.testing.assert_allclose(updates["w"], wanted["w"], rtol=1e-6)
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'.*sgd, adam, adamw"),
        ({"initializer": "zeros"}, "unknown initializer"),
        ({"scale_initializer": "zeros"}, "unknown scale initializer"),
        ({"compute_dtype": "float16"}, "unknown compute dtype 'float16'.*float32, bfloat16"),
        ({"matmul_precision": "float16"}, "unknown matmul precision 'float16'.*tensorfloat32"),
        ({"score_batch_size": 0}, "score_batch_size > 0"),
        ({"epochs": 0}, "epochs > 0"),
        ({"epochs": 2.5}, "whole number of epochs, got 2.5"),
        ({"epochs": True}, "whole number of epochs, got True"),
        ({"warmup_epochs": 1.5}, "whole number of warmup_epochs"),
        ({"score_batch_size": 1.5}, "score_batch_size > 0, a whole number"),
        ({"drop_epochs": (0,)}, r"drop_epochs > 0, whole numbers, got \(0,\)"),
        ({"drop_epochs": (1.5,)}, "drop_epochs > 0, whole numbers"),
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "a mean and a std of every channel"),
        ({"learning_rate": float("nan")}, "learning_rate > 0"),
        ({"learning_rate": float("inf")}, "finite learning_rate > 0, got inf"),
        ({"weight_decay": -1.0}, "weight_decay >= 0"),
        ({"momentum": float("inf")}, "finite momentum >= 0, got inf"),
        ({"mean": (0.5, float("nan"))}, "finite mean of every channel"),
        ({"std": (0.5, 0.0)}, r"finite std > 0 of every channel, got \(0.5, 0.0\)"),
        ({"drop_epochs": (3, 2)}, "rising order"),
        ({"schedule": "step"}, "unknown schedule 'step'.*drops, cosine, one-cycle, one-cycle-cosine"),
        ({"schedule": "cosine", "drop_epochs": (2,)}, r"no drop_epochs .*'cosine', got \(2,\)"),
        ({"schedule": "cosine", "warmup_epochs": 4}, "warmup_epochs < epochs .*'cosine', got 4 and 4"),
        ({"schedule": "cosine", "peak_fraction": 0.5}, "peak_fraction 0 .*'cosine', got 0.5"),
        ({"peak_fraction": 0.5}, "peak_fraction 0 .*'drops', got 0.5"),
        ({"schedule": "one-cycle"}, r"peak_fraction in \(0, 1\) .*'one-cycle', got 0.0"),
        ({"schedule": "one-cycle-cosine", "peak_fraction": 1.0}, r"peak_fraction in \(0, 1\)"),
        ({"schedule": "one-cycle", "peak_fraction": float("nan")}, r"peak_fraction in \(0, 1\)"),
        ({"schedule": "one-cycle", "peak_fraction": 0.5, "drop_epochs": (1,)}, "no drop_epochs"),
        ({"schedule": "one-cycle", "peak_fraction": 0.5, "warmup_epochs": 1}, "no warmup_epochs"),
        ({"label_smoothing": 1.0}, r"label_smoothing in \[0, 1\), got 1.0"),
        ({"label_smoothing": -0.1}, r"label_smoothing in \[0, 1\)"),
        ({"label_smoothing": float("nan")}, r"label_smoothing in \[0, 1\)"),
    ],
)
def test_errors(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


PUBLISHED = {  # epochs, batch, rate, decay, drops, warm-up
    "assessed-lenet": (16, 128, 0.1, 0, (), 0),
    "assessed-cifar": (160, 128, 0.1, 1e-4, (80, 120), 0),
    "assessed-tinyimagenet": (200, 256, 0.2, 1e-4, (100, 150), 5),
    "assessed-imagenet": (90, 1024, 0.4, 1e-4, (30, 60, 80), 5),
    "lottery-lenet": (50, 60, 1.2e-3, 0, (), 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    """The papers' own, so that a slip of the hand shows."""
    recipe = RECIPES[name]
    found = recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay
    assert (*found, recipe.drop_epochs, recipe.warmup_epochs) == PUBLISHED[name]


def test_published_lengths():
    lottery = RECIPES["lottery-lenet"]
    assert lottery.steps_per_epoch(60_000) * lottery.epochs == 50_000
    assert RECIPES["assessed-cifar"].steps_per_epoch(50_000) == 391
    deit = RECIPES["deit-imagenet"]
    assert (deit.epochs, deit.learning_rate) == (300, 5e-4 * deit.batch_size / 512)
    assert (RECIPES["rewinding-cifar"].epochs, RECIPES["rewinding-cifar"].drop_epochs) == (182, (91, 136))


def test_default_recipes_exist():
    names = {default_recipe(name) for name in ("digits", "mnist", "cifar10:3.0.2", "kmnist")}
    assert names == {"digits", "assessed-lenet", "assessed-cifar"}
    assert default_recipe("tiny_imagenet:0.1.0") == "assessed-tinyimagenet"
    assert default_recipe("imagenet2012") == "assessed-imagenet"
    assert names <= set(RECIPES)


def test_another_length_keeps_the_schedule_in_proportion():
    short = RECIPES["assessed-cifar"].of_length(8)
    assert (short.epochs, short.drop_epochs) == (8, (4, 6))
    assert RECIPES["assessed-tinyimagenet"].of_length(40).warmup_epochs == 1
    assert RECIPES["assessed-cifar"].of_length(1).drop_epochs == (1,)
    assert RECIPES["assessed-cifar"].of_length(160) == RECIPES["assessed-cifar"]
    assert RECIPES["fast-cifar"].of_length(1) == dataclasses.replace(RECIPES["fast-cifar"], epochs=1)
    cosine = dataclasses.replace(SMALL, schedule="cosine", warmup_epochs=3)
    assert [cosine.of_length(epochs).warmup_epochs for epochs in (1, 2, 8)] == [0, 1, 6]


@pytest.mark.slow
def test_a_model_is_drawn_as_the_recipe_says():
    images = jnp.zeros((1, 8, 8, 3))

    def variables(recipe):
        model = build_model("vgg-11", recipe, num_classes=3)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        scale = model.scale_init(jax.random.key(0), (100,), jnp.float32)
        logits = jax.eval_shape(model.apply, shapes, images)
        return shapes["params"], scale, logits.dtype

    params, scale, dtype = variables(RECIPES["assessed-cifar"])
    assert dtype == jnp.float32
    assert 0 < scale.min() < 0.1 < 0.9 < scale.max() < 1
    half, _, dtype = variables(RECIPES["assessed-cifar-bfloat16"])
    assert dtype == jnp.bfloat16
    assert jax.tree.map(lambda leaf: leaf.dtype, half) == jax.tree.map(lambda leaf: leaf.dtype, params)
    _, scale, _ = variables(RECIPES["rewinding-cifar"])
    assert (scale == 1).all()
    with pytest.raises(ValueError, match="unknown model"):
        build_model("vgg-12", SMALL, num_classes=3)
