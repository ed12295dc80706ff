"""Processes and devices: joining the others, one mesh axis called `data`, three shardings, and stopping on a signal.

`jax.jit` with `NamedSharding` instead of `pmap`: one program for any number of devices and hosts, and BatchNorm over the
global batch without naming an axis. The axis is Auto: with Explicit axes flax's Dropout fails (flax 0.12).
"""

import collections
import contextlib
import dataclasses
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from poster_jax import errors, processes

# JAX reads the first of them itself; a count and a number it does not read from the environment.
ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "POSTER_JAX_NUM_PROCESSES", "POSTER_JAX_PROCESS_ID"
# How long a process waits for the others at its start and at its end, and how long process 0 outlives a failure.
START_SECS, END_SECS, LAST_SECS = 300, 30, 3
# Steps between asking whether a signal came to any process and reading the answer, so that no step waits for it.
STOP_LAG = 2


def initialize(start_secs: int = START_SECS) -> None:
    """Joins the processes of this run, before anything else is asked of JAX; does nothing for a process that is alone.

    Takes JAX_COORDINATOR_ADDRESS, POSTER_JAX_NUM_PROCESSES and POSTER_JAX_PROCESS_ID where they are set, and otherwise what
    JAX finds of TPU pods, SLURM, Open MPI and Kubernetes. Raises `UserError` for half of it, or for processes with different
    numbers of devices; ends the process with exit code 2 when the others have not come after `start_secs`.
    """
    given = parse_place(os.environ)
    cluster = "" if given else find_cluster(os.environ, getattr(jax.config, "jax_platforms", None) or "")
    if not given and not cluster:
        return
    if given and given["process_id"] == 0:
        _check_port(int(given["coordinator_address"].rpartition(":")[2]))
    where = f"come to {given['coordinator_address']}" if given else f"been found by {cluster}"
    told = f"not all processes have {where} after {start_secs} seconds: start every one, and see that they reach each other"
    # JAX ends the process with a stack trace when it has waited long enough: this is to come before that.
    alarm = threading.Timer(start_secs, _end, (f"poster_jax: {told}.\n", 2))
    alarm.daemon = True
    alarm.start()
    try:
        # JAX's own handler of SIGTERM would take the signal from `StopRequest`.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(**given, initialization_timeout=2 * start_secs + 60, shutdown_timeout_seconds=END_SECS)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        if "coordinator_address" in reason:
            if cluster == "TPU":
                return
            reason = f"JAX reads no address from {cluster}; Kubernetes needs the package kubernetes, Open MPI 5 mpi4py"
        raise errors.UserError(
            f"joining the other processes failed ({reason}): mend that, or set {ADDRESS}, {COUNT} and {NUMBER}."
        ) from error
    finally:
        alarm.cancel()
    per_process = collections.Counter(device.process_index for device in jax.devices())
    if len(set(per_process.values())) > 1:
        raise errors.UserError(f"the processes hold {sorted(per_process.values())} devices: give each as many as the others.")
    here = f"process {jax.process_index()} of {jax.process_count()}, {jax.local_device_count()} devices"
    print(f"{here} of {jax.device_count()}", file=sys.stderr, flush=True)


def parse_place(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` from the three variables; empty where none is set. Raises UserError."""
    text = {name: environment.get(name, "").strip() for name in (ADDRESS, COUNT, NUMBER)}
    if not any(text.values()):
        return {}
    missing = [name for name, value in text.items() if not value]
    if missing:
        present = " and ".join(name for name, value in text.items() if value)
        raise errors.UserError(f"{present} is set without {' and '.join(missing)}: set all three, or none.")
    host, colon, port = text[ADDRESS].rpartition(":")
    if not host or not colon or not port.isdigit() or not 0 < int(port) < 2**16:
        raise errors.UserError(f"{ADDRESS}={text[ADDRESS]} is not an address: write HOST:PORT, as 10.0.0.1:12345.")
    if not text[COUNT].isdigit() or not text[NUMBER].isdigit() or not int(text[NUMBER]) < int(text[COUNT]):
        raise errors.UserError(
            f"{COUNT}={text[COUNT]} and {NUMBER}={text[NUMBER]} do not fit: number N processes from 0 to N - 1."
        )
    return {
        "coordinator_address": text[ADDRESS],
        "num_processes": int(text[COUNT]),
        "process_id": int(text[NUMBER]),
        "cluster_detection_method": "deactivate",
    }


def _check_port(port: int) -> None:
    """Raises `UserError` for a port that another program has: JAX would end without a word, or share it."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise errors.UserError(
            f"port {port} of {ADDRESS} cannot be opened by process 0 ({reason}): choose another one for all processes."
        ) from error


def find_cluster(environment: Mapping[str, str], platforms: str) -> str:
    """What started this process as one of several, as far as JAX knows it; empty where it is alone.

    JAX takes a shell inside a SLURM job, and every pod of Kubernetes, for one of several; these are not.

    Args:
        platforms: JAX's setting, which has `tpu` in it on a TPU VM.
    """
    if all(environment.get(f"SLURM_{name}") for name in ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")):
        return "SLURM" if environment["SLURM_NTASKS"] != "1" else ""
    if environment.get("OMPI_COMM_WORLD_SIZE"):
        return "Open MPI" if environment["OMPI_COMM_WORLD_SIZE"] != "1" else ""
    if "tpu" in platforms.split(","):
        return "TPU"
    return "Kubernetes" if environment.get("KUBERNETES_SERVICE_HOST") and environment.get("JOB_COMPLETION_INDEX") else ""


def leave(code: int) -> None:
    """Ends a process of several that has failed, without the others, which may be waiting for it; returns where it is alone.

    Process 0 goes last, because the others fall with it: those that failed as it did have ended with a code of their own.
    """
    if processes.count() > 1:
        time.sleep(LAST_SECS if processes.is_main() else 0)
        _end("", code)


def _end(said: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(said)
    sys.stderr.flush()
    os._exit(code)


@dataclasses.dataclass(frozen=True)
class Shardings:
    """Where arrays live: `state` and `replicated` on every device, `batch` cut along its first axis."""

    mesh: Mesh
    state: NamedSharding
    batch: NamedSharding
    replicated: NamedSharding


def make_shardings(devices: Sequence[Any] | None = None) -> Shardings:
    """Shardings over the given devices, or over all there are.

    Those of process 0 come first, so that every process has one block of rows; `jax.make_mesh` orders TPUs by their wiring.
    """
    devices = sorted(jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id))
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
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


def local_slice(size: int) -> slice:
    """This process's part of an axis of `size` rows; the parts of all processes are disjoint and complete."""
    share = size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def put_batch(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, Any]:
    """Local rows of every process -> global device arrays cut along the batch axis."""
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


class StopRequest:
    """SIGTERM and Ctrl-C as something to ask for: at once outside `deferred`, at the next safe point inside.

    Inside, a signal to one process is one to all of several: they find it at the same check, a few steps after it came.
    """

    def __init__(self) -> None:
        self._deferred = False
        self._received = ""
        self._asked: collections.deque[jax.Array] = collections.deque()

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
            self._read(0)
        finally:
            self._deferred = False
            self._asked.clear()

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come; of several processes all come here, equally often."""
        if processes.count() > 1:
            self._asked.append(_anywhere(bool(self._received)))
            self._read(STOP_LAG)
        elif self._received:
            raise errors.Interrupted(self._received)

    def _read(self, lag: int) -> None:
        """Reads what was asked more than `lag` checks ago."""
        while len(self._asked) > lag:
            if int(self._asked.popleft()):
                raise errors.Interrupted(self._received or "a signal to another process")

    def _handle(self, number: int, frame: Any) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number).name
        if not self._deferred:
            raise errors.Interrupted(self._received, alone=True)


def _anywhere(flag: bool) -> jax.Array:
    """How many devices' processes say so, int32 [] on all of them; returns before it is known."""
    summed, sharding = _counter()
    return summed(jax.make_array_from_process_local_data(sharding, np.full(jax.local_device_count(), flag, np.int32)))


@functools.cache
def _counter() -> tuple[Any, NamedSharding]:
    shardings = make_shardings()
    return jax.jit(jnp.sum, out_shardings=shardings.replicated), shardings.batch
