"""How many members fit, from shapes: by hand, and against what XLA says."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments.engine import stage as stages
from tests.train.populations.test_population import RECIPE, dataset, hold, member
from train.models import make_model
from train.populations import capacity
from train.populations.capacity import _peak, members_that_fit, state_bytes, step_bytes
from train.populations.devices import BATCH, MEMBERS
from train.populations.members import in_turn, side_by_side
from train.populations.population import Population, stack_members
from train.populations.streamed_data import BLOCK_BYTES

WEIGHTS, BIASES = 16 * 300 + 300 * 100 + 100 * 3, 300 + 100 + 3


def population(execute=in_turn):
    model = make_model("lenet-300-100", num_classes=3)
    return Population(model=model, dataset=dataset(), recipe=RECIPE, method=hold, execute=execute)


def peak_of(function, *arguments):
    return _peak(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_peaks_by_hand():
    x = jnp.ones(1000)  # 4,000 bytes
    assert peak_of(lambda x: x, x) == 0
    assert peak_of(lambda x: jnp.sin(x), x) == 4000
    # sin(x) is needed until the product, cos(x) too.
    assert peak_of(lambda x: jnp.sin(x) * jnp.cos(x), x) == 12_000
    # Each step of a chain holds what it reads and what it makes.
    assert peak_of(lambda x: jnp.sin(jnp.sin(jnp.sin(jnp.sin(x)))), x) == 8000
    # What a loop's body holds comes on top of what waits outside.
    inner = lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) * 2.0, x)  # noqa: E731
    assert 16_000 <= peak_of(lambda x: jnp.cos(x) + inner(x), x) < 16_100


def test_the_bytes_of_a_state():
    pop = population()
    momentum_and_params = 2 * 4 * (WEIGHTS + BIASES)
    masks, steps = WEIGHTS, 2 * 4  # the member's own, and the schedule's
    assert state_bytes(pop, member(pop, 0)) == momentum_and_params + masks + steps


def test_what_a_step_holds_is_not_underestimated_nor_by_far_overestimated():
    pop, count = population(side_by_side), 4
    members = stack_members([member(pop, seed) for seed in range(count)])
    states = jax.eval_shape(pop.start, members)
    within = jnp.int32(0), jnp.int32(2)
    program = pop._data._program.lower(
        states, members, jnp.int32(count), within, pop._data.train, pop._data.evaluated
    )
    held = program.compile().memory_analysis().temp_size_in_bytes / count
    assert held <= step_bytes(pop, member(pop, 0)) <= 6 * held


def test_as_many_as_fit():
    pop = population(side_by_side)
    one = member(pop, 0)
    each = 2 * state_bytes(pop, one) + step_bytes(pop, one)
    assert members_that_fit(pop, one, most=1000, free=int(7.5 * each / 0.8)) == 7
    assert members_that_fit(pop, one, most=5, free=int(7.5 * each / 0.8)) == 5
    assert members_that_fit(pop, one, most=1000, free=0) == 1
    # In turn they share what a step holds.
    free = int((step_bytes(pop, one) + 7.5 * 2 * state_bytes(pop, one)) / 0.8)
    assert members_that_fit(population(in_turn), one, most=1000, free=free) == 7


def test_divided_batches_make_room_but_not_for_gradients():
    pop = population(side_by_side)
    one = member(pop, 0)
    state, step = state_bytes(pop, one), step_bytes(pop, one)
    shape = {MEMBERS: 2, BATCH: 4}
    pop.mesh = SimpleNamespace(shape=shape, devices=pop.mesh.devices)
    each = 2 * state + step // 4 + 2 * state
    assert members_that_fit(pop, one, most=1000, free=int(3.5 * each / 0.8)) == 2 * 3


def test_streamed_images_take_their_room(monkeypatch):
    pop = population(side_by_side)
    one = member(pop, 0)
    batch = RECIPE.batch_size * 16  # of 4x4 grey images
    each = 2 * state_bytes(pop, one) + step_bytes(pop, one) + 2 * batch
    free = int((3.5 * each + 2 * BLOCK_BYTES) / 0.8)
    monkeypatch.setattr(capacity, "is_stored", lambda images: True)
    assert members_that_fit(pop, one, most=1000, free=free) == 3


@pytest.mark.parametrize(("fit", "said"), [(32, False), (3, True)])
def test_it_is_said_where_the_memory_decides(fit, said, monkeypatch, capsys):
    monkeypatch.setattr(stages, "members_that_fit", lambda *args, most: min(fit, most))
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    pop = population()
    assert stages.chunk_that_fits(pop, member(pop, 0)) == fit
    assert ("3 networks train together" in capsys.readouterr().out) == said


def test_counting_compiles_nothing():
    pop = population()
    members_that_fit(pop, member(pop, 0), most=10)
    assert pop.compilations == 0
