"""How many members fit, from shapes: by hand, and against what XLA says."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments.engine import stage as stages
from tests.train.populations.on_devices import streamed
from tests.train.populations.test_population import RECIPE, dataset, hold, member
from train.models import make_model
from train.populations import capacity
from train.populations.capacity import (
    _peak,
    bytes_as_compiled,
    bytes_as_written,
    members_that_fit,
    state_bytes,
    step_bytes,
)
from train.populations.devices import BATCH, MEMBERS
from train.populations.members import in_turn, side_by_side
from train.populations.population import Population

WEIGHTS, BIASES = 16 * 300 + 300 * 100 + 100 * 3, 300 + 100 + 3


def population(execute=in_turn, data=None):
    model = make_model("lenet-300-100", num_classes=3)
    data = data or dataset()
    return Population(model=model, dataset=data, recipe=RECIPE, method=hold, execute=execute)


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


@pytest.mark.slow
def test_the_bytes_of_a_state():
    pop = population()
    momentum_and_params = 2 * 4 * (WEIGHTS + BIASES)
    masks, steps = WEIGHTS, 2 * 4  # the member's own, and the schedule's
    assert state_bytes(pop, member(pop, 0)) == momentum_and_params + masks + steps


@pytest.mark.slow
@pytest.mark.parametrize("execute", [side_by_side, in_turn])
def test_what_is_written_is_more_than_the_compiler_says_but_not_by_far(execute):
    pop = population(execute)
    compiled = bytes_as_compiled(pop, member(pop, 0), 4)
    assert compiled <= bytes_as_written(pop, member(pop, 0), 4) <= 6 * compiled


@pytest.mark.slow
def test_bytes_as_written_by_hand():
    pop = population(side_by_side)
    one = member(pop, 0)
    state, step = state_bytes(pop, one), step_bytes(pop, one)
    assert bytes_as_written(pop, one, 3) == 3 * (2 * state + step)
    # In turn they share what a step holds.
    assert bytes_as_written(population(in_turn), one, 3) == 3 * 2 * state + step
    # Divided batches make room, but not for gradients and updates.
    pop.mesh = SimpleNamespace(shape={MEMBERS: 2, BATCH: 4})
    assert bytes_as_written(pop, one, 3) == 3 * (2 * state + step // 4 + 2 * state)


def test_as_many_as_asked_for_without_compiling_where_shapes_say_that_they_fit():
    pop = population(side_by_side)
    one = member(pop, 0)
    free = bytes_as_written(pop, one, 10) + pop.data_bytes(10)
    assert members_that_fit(pop, one, most=10, free=int(free / 0.8) + 1) == 10
    assert pop.compilations == 0
    assert members_that_fit(pop, one, most=10) == 10
    assert pop.compilations == 0


@pytest.mark.slow
@pytest.mark.parametrize("execute", [side_by_side, in_turn])
def test_where_they_may_not_fit_the_compiler_says_how_many_do(execute):
    pop = population(execute)
    one = member(pop, 0)
    data = pop.data_bytes(7)
    free = int((bytes_as_compiled(pop, one, 7) + data) / 0.8) + 1000
    assert members_that_fit(pop, one, most=1000, free=free) == 7
    assert bytes_as_compiled(pop, one, 8) + data > 0.8 * free
    assert members_that_fit(pop, one, most=5, free=free) == 5
    assert members_that_fit(pop, one, most=1000, free=0) == 1


def test_members_of_several_devices_are_a_multiple_of_them(monkeypatch):
    pop = population(side_by_side)
    pop.mesh = SimpleNamespace(shape={MEMBERS: 4, BATCH: 1}, devices=pop.mesh.devices)
    monkeypatch.setattr(capacity, "bytes_as_compiled", lambda pop, member, each: 1000 + 100 * each)
    monkeypatch.setattr(capacity, "bytes_as_written", lambda *arguments: 10**9)
    monkeypatch.setattr(Population, "data_bytes", lambda pop, size: 0)
    fit = {free: members_that_fit(pop, None, most=22, free=int(free / 0.8) + 1) for free in (1310, 1999)}
    assert fit == {1310: 4 * 3, 1999: 22}


def test_a_block_that_is_read_ahead_takes_its_room(monkeypatch):
    pop = population(side_by_side)
    monkeypatch.setattr(capacity, "is_stored", lambda images: True)
    monkeypatch.setattr(capacity, "bytes_as_compiled", lambda pop, member, each: 1000 * each)
    monkeypatch.setattr(Population, "data_bytes", lambda pop, size: 10 * size)
    assert members_that_fit(pop, member(pop, 0), most=1000, free=int(1020 * 7.5 / 0.8)) == 7


@pytest.mark.parametrize(("fails_at", "fit"), [(2, 1), (4, 2)])
def test_where_the_compiler_finds_no_room_there_are_fewer(fails_at, fit, monkeypatch):
    def compiled(pop, member, each):
        if each == fails_at:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm")
        return 0

    monkeypatch.setattr(capacity, "bytes_as_compiled", compiled)
    pop = population()
    assert members_that_fit(pop, member(pop, 0), most=1000, free=1000) == fit


def test_members_whose_channels_share_tiles_are_not_promised_too_many(monkeypatch):
    """The megabytes of Conv-2 on a TPU v5e, where three take little more than two."""
    megabytes = {2: 1766, 3: 2093, 4: 3497}
    monkeypatch.setattr(capacity, "bytes_as_compiled", lambda pop, member, each: megabytes[each])
    monkeypatch.setattr(capacity, "bytes_as_written", lambda *arguments: 10**9)
    monkeypatch.setattr(Population, "data_bytes", lambda pop, size: 0)
    assert members_that_fit(population(), None, most=256, free=15_750) == 14


@pytest.mark.slow
def test_data_are_counted_by_themselves():
    few, many = (population(data=dataset(test=size)) for size in (20, 200_000))
    held = [bytes_as_compiled(pop, member(pop, 0), 1) for pop in (few, many)]
    assert abs(held[1] - held[0]) < (many.data_bytes(1) - few.data_bytes(1)) / 2


def test_data_take_what_lies_on_a_device():
    whole = population()
    on_it = jax.tree.leaves((whole.train_split, whole.evaluation_splits))
    assert whole.data_bytes(1) == whole.data_bytes(5) == sum(leaf.nbytes for leaf in on_it)
    read = population(data=streamed(dataset()))
    batch = RECIPE.batch_size * (16 + 4) + RECIPE.batch_size  # pixels and a label; and who counts
    assert read.data_bytes(1) == read.steps_per_epoch * batch


@pytest.mark.parametrize(("fit", "said"), [(32, False), (3, True)])
def test_it_is_said_where_the_memory_decides(fit, said, monkeypatch, capsys):
    monkeypatch.setattr(stages, "members_that_fit", lambda *args, most: min(fit, most))
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    pop = population()
    assert stages.chunk_that_fits(pop, member(pop, 0)) == fit
    assert ("3 networks train together" in capsys.readouterr().out) == said


def test_devices_of_a_cpu_share_its_memory(monkeypatch):
    monkeypatch.setattr(capacity.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(jax, "local_device_count", lambda backend: {"cpu": 4}[backend])
    assert capacity.free_bytes(SimpleNamespace(platform="cpu", memory_stats=lambda: None)) == 250
