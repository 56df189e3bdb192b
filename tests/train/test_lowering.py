"""How networks are computed changes their speed, and their numbers by rounding only."""

import jax
import numpy as np
import pytest

from train.lowering import LOWERINGS, lowered, lowering
from train.population import Population, stack_members

from .on_devices import RECIPE, Convolutional
from .test_population import dataset, hold, last, member


def found(choice):
    with lowered(choice):
        pop = Population(model=Convolutional(), dataset=dataset(), recipe=RECIPE, method=hold)
        members = stack_members([member(pop, seed) for seed in range(2)])
        result = last(pop.train(members, epochs=1))
        program = str(pop.trace_member(member(pop, 0)))
    return result, program


@pytest.fixture(scope="module")
def all_found():
    return {name: found(LOWERINGS[name]) for name in ("cpu", "accelerator")}


def test_the_numbers_are_the_same(all_found):
    (one, _), (other, _) = all_found.values()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        (one.states.params, one.states.batch_stats, one.metrics),
        (other.states.params, other.states.batch_stats, other.metrics),
    )


def test_the_choice_reaches_convolutions_and_batch_normalisation(all_found):
    own = [f"name={function}" for function in ("image_gradient", "kernel_gradient", "normalise")]
    assert all(call in all_found["cpu"][1] for call in own)
    assert not any(call in all_found["accelerator"][1] for call in own)


def test_it_is_the_platform_s_unless_overridden(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert lowering() == LOWERINGS["cpu"]
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
