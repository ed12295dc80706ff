"""`tpu_vm.sh` and `worker.sh` over a fake gcloud whose workers are folders: what is run on a worker does run."""

import pathlib
import re
import signal
from collections.abc import Iterator

import launcher
import pytest

RUN = ("run", "--config=a b", "--config.name='it\"s $HOME'", "--workdir=gs://bucket/run")


@pytest.fixture
def tpu(tmp_path: pathlib.Path) -> Iterator[launcher.Launcher]:
    cloud = tmp_path / "cloud"
    cloud.mkdir()
    launcher.put_fake(cloud / "python", "fake_python.sh")
    settings = {"FAKE_CLOUD": str(cloud), "FAKE_WORKERS": "2", "POLL_SECS": "0.1", "ZONE": "z", "NAME": "n"}
    settings |= {"ACCELERATOR": "v4-16", "RUNTIME": "r"}
    tpu = launcher.Launcher(tmp_path, "tpu_vm.sh", {"gcloud": "fake_gcloud.sh", "python3.12": "fake_python.sh"}, **settings)
    # Each worker has an environment of its own.
    del tpu.environment["VENV"]
    yield tpu
    tpu.close()


def calls(tpu: launcher.Launcher, pattern: str) -> int:
    """How many calls of gcloud match the pattern."""
    record = tpu.folder / "cloud" / "calls"
    return len(re.findall(pattern, record.read_text())) if record.exists() else 0


def wait_until_followed(tpu: launcher.Launcher, count: int) -> None:
    """Returns when `count` connections have been made and both fake processes run."""
    launcher.wait_until(lambda: calls(tpu, "worker.sh follow") >= count, "the workers being followed")
    tpu.wait_for("pid-0", "pid-1")


def test_run_asks_for_the_tpu_sets_it_up_and_runs_on_every_worker(tpu: launcher.Launcher) -> None:
    tpu.plan("end 0", "end 0")
    code, out, _ = tpu.run(*RUN)
    assert code == 0
    assert out.endswith(f"finished; the logs: {tpu.folder / 'logs'}\n")
    for i in range(2):
        assert tpu.read(f"arguments-{i}") == "<--config=a b>\n<--config.name='it\"s $HOME'>\n<--workdir=gs://bucket/run>\n"
        assert tpu.read(f"logs/worker-{i}.log") == f"process {i}, start 1: end 0\n\nworker.sh: code 0\n"
        assert (tpu.folder / "cloud" / f"worker-{i}" / "poster_jax" / "poster_jax" / "main.py").exists()
    assert calls(tpu, "<queued-resources><create><n><--node-id=n><--accelerator-type=v4-16><--runtime-version=r>") == 1


def test_the_code_is_the_checkout_without_what_git_ignores_or_has_lost(tpu: launcher.Launcher) -> None:
    assert tpu.run("create")[0] == 0
    (tpu.folder / "cloud" / "worker-1" / "poster_jax").mkdir()
    (tpu.folder / "cloud" / "worker-1" / "poster_jax" / "stale.py").touch()
    assert tpu.run("sync")[0] == 0
    copy = tpu.folder / "cloud" / "worker-1" / "poster_jax"
    assert (copy / "launch" / "worker.sh").read_text() == (launcher.ROOT / "launch" / "worker.sh").read_text()
    assert not (copy / "stale.py").exists()
    assert not list(copy.rglob("__pycache__"))
    # What a run writes beside the code outlives the next copy.
    (copy / "runs" / "old").mkdir()
    assert tpu.run("sync")[0] == 0
    assert (copy / "runs" / "old").is_dir()


@pytest.mark.parametrize(("said", "code"), [("end 7", 1), ("end 2", 2)])
def test_when_one_worker_fails_the_others_are_stopped(tpu: launcher.Launcher, said: str, code: int) -> None:
    tpu.plan("train", f"{said} 0")
    got, _, err = tpu.run(*RUN)
    assert got == code
    log = tpu.folder / "logs" / "worker-1.log"
    assert f"worker 1 of 2 failed with code {said[4:]}, so the others are stopped; its log: {log}\n" in err
    assert (tpu.folder / "cloud" / "worker-0" / "poster_jax_run" / "code").read_text() == "75\n"
    assert calls(tpu, "<queued-resources><create>") == 1


def test_a_tpu_that_was_taken_is_asked_for_again_and_the_run_goes_on(tpu: launcher.Launcher) -> None:
    tpu.plan("train\nend 0", "taken\nend 0")
    tpu.environment["SPOT"] = "1"
    code, out, err = tpu.run(*RUN)
    assert code == 0
    assert "not finished: going on after restart 0" in err
    assert "finished" in out
    assert calls(tpu, "<queued-resources><delete><n><--force><--quiet>") == 1
    assert calls(tpu, "<queued-resources><create><n>.*<--spot>") == 2
    # The new one has a bare disk: code and packages are brought again, the arguments are the same.
    assert calls(tpu, "launch/worker.sh setup") == 2
    assert [tpu.read(f"starts-{i}") for i in range(2)] == ["2\n", "2\n"]
    assert "--workdir=gs://bucket/run" in tpu.read("arguments-0")
    assert (tpu.folder / "logs" / "worker-1.before-1.log").exists()
    assert "process 1, start 2: end 0" in tpu.read("logs/worker-1.log")


def test_a_run_that_was_stopped_on_its_workers_goes_on(tpu: launcher.Launcher) -> None:
    tpu.plan("end 75 1\nend 0", "train\nend 0")
    assert tpu.run(*RUN)[0] == 0
    assert "saved" in tpu.read("logs/worker-1.before-1.log")
    assert calls(tpu, "<queued-resources><create>") == 1


def test_a_run_that_makes_no_end_is_given_up(tpu: launcher.Launcher) -> None:
    tpu.plan("end 75\nend 75", "end 75\nend 75")
    tpu.environment["MAX_RESTARTS"] = "1"
    code, _, err = tpu.run(*RUN)
    assert code == 75
    assert "not finished after 1 restarts" in err


def test_sigterm_stops_all_workers_and_75_comes_back(tpu: launcher.Launcher) -> None:
    tpu.plan("train", "train")
    process = tpu.start(*RUN)
    wait_until_followed(tpu, 2)
    process.terminate()
    code, _, err = launcher.finish(process)
    assert code == 75
    assert "run the same command to go on" in err
    assert ["saved" in tpu.read(f"logs/worker-{i}.log") for i in range(2)] == [True, True]


def test_a_run_outlives_its_launcher_and_is_joined(tpu: launcher.Launcher) -> None:
    tpu.plan("train", "train")
    first = tpu.start(*RUN)
    wait_until_followed(tpu, 2)
    first.send_signal(signal.SIGHUP)
    launcher.finish(first)
    assert "running, pid" in tpu.run("status")[1]

    second = tpu.start(*RUN)
    wait_until_followed(tpu, 4)
    assert tpu.run("stop")[0] == 0
    second.terminate()
    code, out, _ = launcher.finish(second)
    assert code == 75
    assert "joining the run that is there" in out
    assert [tpu.read(f"starts-{i}") for i in range(2)] == ["1\n", "1\n"]
    assert "ended with code 75" in tpu.run("status")[1]
    assert tpu.run("logs", "1")[1] == "== worker 0\nsaved\n== worker 1\nsaved\n"


def test_create_and_delete_may_be_repeated(tpu: launcher.Launcher) -> None:
    assert [tpu.run("create")[0], tpu.run("create")[0]] == [0, 0]
    assert calls(tpu, "<queued-resources><create>") == 1
    assert tpu.run("delete")[0] == 0
    code, out, _ = tpu.run("delete")
    assert (code, out) == (0, "n is not there\n")
    assert calls(tpu, "<queued-resources><delete>") == 1


def test_a_failed_request_is_made_once_more_and_no_more(tpu: launcher.Launcher) -> None:
    (tpu.folder / "cloud" / "state").write_text("FAILED\n")
    assert tpu.run("create")[0] == 0
    assert [calls(tpu, "<queued-resources><delete>"), calls(tpu, "<queued-resources><create>")] == [1, 1]
    assert tpu.run("delete")[0] == 0
    tpu.environment["FAKE_REQUEST"] = "FAILED"
    code, _, err = tpu.run("create")
    assert code == 1
    assert "the request failed" in err
    assert calls(tpu, "<queued-resources><create>") == 2


def test_no_answer_is_not_taken_for_no_tpu(tpu: launcher.Launcher) -> None:
    tpu.environment["FAKE_SILENT"] = "1"
    code, _, err = tpu.run(*RUN)
    assert code == 1
    assert "gcloud gave no answer about n." in err
    assert calls(tpu, "<queued-resources><create>") == 0


@pytest.mark.parametrize(("spot", "workers"), [("1", "1"), ("", "2")])
def test_a_workdir_that_can_be_lost_is_refused(tpu: launcher.Launcher, spot: str, workers: str) -> None:
    tpu.environment |= {"SPOT": spot, "FAKE_WORKERS": workers}
    code, _, err = tpu.run("run", "--config=x", "--workdir=runs/x")
    assert code == 2
    assert err.endswith("give --workdir=gs://BUCKET/RUN.\n")
    assert calls(tpu, "worker.sh start") == 0


@pytest.mark.parametrize("missing", ["ZONE", "ACCELERATOR", "RUNTIME"])
def test_what_is_needed_is_named(tpu: launcher.Launcher, missing: str) -> None:
    del tpu.environment[missing]
    code, _, err = tpu.run("create")
    assert code == 2
    assert err.startswith(f"tpu_vm.sh: {missing}= is needed")
