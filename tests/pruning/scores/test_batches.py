"""What counts as batches, in whatever form, and that several are as one."""

import collections

import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from tests.pruning.scores.linear_unit import UNIT, X, Y, squared_error

snip_and_grasp = pytest.mark.parametrize("method", [pruning.snip_scores, pruning.grasp_scores])
Pair = collections.namedtuple("Pair", ["x", "y"])


@snip_and_grasp
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "at least one batch, got an empty sequence"),
        ([(X[:0], Y[:0])], "batches of one or more examples, got none in batch 0"),
        ([(X, Y), (X[:0], Y[:0])], "batches of one or more examples, got none in batch 1"),
        ([(X, Y), (X, Y[:1])], r"share a leading axis, .* got leading sizes \[1, 2\] in batch 1"),
        ([(X, Y), ()], r"got leading sizes \[\] in batch 1"),
        ([(X, Y), jnp.float32(1)], r"got leading sizes \[\] in batch 1"),
        # As a loader yields a batch: images and labels, or targets of another shape.
        ([X, jnp.array([0, 1])], r"got float32\[2, 2\], int32\[2\]: a single batch .* \[\[x, y\]\]"),
        ([X, Y], r"got float32\[2, 2\], float32\[2, 1\]: a single batch"),
        ((X[:1], Y[:1]), r"\[batch\]"),
        ([np.asarray(X), np.asarray(Y)], "a single batch"),
        ([X, X, Y], "a single batch"),
        ([{"x": X}, Y], "got dict, float32"),
        (X, r"\[batch\]"),
        (Pair(X, Y), r"got a Pair of arrays; a single batch goes in a list"),
        (Pair({"x": X}, {"y": Y}), r"got a Pair of arrays; a single batch goes in a list"),
        ({"x": X, "y": Y}, r"got a dict; a single batch goes in a list: \[batch\]"),
        ((batch for batch in [(X, Y)]), "got a generator, which may not be read twice; .*islice"),
        (iter([(X, Y)]), "may not be read twice"),
        ({(1, 2)}, "list"),
    ],
)
def test_what_is_no_sequence_of_batches_with_examples_is_named(method, data, message):
    with pytest.raises(ValueError, match=message):
        method(squared_error, UNIT, data)


FORMS = {
    "list": (squared_error, [[X, Y]]),
    "named": (squared_error, [Pair(X, Y)]),
    "numpy": (squared_error, [[np.asarray(X), np.asarray(Y)]]),
    "a tuple of batches": (squared_error, ((X, Y), [X, Y])),
    "no size, for the loss holds the data": (lambda params, _: squared_error(params, (X, Y)), [None]),
    "a number beside the examples": (
        lambda params, batch: squared_error(params, batch["examples"]) / batch["temperature"],
        [{"examples": (X, Y), "temperature": 1.0}],
    ),
}


@snip_and_grasp
@pytest.mark.parametrize("form", FORMS)
def test_batches_may_have_any_form(method, form):
    loss, batches = FORMS[form]
    expected = method(squared_error, UNIT, [(X, Y)])
    assert method(loss, UNIT, batches)["w"].tolist() == expected["w"].tolist()


def test_bare_arrays_that_are_alike_are_batches():
    loss = lambda params, x: jnp.mean((x @ params["w"]) ** 2)  # noqa: E731
    found = pruning.snip_scores(loss, UNIT, [X, X[:1]])
    whole = pruning.snip_scores(loss, UNIT, [jnp.concatenate([X, X[:1]])])
    np.testing.assert_allclose(found["w"], whole["w"], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_many_batches_in_a_short_dtype_are_summed_in_float32(dtype):
    """Of a thousand equal batches the sum in bfloat16 stands still at 256 times one of them."""
    params, batch = {"w": jnp.ones((2, 2), dtype)}, jnp.array([[[1.0, 2.0], [3.0, 4.0]]], dtype)
    linear = lambda params, batch: jnp.sum(params["w"] * jnp.mean(batch, axis=0))  # noqa: E731
    found = pruning.snip_scores(linear, params, [batch] * 1000)["w"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found / found[0, 0], batch[0])  # Those of float16 have a factor.
