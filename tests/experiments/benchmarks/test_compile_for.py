"""What is read of a compiled program, and what the command prints, stores and refuses."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import compile_for
from experiments.benchmarks.compile_for import CompileFor
from experiments.benchmarks.programs import PROGRAMS, Lowerable, Place
from experiments.benchmarks.reading import bytes_held, collectives, estimated_seconds
from experiments.benchmarks.sizes import SMALLEST

TEXT = """
  %all-reduce.1 = (f32[10]{0}, bf16[3,4]{1,0}) all-reduce(%a, %b), replica_groups={{0,1}}
  %all-reduce.2 = f32[] all-reduce(%c), to_apply=%add
  %ag = (u8[2,8]{1,0}, /*index=5*/u8[4,8]{1,0}) all-gather-start(%d), dimensions={0}
  %done = u8[4,8]{1,0} all-gather-done(%ag)
"""


class Text:
    """A compiled program of which only the text is asked for."""

    def as_text(self):
        """Two collectives of one kind, and one that begins and ends."""
        return TEXT


def product(place):
    """A product of a matrix with itself, whose result takes its place."""
    lowered = jax.jit(lambda a: a @ a, donate_argnums=0).lower(jnp.zeros((place.sizes.batch, 4)))
    return Lowerable(lambda: lowered)


@pytest.fixture
def programs(monkeypatch):
    """Two programs, one of which does not compile."""

    def broken(place):
        raise MemoryError("too\nlarge")

    found = {"product": product, "broken": broken}
    monkeypatch.setattr(compile_for, "PROGRAMS", found)
    return found


def test_collectives_are_counted_by_kind_with_the_largest_array():
    assert collectives(Text()) == {
        "all-reduce": {"count": 2, "largest": 40},
        "all-gather": {"count": 1, "largest": 32},
    }


def test_a_result_in_the_place_of_an_argument_is_held_once():
    held = bytes_held(jax.jit(lambda a: a + 1, donate_argnums=0).lower(jnp.zeros(16)).compile())
    assert (held["arguments"], held["results"]) == (64, 0)


@pytest.mark.parametrize(
    ("cost", "estimate"),
    [
        (None, None),
        ({}, None),
        ({"optimal_seconds": 0.25}, (0.25, 0)),
        ({"optimal_seconds": -2.75}, (0.25, 3)),
        ({"optimal_seconds": -8.75}, None),
    ],
)
def test_what_the_compiler_cannot_estimate_counts_for_minus_one(cost, estimate):
    assert estimated_seconds(SimpleNamespace(cost_analysis=lambda: cost)) == estimate


def test_operations_without_an_estimate_are_counted_beside_it(programs, monkeypatch, capsys):
    monkeypatch.setattr(compile_for, "estimated_seconds", lambda _: (0.0025, 3))
    programs["product"] = lambda place: product(place)._replace(step=product(place).lower)
    compile_for.run(CompileFor(target="here", only=("product",), smallest=True))
    assert capsys.readouterr().out.rstrip().endswith("| none | 2.5 and 3 unknown |")


def test_rows_are_printed_and_stored_and_what_does_not_compile_is_named(programs, tmp_path, capsys):
    out = tmp_path / "out.json"
    config = CompileFor(target="here", only=("broken", "product"), smallest=True, json=out)
    with pytest.raises(ValueError, match=r"these programs do not compile: broken$"):
        compile_for.run(config)
    printed, found = capsys.readouterr().out, json.loads(out.read_text())
    assert "| broken | failed: MemoryError: too large |" in printed
    assert "| product | 1 |" in printed
    assert found["rows"]["product"]["bytes"]["arguments"] == 64
    assert found["devices"] == 1


def test_a_run_goes_on_where_it_stopped(programs, tmp_path, capsys):
    out = tmp_path / "out.json"
    config = CompileFor(target="here", smallest=True, json=out)
    with pytest.raises(ValueError, match="do not compile: broken"):
        compile_for.run(config)
    before = json.loads(out.read_text())
    compile_for.run(replace(config, only=("product",)))
    assert json.loads(out.read_text()) == before
    programs["broken"] = product
    compile_for.run(config)
    found = json.loads(out.read_text())
    assert found["rows"]["product"] == before["rows"]["product"]
    assert found["rows"].keys() == {"product", "broken"}
    assert "failed" not in found["rows"]["broken"]
    assert capsys.readouterr().out.count("| product | 1 |") == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"jax": "0", "rows": {}}', '{"rows": []}'])
def test_a_file_of_something_else_is_not_written_over(content, programs, tmp_path):
    out = tmp_path / "out.json"
    out.write_text(content)
    with pytest.raises(ValueError, match=r"out.json holds something else than programs for 1 x cpu"):
        compile_for.run(CompileFor(target="here", smallest=True, json=out))
    assert out.read_text() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "abacus"}, "unknown target 'abacus'; the valid names are: tpu-v5e, .*, here"),
        ({"target": "here", "devices": 0}, "--devices"),
        ({"target": "here", "only": ("speed",)}, "unknown program 'speed'; the valid names are: train-"),
    ],
)
def test_what_there_is_not(options, message):
    with pytest.raises(ValueError, match=message):
        CompileFor(**options)


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match="expected --devices of at most the 1 at hand, got 64"):
        compile_for.run(CompileFor(target="here", devices=64))


def test_a_compiler_that_is_not_here(monkeypatch):
    def find(count):
        raise NotImplementedError("topology of platform tpu\nand more")

    monkeypatch.setitem(
        compile_for.TARGETS, "tpu-v5e", compile_for.TARGETS["tpu-v5e"]._replace(find=find)
    )
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    with pytest.raises(
        ValueError, match=r"no compiler for 1 such devices here \(topology of platform tpu"
    ):
        compile_for.run(CompileFor(target="tpu-v5e"))


@pytest.mark.parametrize(
    "name",
    [
        name if name == "train-lenet-300-100" else pytest.param(name, marks=pytest.mark.slow)
        for name in PROGRAMS
    ],
)
def test_every_program_reaches_the_compiler(name):
    program = PROGRAMS[name](Place(jax.local_devices(), None, SMALLEST))
    for lower in (program.lower, program.step):
        assert lower is None or "func.func public @main" in lower().as_text()
