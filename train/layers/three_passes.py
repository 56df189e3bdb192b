"""Products of float32 numbers on a TPU: the three passes as one product of what is thrice as long.

A TPU multiplies bfloat16 numbers. With precision "high" XLA splits a = a1 + a2 + ..., a1 being a
rounded to bfloat16 and a2 the rest rounded, b in the same way, and computes

    a b  ~  a1 b1 + a1 b2 + a2 b1,        relative error about 2^-16,

as three products. `thrice_left` and `thrice_right` make one product of them, in a single pass, by
putting [a1, a1, a2] and [b1, b2, b1] along the axis that is summed over. The numbers are the same up
to the order of the sums; what changes is the time that compiling takes, and that few channels use more
of the device. A batch that devices share must not be made so long: most of it would move between them.

Measured in November 2026, for a TPU v5e that was not there (jax 0.12.0.1, one CPU core): seconds to
compile the convolutions of 16 vmapped LeNet-5 (batches of 60), by three passes of XLA, by one pass over
thrice as many channels, and by one pass of bfloat16 alone, which computes other numbers:

                                  three      thrice      one
    first layer, forward          4.0           3.5      1.5
      gradient of the kernel     11.0           4.9      4.5
    second layer, forward         3.9           2.1      1.6
      gradient of the images      1.8           2.7      0.6
      gradient of the kernel     31.1           7.5      3.6
"""

import jax
import jax.numpy as jnp
from jax import lax


def thrice_left(a: jax.Array, axis: int) -> jax.Array:
    """The left factor, along the axis that is summed over: [a1, a1, a2]."""
    first, rest = _split(a)
    return jnp.concatenate([first, first, rest], axis)


def thrice_right(b: jax.Array, axis: int) -> jax.Array:
    """The right factor, along the axis that is summed over: [b1, b2, b1]."""
    first, rest = _split(b)
    return jnp.concatenate([first, rest, first], axis)


def _split(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The number rounded to bfloat16, and the rest rounded, both kept in float32.

    A cast to bfloat16 and back may be left out by XLA (`xla_allow_excess_precision`), a rounding not.
    What is infinite, or becomes so beyond 3.39e38, gives NaN.
    """
    first = _rounded(a)
    return first, _rounded(a - first)


def _rounded(a: jax.Array) -> jax.Array:
    bfloat16 = jnp.finfo(jnp.bfloat16)
    return lax.reduce_precision(a, bfloat16.nexp, bfloat16.nmant)
