"""`local_multiprocess.sh` with fake processes: who is ended when, the exit code, the line that says why, no orphans."""

import pathlib
import signal
import time
from collections.abc import Iterator

import launcher
import pytest


@pytest.fixture
def local(tmp_path: pathlib.Path) -> Iterator[launcher.Launcher]:
    local = launcher.Launcher(tmp_path, "local_multiprocess.sh", {})
    yield local
    local.close()


def test_each_process_gets_its_place_its_devices_its_arguments_and_its_log(local: launcher.Launcher) -> None:
    local.plan("end 0", "end 0", "end 0")
    local.environment |= {"DEVICES_PER_PROCESS": "4", "GPUS_PER_PROCESS": "2", "XLA_FLAGS": "--xla_of_the_user"}
    code, out, err = local.run("3", "--config=a b.py:x", "--config.name='it\"s $HOME'")
    assert code == 0 and [line for line in err.splitlines() if not line.startswith("installing poster_jax")] == []
    ports = set()
    for i in range(3):
        environment = dict(line.partition("=")[::2] for line in local.read(f"environment-{i}").splitlines())
        assert environment["POSTER_JAX_NUM_PROCESSES"] == "3"
        assert environment["POSTER_JAX_PROCESS_ID"] == str(i)
        assert environment["JAX_PLATFORMS"] == "cpu"
        assert environment["XLA_FLAGS"] == "--xla_force_host_platform_device_count=4 --xla_of_the_user"
        assert environment["CUDA_VISIBLE_DEVICES"] == f"{2 * i},{2 * i + 1}"
        host, _, port = environment["JAX_COORDINATOR_ADDRESS"].partition(":")
        assert host == "127.0.0.1"
        ports.add(int(port))
        assert local.read(f"arguments-{i}") == "<--config=a b.py:x>\n<--config.name='it\"s $HOME'>\n"
        assert local.read(f"logs/process-{i}.log") == f"process {i}, start 1: end 0\n"
    assert len(ports) == 1
    assert 1024 < ports.pop() < 32768
    # What process 0 says is shown, what the others say is not.
    assert "process 0, start 1: end 0\n" in out
    assert "process 1, start 1" not in out


@pytest.mark.parametrize(
    ("said", "code", "line"),
    [
        ("end 7", 1, "ended with code 7"),
        ("end 137", 1, "was killed by SIGKILL"),
        ("end 2", 2, "ended with code 2"),
    ],
)
def test_when_one_process_fails_the_others_are_ended(local: launcher.Launcher, said: str, code: int, line: str) -> None:
    local.plan("train", f"{said} 0 2", "train")
    began = time.monotonic()
    got, _, err = local.run("3", "--config=x")
    assert got == code
    log = local.folder / "logs" / "process-1.log"
    assert f"process 1 of 3 {line}, so the others were ended; its log: {log}\n" in err
    assert f"process 1, start 1: {said} 0 2" in err
    assert "saved" in local.read("logs/process-0.log")
    assert "saved" in local.read("logs/process-2.log")
    assert local.left(3) == []
    assert time.monotonic() - began < 60


def test_a_process_that_hangs_is_killed_when_another_has_failed(local: launcher.Launcher) -> None:
    local.plan("end 3 1", "deaf")
    local.environment["GRACE_SECS"] = "1"
    code, _, err = local.run("2", "--config=x")
    assert code == 1
    assert "process 0 of 2 ended with code 3" in err
    assert local.left(2) == []


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_and_75_comes_back(local: launcher.Launcher, kind: signal.Signals) -> None:
    local.plan("train", "train")
    process = local.start("2", "--config=x")
    local.wait_for("pid-0", "pid-1")
    process.send_signal(kind)
    code, _, err = launcher.finish(process)
    assert code == 75
    assert "run the same command to go on" in err
    assert [local.read(f"logs/process-{i}.log").count("saved") for i in range(2)] == [1, 1]
    assert local.left(2) == []


def test_one_process_that_was_stopped_stops_the_others(local: launcher.Launcher) -> None:
    local.plan("end 75 1", "train")
    code, _, err = local.run("2", "--config=x")
    assert code == 75
    assert "run the same command to go on" in err
    assert "saved" in local.read("logs/process-1.log")


def test_a_crash_while_stopping_is_no_orderly_stop(local: launcher.Launcher) -> None:
    local.plan("end 75 1", "end 134")
    code, _, err = local.run("2", "--config=x")
    assert code == 1
    assert "process 1 of 2 was killed by SIGABRT" in err


def test_processes_that_do_not_stop_are_killed(local: launcher.Launcher) -> None:
    local.plan("deaf", "deaf")
    local.environment["STOP_SECS"] = "1"
    process = local.start("2", "--config=x")
    local.wait_for("pid-0", "pid-1")
    process.terminate()
    code, _, err = launcher.finish(process)
    assert code == 1
    assert "did not save within 1 s" in err
    assert local.left(2) == []


def test_a_launcher_that_is_killed_leaves_no_orphans(local: launcher.Launcher) -> None:
    local.plan("train", "train")
    process = local.start("2", "--config=x")
    local.wait_for("pid-0", "pid-1")
    process.kill()
    launcher.finish(process)
    launcher.wait_until(lambda: local.left(2) == [], "the end of the processes")
    assert "saved" in local.read("logs/process-0.log")


@pytest.mark.parametrize("count", ["0", "two", "--config=x"])
def test_a_wrong_number_of_processes_is_refused(local: launcher.Launcher, count: str) -> None:
    code, out, err = local.run(count, "--config=x")
    assert (code, out) == (2, "")
    assert err == f"local_multiprocess.sh: the number of processes comes first, not {count}; see --help.\n"
