"""One mesh axis called `data` and the three shardings over it.

`jax.jit` with `NamedSharding` instead of `pmap`: one program for any number of devices and hosts, and BatchNorm over the
global batch without naming an axis. The axis is Auto: with Explicit axes flax's Dropout fails (flax 0.12).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from poster_jax import errors


@dataclasses.dataclass(frozen=True)
class Shardings:
    """Placement of arrays: `state` and `replicated` whole on every device, `batch` split along its first axis."""

    mesh: Mesh
    state: NamedSharding
    batch: NamedSharding
    replicated: NamedSharding


def make_shardings(devices: Sequence[Any] | None = None) -> Shardings:
    """Shardings over the given devices, or over all of them.

    Devices are ordered by process, so that every process has one block of rows; `jax.make_mesh` would order TPUs by topology.
    """
    devices = sorted(jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id))
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    replicated = NamedSharding(mesh, PartitionSpec())
    return Shardings(mesh, replicated, NamedSharding(mesh, PartitionSpec("data")), replicated)


def check_batch_size(name: str, batch_size: int, num_devices: int) -> None:
    """Raises `UserError`, with the nearest valid size, for a batch that does not divide over the devices."""
    if batch_size % num_devices:
        fitting = max(num_devices, batch_size // num_devices * num_devices)
        raise errors.UserError(
            f"config.{name}={batch_size} does not divide over {num_devices} devices: "
            f"use a multiple of {num_devices}, as {fitting}."
        )


def local_slice(size: int) -> slice:
    """This process's part of an axis of `size` rows; the parts of all processes are disjoint and complete."""
    share = size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def put_batch(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Local rows of every process -> global device arrays split along the batch axis."""
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
