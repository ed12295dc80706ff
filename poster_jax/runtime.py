"""Devices: one mesh axis called `data`, three shardings, and stopping on a signal.

`jax.jit` with `NamedSharding` instead of `pmap`: one program for any number of devices and hosts, and BatchNorm over the
global batch without naming an axis. The axis is Auto: with Explicit axes flax's Dropout fails (flax 0.12).
"""

import contextlib
import dataclasses
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from poster_jax import errors


@dataclasses.dataclass(frozen=True)
class Shardings:
    """Where arrays live: `state` and `replicated` on every device, `batch` cut along its first axis."""

    mesh: Mesh
    state: NamedSharding
    batch: NamedSharding
    replicated: NamedSharding


def make_shardings(devices: Sequence[Any] | None = None) -> Shardings:
    """Shardings over the given devices, or over all there are."""
    devices = jax.devices() if devices is None else devices
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    replicated = NamedSharding(mesh, PartitionSpec())
    return Shardings(mesh, replicated, NamedSharding(mesh, PartitionSpec("data")), replicated)


def check_batch_size(name: str, batch_size: int, num_devices: int) -> None:
    """Raises `UserError` with the nearest size that divides over the devices."""
    if batch_size % num_devices:
        fitting = max(num_devices, batch_size // num_devices * num_devices)
        raise errors.UserError(
            f"config.{name}={batch_size} does not divide over {num_devices} devices: "
            f"use a multiple of {num_devices}, as {fitting}."
        )


def is_main_process() -> bool:
    """True on the one process that writes logs and results."""
    return jax.process_index() == 0


def local_slice(size: int) -> slice:
    """This process's part of an axis of `size` rows; the parts of all processes are disjoint and complete."""
    share = size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def put_batch(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, Any]:
    """Local rows of every process -> global device arrays cut along the batch axis."""
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


class StopRequest:
    """SIGTERM and Ctrl-C as something to ask for: at once outside `deferred`, at the next safe point inside."""

    def __init__(self) -> None:
        self._deferred = False
        self._received = ""

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopRequest"]:
        """Catches both signals for the length of the block; a second Ctrl-C is an ordinary KeyboardInterrupt."""
        kinds = (signal.SIGTERM, signal.SIGINT)
        before = {kind: signal.signal(kind, self._handle) for kind in kinds}
        try:
            yield self
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal only sets a flag that `check` reads."""
        self._deferred = True
        try:
            self.check()
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self._received:
            raise errors.Interrupted(self._received)

    def _handle(self, number: int, frame: Any) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number).name
        if not self._deferred:
            self.check()
