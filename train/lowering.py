"""How networks are computed on each platform: the one place that chooses, and where a user may override.

The choice changes speed, not numbers, beyond rounding. What decided it is beside each way:
``train.populations.members`` (members in turn or vmapped), ``train.layers.convolution`` and
``train.layers.batch_norm`` (gradients written for XLA:CPU, or the compiler's own),
``train.layers.three_passes`` (float32 products of a TPU). On CPU, 2 cores, jax
0.10.1, November 2026: four LeNet-5 train 1.6 to 2.2 times as fast in turn as vmapped; a step of a small
convolutional network in a loop takes 12 to 20 times as long with the compiler's own gradients. No
accelerator has been measured yet: what is chosen there is what is read of them, and of what compilers say
(docs/accelerators.md).

It is read while JAX traces a program: choose before the first one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax


class Lowering(NamedTuple):
    """How networks are computed.

    Attributes:
        in_turn: Members one after another in a loop; otherwise vmapped.
        own_gradients: Convolutions and batch normalisation with gradients that are fast in loops on CPU;
            otherwise the compiler's.
        one_pass: Convolutions in three passes of bfloat16 as one over thrice as many channels, for TPUs;
            otherwise the compiler's.
    """

    in_turn: bool
    own_gradients: bool
    one_pass: bool = False


LOWERINGS = {
    "cpu": Lowering(in_turn=True, own_gradients=True),
    "accelerator": Lowering(in_turn=False, own_gradients=False),
    "accelerator-in-turn": Lowering(in_turn=True, own_gradients=False),
    "tpu": Lowering(in_turn=False, own_gradients=False, one_pass=True),
    "tpu-in-turn": Lowering(in_turn=True, own_gradients=False, one_pass=True),
}
"""By the names that the experiments' option ``--lowering`` takes."""

_overrides: list[Lowering] = []


def lowering() -> Lowering:
    """How networks are computed here: as the platform suggests, unless ``lowered`` says otherwise."""
    if _overrides:
        return _overrides[-1]
    platform = jax.default_backend()
    return LOWERINGS[platform if platform in ("cpu", "tpu") else "accelerator"]


@contextmanager
def lowered(choice: Lowering) -> Iterator[None]:
    """Computes networks in another way, in programs that are traced within."""
    _overrides.append(choice)
    try:
        yield
    finally:
        _overrides.pop()
