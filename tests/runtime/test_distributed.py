"""How a process finds the others of its run, or finds that it is alone, and what it says when it does not reach them."""

import socket

import jax
import pytest

from poster_jax import errors, main
from poster_jax.runtime import distributed, multihost
from tests.helpers import processes as commands

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
PLACE = {distributed.ADDRESS: "10.0.0.1:1234", distributed.COUNT: "4", distributed.NUMBER: "3"}


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in PLACE.items() if key != name}


def test_the_three_variables_name_a_place() -> None:
    assert distributed.parse_place({}) == {}
    assert distributed.parse_place(PLACE) == {
        "coordinator_address": "10.0.0.1:1234",
        "num_processes": 4,
        "process_id": 3,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (without(distributed.COUNT), "is set without POSTER_JAX_NUM_PROCESSES: set all three"),
        (without(distributed.ADDRESS), "is set without JAX_COORDINATOR_ADDRESS: set all three"),
        ({distributed.NUMBER: "0"}, "is set without JAX_COORDINATOR_ADDRESS and POSTER_JAX_NUM_PROCESSES"),
        ({**PLACE, distributed.ADDRESS: "10.0.0.1"}, "is not an address"),
        ({**PLACE, distributed.ADDRESS: ":1234"}, "is not an address"),
        ({**PLACE, distributed.ADDRESS: "host:"}, "is not an address"),
        ({**PLACE, distributed.ADDRESS: "host:70000"}, "is not an address"),
        ({**PLACE, distributed.NUMBER: "4"}, "number N processes from 0 to N - 1"),
        ({**PLACE, distributed.NUMBER: "-1"}, "number N processes from 0 to N - 1"),
        ({**PLACE, distributed.COUNT: "two"}, "number N processes from 0 to N - 1"),
    ],
)
def test_half_a_place_is_refused_in_one_sentence(environment: dict[str, str], told: str) -> None:
    with pytest.raises(errors.UserError, match=told):
        distributed.parse_place(environment)


@pytest.mark.parametrize(
    ("environment", "platforms", "cluster"),
    [
        ({}, "", ""),
        ({}, "cpu", ""),
        (SLURM, "", "SLURM"),
        ({**SLURM, "SLURM_NTASKS": "1"}, "cuda", ""),
        ({key: value for key, value in SLURM.items() if key != "SLURM_STEP_NODELIST"}, "", ""),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "", "Open MPI"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, "", ""),
        ({}, "tpu,cpu", "TPU"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "", ""),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "", "Kubernetes"),
    ],
)
def test_jax_is_asked_only_where_there_are_others(environment: dict[str, str], platforms: str, cluster: str) -> None:
    assert distributed.find_cluster(environment, platforms) == cluster


def test_a_process_that_is_alone_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SLURM, *PLACE, "OMPI_COMM_WORLD_SIZE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    distributed.initialize()
    assert not jax.distributed.is_initialized()
    assert (multihost.index(), multihost.count(), multihost.is_main()) == (0, 1, True)


def test_the_command_tells_half_a_place_and_exits_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv(distributed.ADDRESS, "127.0.0.1:1")
    assert main.main([f"--config={commands.ROOT}/configs/cnn_onehot.py:smoke"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("poster_jax: JAX_COORDINATOR_ADDRESS is set without") and told.count("\n") == 1


def test_a_port_that_is_taken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        for name, value in {**PLACE, distributed.ADDRESS: f"127.0.0.1:{port}", distributed.NUMBER: "0"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(errors.UserError, match=f"port {port} of JAX_COORDINATOR_ADDRESS cannot be opened"):
            distributed.initialize()


def test_a_cluster_that_jax_cannot_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: (_ for _ in ()).throw(ValueError("no\nlist")))
    with pytest.raises(errors.UserError, match=r"failed \(no list\): mend that, or set JAX_COORDINATOR_ADDRESS"):
        distributed.initialize()


@pytest.mark.parametrize("number", ["0", "1"])
def test_others_that_do_not_come_are_waited_for_so_long_and_then_told(number: str) -> None:
    code = "from poster_jax.runtime import distributed; distributed.initialize(start_secs=1)"
    variables = {distributed.ADDRESS: commands.free_address(), distributed.COUNT: "2", distributed.NUMBER: number}
    exit_code, told = commands.finish(commands.start_python(["-c", code], **variables))
    assert exit_code == 2
    assert (
        told.strip()
        .splitlines()[-1]
        .startswith(f"poster_jax: not all processes have come to {variables[distributed.ADDRESS]} after 1 seconds:")
    )
    assert "Traceback" not in told
