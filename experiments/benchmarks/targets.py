"""Accelerators that programs can be compiled for; XLA's compilers need none of them to be there."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from experiments.benchmarks.measuring import Unavailable

SHAPES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4"}
"""How many chips of a TPU of two dimensions -> how they lie."""

GPU = """gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: {shared} threads_per_core_limit: 2048 core_count: {cores}
  fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {cache} clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {most_shared} registers_per_core_limit: 65536
  registers_per_block_limit: 65536 cuda_compute_capability {{ major: {major} minor: 0 }} }}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{name}"
"""


class Target(NamedTuple):
    """An accelerator.

    Attributes:
        memory: Bytes of a device; None for those at hand.
        find: From a number of devices to them.
        lowering: How networks are computed there, a name in ``train.lowering.LOWERINGS``; None for what
            suits the devices at hand.
    """

    memory: int | None
    find: Callable[[int], Sequence[Any]]
    lowering: str | None

    def devices(self, count: int) -> list[Any]:
        """So many devices to compile for.

        Raises:
            Unavailable: If the compiler is not installed, or knows no such arrangement; says what to do.
        """
        try:
            return list(self.find(count))
        except Unavailable:
            raise
        except Exception as error:  # The plugins raise errors of many types.
            raise Unavailable(
                f"no compiler for {count} such devices here ({str(error).splitlines()[0]}): install "
                "jax[tpu] or jax[cuda12] under Python 3.12 or newer (docs/accelerators.md)"
            ) from error


def _tpu(accelerator: str, version: str) -> Callable[[int], Sequence[Any]]:
    def find(count: int) -> Sequence[Any]:
        if count not in SHAPES:
            raise Unavailable(f"expected --devices {', '.join(map(str, SHAPES))} for a TPU, got {count}")
        # What the compiler would ask the machine, which has no TPU to say it.
        os.environ |= {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_ACCELERATOR_TYPE": f"{accelerator}-{count}",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
        alone = {"chips_per_host_bounds": [1, 1, 1]} if count == 1 else {}
        shape = f"{version}:{SHAPES[count]}"
        return topologies.get_topology_desc(shape, platform="tpu", **alone).devices

    return find


def _gpu(*, name: str, memory: int, **facts: float) -> Target:
    def find(count: int) -> Sequence[Any]:
        os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # It asks a driver, and there may be none.
        config = GPU.format(name=name, memory=memory, **facts)
        topology = {"topology": f"1x1x{count}", "target_config": config}
        return topologies.get_topology_desc("gpu", platform="cuda", **topology).devices

    return Target(memory, find, "accelerator")


def _here(count: int) -> Sequence[Any]:
    if count > len(jax.local_devices()):
        raise Unavailable(
            f"expected --devices of at most the {len(jax.local_devices())} at hand, got {count}"
        )
    return jax.local_devices()[:count]


TARGETS = {
    "tpu-v5e": Target(16 * 2**30, _tpu("v5litepod", "v5e"), "tpu"),
    "tpu-v6e": Target(32 * 2**30, _tpu("v6e", "v6e"), "tpu"),
    "a100": _gpu(
        name="NVIDIA A100-SXM4-80GB",
        memory=85_024_112_640,
        cores=108,
        fpus=64,
        shared=167936,
        most_shared=166912,
        bandwidth=2_039_000_000_000,
        cache=41943040,
        clock=1.41,
        major=8,
    ),
    "h100": _gpu(
        name="NVIDIA H100 80GB HBM3",
        memory=84_942_979_072,
        cores=132,
        fpus=128,
        shared=233472,
        most_shared=232448,
        bandwidth=3_352_320_000_000,
        cache=52428800,
        clock=1.98,
        major=9,
    ),
    "here": Target(None, _here, None),
}
"""By the names of the command line; "here" is what JAX finds, whose compiler is always there."""
