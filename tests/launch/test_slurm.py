"""`slurm.sbatch` under fakes of srun and scontrol: what is requeued, what is not, and that tasks get the signal."""

import pathlib
import re
import time
from collections.abc import Iterator

import launcher
import pytest

FAKES = {"srun": "fake_srun.sh", "scontrol": "fake_scontrol.sh"}


@pytest.fixture
def slurm(tmp_path: pathlib.Path) -> Iterator[launcher.Launcher]:
    """Two tasks on one node; the submit folder holds a link to the launch scripts, as a checkout does."""
    (tmp_path / "launch").symlink_to(launcher.ROOT / "launch")
    environment = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "6"}
    slurm = launcher.Launcher(tmp_path, "slurm.sbatch", FAKES, **environment)
    yield slurm
    slurm.close()


def requeued(slurm: launcher.Launcher) -> bool:
    return (slurm.folder / "scontrol").exists() and slurm.read("scontrol") == "<requeue>\n<17>\n"


def test_a_finished_run_is_not_requeued(slurm: launcher.Launcher) -> None:
    slurm.plan("end 0", "end 0")
    code, out, _ = slurm.run("--config=a b", "--config.name='it\"s $HOME'")
    assert (code, requeued(slurm)) == (0, False)
    assert out == "finished; the logs: runs/slurm/17\n"
    assert slurm.read("arguments-1") == "<--config=a b>\n<--config.name='it\"s $HOME'>\n"
    assert slurm.read("runs/slurm/17/task-1.log") == "process 1, start 1: end 0\n"
    options = slurm.read("srun").split("<bash>")[0].split()
    assert "<--kill-on-bad-exit=1>" in options
    assert "<--cpus-per-task=6>" in options


@pytest.mark.parametrize("failure", [1, 2, 134])
def test_a_failure_ends_the_job_with_its_code(slurm: launcher.Launcher, failure: int) -> None:
    slurm.plan("end 0", f"end {failure}")
    code, _, err = slurm.run("--config=x")
    assert (code, requeued(slurm)) == (failure, False)
    assert err == f"a task ended with code {failure}; the logs: runs/slurm/17\n"


def test_before_the_time_limit_every_task_saves_and_the_job_is_requeued_until_it_has_finished(slurm: launcher.Launcher) -> None:
    slurm.plan("train\nend 0", "train\nend 0")
    (slurm.folder / "time_limit").touch()
    code, _, err = slurm.run("--config=x")
    assert (code, requeued(slurm)) == (0, True)
    assert err == "not finished: job 17 goes back to the queue after restart 0\n"
    assert ["saved" in slurm.read(f"runs/slurm/17/task-{i}.log") for i in range(2)] == [True, True]

    (slurm.folder / "scontrol").unlink()
    slurm.environment["SLURM_RESTART_COUNT"] = "1"
    code, out, _ = slurm.run("--config=x")
    assert (code, requeued(slurm)) == (0, False)
    assert out == "finished; the logs: runs/slurm/17\n"
    assert slurm.read("starts-0") == "2\n"


def test_a_job_that_makes_no_end_is_not_requeued_for_ever(slurm: launcher.Launcher) -> None:
    slurm.plan("end 75", "end 75")
    slurm.environment |= {"SLURM_RESTART_COUNT": "3", "MAX_REQUEUES": "3"}
    code, _, err = slurm.run("--config=x")
    assert (code, requeued(slurm)) == (75, False)
    assert "not finished after 3 restarts" in err


def test_a_refused_requeue_is_told(slurm: launcher.Launcher) -> None:
    slurm.plan("end 75", "end 75")
    slurm.environment["FAKE_SCONTROL_CODE"] = "1"
    code, _, err = slurm.run("--config=x")
    assert code == 75
    assert "scontrol did not requeue job 17; the same sbatch command goes on from here." in err


@pytest.mark.parametrize(("secs_left", "comes_back"), [(-1, True), (3600, False)], ids=["time limit", "scancel"])
def test_sigterm_at_the_script_is_the_time_limit_or_scancel(slurm: launcher.Launcher, secs_left: int, comes_back: bool) -> None:
    slurm.plan("train", "train")
    slurm.environment["SLURM_JOB_END_TIME"] = str(int(time.time()) + secs_left)
    process = slurm.start("--config=x")
    slurm.wait_for("pid-0", "pid-1")
    # SLURM signals script and tasks; srun gets nothing.
    process.terminate()
    for i in range(2):
        slurm.signal_task(i)
    code, _, err = launcher.finish(process)
    assert (code, requeued(slurm)) == ((0, True) if comes_back else (75, False))
    assert ("was cancelled or taken" in err) is not comes_back


def test_tasks_and_gpus_must_agree(slurm: launcher.Launcher) -> None:
    slurm.environment |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "4"}
    code, _, err = slurm.run("--config=x")
    assert code == 2
    assert err == "slurm.sbatch: 4 GPUs and 1 tasks on a node: give --gres=gpu:4 --ntasks-per-node=4.\n"


def test_it_is_refused_outside_a_checkout_a_job_and_an_environment(slurm: launcher.Launcher, tmp_path: pathlib.Path) -> None:
    (slurm.folder / "venv" / "bin" / "python").unlink()
    assert "run bash launch/install.sh" in slurm.run("--config=x")[2]
    del slurm.environment["SLURM_JOB_ID"]
    assert "this is for sbatch" in slurm.run("--config=x")[2]
    slurm.environment["SLURM_SUBMIT_DIR"] = str(tmp_path / "bin")
    code, _, err = slurm.run("--config=x")
    assert code == 2
    assert "is not the root of the checkout" in err


def test_what_is_asked_of_slurm() -> None:
    text = (launcher.ROOT / "launch" / "slurm.sbatch").read_text()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert asked["signal"] == "TERM@180"
    assert asked["gres"] == "gpu:1"
    assert asked["ntasks-per-node"] == "1"
    assert {"requeue", "open-mode", "time"} <= asked.keys()
    assert "gpus-per-task" not in asked
    # sbatch reads no option after the first command.
    assert text.index("set -euo") > text.rindex("#SBATCH")
