"""Joins this process to the others of its run, and ends it without waiting for them after a failure."""

import collections
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import jax

from poster_jax import errors
from poster_jax.runtime import multihost

# JAX reads the first of them itself, but not the number of processes and the number of this one.
ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "POSTER_JAX_NUM_PROCESSES", "POSTER_JAX_PROCESS_ID"
# How long a process waits for the others at its start and at its end, and how long process 0 goes on after a failure.
START_SECS, END_SECS, LAST_SECS = 300, 30, 3


def initialize(start_secs: int = START_SECS) -> None:
    """Joins the processes of this run, before any other use of JAX; does nothing for a single process.

    Uses JAX_COORDINATOR_ADDRESS, POSTER_JAX_NUM_PROCESSES and POSTER_JAX_PROCESS_ID if they are set; otherwise JAX detects TPU
    pods, SLURM, Open MPI and Kubernetes. Raises `UserError` if only some of the three are set, or if processes have different
    numbers of devices. Ends the process with exit code 2 if the others have not arrived after `start_secs`.
    """
    given = parse_place(os.environ)
    cluster = "" if given else find_cluster(os.environ, getattr(jax.config, "jax_platforms", None) or "")
    if not given and not cluster:
        return
    if given and given["process_id"] == 0:
        _check_port(int(given["coordinator_address"].rpartition(":")[2]))
    where = f"come to {given['coordinator_address']}" if given else f"been found by {cluster}"
    message = f"not all processes have {where} after {start_secs} seconds: start every one, and see that they reach each other"
    # JAX ends the process with a stack trace after its own timeout: this alarm is earlier.
    alarm = threading.Timer(start_secs, _end, (f"poster_jax: {message}.\n", 2))
    alarm.daemon = True
    alarm.start()
    try:
        # JAX's own handler of SIGTERM would replace that of `StopRequest`.
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
    """Arguments of `jax.distributed.initialize` from the three variables; {} if none is set. Raises UserError."""
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
    """Raises `UserError` for a port in use: JAX would end without a message, or share the port."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise errors.UserError(
            f"port {port} of {ADDRESS} cannot be opened by process 0 ({reason}): choose another one for all processes."
        ) from error


def find_cluster(environment: Mapping[str, str], platforms: str) -> str:
    """The launcher that started this process as one of several, by the rules of JAX; "" for a single process.

    Stricter than JAX in two cases: a shell inside a SLURM job and a plain pod of Kubernetes count as single processes.

    Args:
        platforms: JAX's setting, which contains `tpu` on a TPU VM.
    """
    if all(environment.get(f"SLURM_{name}") for name in ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")):
        return "SLURM" if environment["SLURM_NTASKS"] != "1" else ""
    if environment.get("OMPI_COMM_WORLD_SIZE"):
        return "Open MPI" if environment["OMPI_COMM_WORLD_SIZE"] != "1" else ""
    if "tpu" in platforms.split(","):
        return "TPU"
    return "Kubernetes" if environment.get("KUBERNETES_SERVICE_HOST") and environment.get("JOB_COMPLETION_INDEX") else ""


def leave(code: int) -> None:
    """Ends a failed process without the others, which may be waiting for it; returns in a run of one process.

    Process 0 ends last, because its end kills the others: those that failed too can end with their own code first.
    """
    if multihost.count() > 1:
        time.sleep(LAST_SECS if multihost.is_main() else 0)
        _end("", code)


def _end(said: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(said)
    sys.stderr.flush()
    os._exit(code)
