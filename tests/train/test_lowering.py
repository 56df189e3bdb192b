"""How networks are computed changes their speed, and their numbers by rounding only."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.extend import core

import pruning
from tests.train.populations.on_devices import RECIPE, Convolutional
from tests.train.populations.test_population import dataset, hold, last, member
from train.lowering import LOWERINGS, lowered, lowering
from train.populations.population import Population, stack_members


def population():
    return Population(model=Convolutional(), dataset=dataset(), recipe=RECIPE, method=hold)


@functools.cache
def trained(name):
    with lowered(LOWERINGS[name]):
        pop = population()
        members = stack_members([member(pop, seed) for seed in range(2)])
        return last(pop.train(members, epochs=1))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tolerance"), [("cpu", 1e-5), ("tpu", 1e-3)])
def test_the_numbers_are_the_same(name, tolerance):
    one, other = trained("accelerator"), trained(name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=10 * tolerance, atol=tolerance),
        (one.states.params, one.states.batch_stats, one.metrics),
        (other.states.params, other.states.batch_stats, other.metrics),
    )


@pytest.mark.slow
def test_the_choice_reaches_convolutions_and_batch_normalisation():
    own, called = ("image_gradient", "kernel_gradient", "normalise"), {}
    for name in ("cpu", "accelerator", "tpu"):
        with lowered(LOWERINGS[name]):
            pop = population()
            program = str(pop.trace_member(member(pop, 0)))
        called[name] = [function for function in own if f"name={function}" in program]
    assert called == {"cpu": [*own], "accelerator": [], "tpu": [*own[:2]]}


def precisions(jaxpr):
    """Of all products and convolutions of a program."""
    for eqn in jaxpr.eqns:
        if "precision" in eqn.params:
            yield eqn.params["precision"]
        for inner in core.jaxprs_in_params(eqn.params):
            yield from precisions(inner)


@pytest.mark.parametrize("name", ["cpu", "accelerator"])
@pytest.mark.parametrize(
    ("said", "meant"),
    [("tensorfloat32", jax.lax.Precision.HIGH), ("float32", jax.lax.Precision.HIGHEST)],
)
def test_every_product_has_the_recipes_precision(name, said, meant):
    """Forward, backward and in evaluation, whoever wrote the gradients."""
    recipe = dataclasses.replace(RECIPE, matmul_precision=said)
    with lowered(LOWERINGS[name]):
        pop = Population(model=Convolutional(), dataset=dataset(), recipe=recipe, method=hold)
        found = list(precisions(pop.trace_member(member(pop, 0)).jaxpr))
    assert len(found) >= 3 * 3  # Two convolutions and a dense layer: values, two gradients, evaluation.
    assert set(found) == {(meant, meant)}


def test_three_passes_are_one_for_convolutions_on_tpus():
    """Of values, both gradients, their parts and evaluation; dense layers are left to the compiler."""
    recipe = dataclasses.replace(RECIPE, matmul_precision="tensorfloat32")
    with lowered(LOWERINGS["tpu"]):
        pop = Population(model=Convolutional(), dataset=dataset(), recipe=recipe, method=hold)
        found = list(precisions(pop.trace_member(member(pop, 0)).jaxpr))
    default, high = jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGH
    assert found.count((default, default)) == 2 * 4  # Values, two gradients, evaluation.
    assert found.count((high, high)) == 4


@pytest.mark.parametrize("name", ["cpu", "accelerator", "tpu"])
def test_the_graph_of_a_network_is_read_in_all_ways(name):
    """Whoever reads it sees through how a platform computes it."""
    images, model = np.ones((1, 4, 4, 1), np.float32), Convolutional()
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    params = variables["params"]

    def output_fn(params):
        return model.apply(variables | {"params": params}, images, train=False)

    with lowered(LOWERINGS[name]), jax.default_matmul_precision("tensorfloat32"):
        layout = pruning.network_layout(output_fn, params)
    for layer in ("conv1", "conv2"):
        kernel = params[layer]["kernel"]
        path = tuple(jax.tree_util.DictKey(key) for key in (layer, "kernel"))
        assert layout(path, kernel)[1:] == (
            (2,),
            (3,),
        )  # By its shape alone they were counted from the end.


@pytest.mark.slow
def test_a_population_follows_the_choice_in_which_it_is_traced():
    """Not the one in which it was made."""
    with lowered(LOWERINGS["cpu"]):
        pop = Population(model=Convolutional(), dataset=dataset(), recipe=RECIPE, method=hold)
    members = stack_members([member(pop, seed) for seed in range(2)])
    with lowered(LOWERINGS["accelerator"]):
        text = pop.lower(members).as_text()
    assert "feature_group_count = 2" in text  # Vmapped, as an accelerator's members are.


def test_it_is_the_platform_s_unless_overridden(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert lowering() == LOWERINGS["cpu"]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert lowering() == LOWERINGS["tpu"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert lowering() == LOWERINGS["accelerator"]
    with lowered(LOWERINGS["cpu"]):
        assert lowering() == LOWERINGS["cpu"]
    assert lowering() == LOWERINGS["accelerator"]


def test_an_error_ends_the_override(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def fail():
        with lowered(LOWERINGS["cpu"]):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert lowering() == LOWERINGS["accelerator"]
