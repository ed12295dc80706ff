"""What `DRY_RUN=1` prints, beside this file in golden/, word for word; and that nothing else happens."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = pathlib.Path(__file__).parent / "golden"
# A space, both quotes, and what a shell would put something else for.
ARGUMENTS = ["--config=a b.py:x", "--config.name='it\"s $HOME'"]
TPU = {"ZONE": "us-central2-b", "ACCELERATOR": "v4-16", "RUNTIME": "tpu-ubuntu2204-base"}
CASES = {
    "install": (["install.sh", "VENV DIR", "cuda"], {}),
    "local": (["local.sh", *ARGUMENTS], {}),
    "test": (["test.sh", "-k", "a or b"], {}),
    "local_multiprocess": (["local_multiprocess.sh", "2", *ARGUMENTS], {"PORT": "12391", "DEVICES_PER_PROCESS": "2"}),
    "slurm": (["slurm.sbatch", *ARGUMENTS], {"SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "8"}),
    "worker_start": (["worker.sh", "start", *ARGUMENTS], {}),
    "tpu_create": (["tpu_vm.sh", "create"], {**TPU, "PROJECT": "p", "NAME": "n"}),
    "tpu_run": (["tpu_vm.sh", "run", *ARGUMENTS, "--workdir=gs://bucket/a run"], {**TPU, "SPOT": "1"}),
    "tpu_status": (["tpu_vm.sh", "status"], TPU),
    "tpu_logs": (["tpu_vm.sh", "logs", "7"], TPU),
    "tpu_stop": (["tpu_vm.sh", "stop"], TPU),
    "tpu_fetch_bucket": (["tpu_vm.sh", "fetch", "gs://bucket/a run", "to here"], TPU),
    "tpu_fetch_worker": (["tpu_vm.sh", "fetch", "runs/cnn"], TPU),
    "tpu_delete": (["tpu_vm.sh", "delete"], TPU),
}


@pytest.mark.parametrize("name", CASES)
def test_dry_run_prints_every_command_and_runs_none(name: str, tmp_path: pathlib.Path) -> None:
    arguments, settings = CASES[name]
    # Whatever of these is run writes its name down; python3.13 does so too, for the scripts look for it first.
    for program in ("gcloud", "srun", "scontrol", "git", "tar", "mkdir", "kill", "sudo", "setsid", "python3.13"):
        fake = tmp_path / program
        fake.write_text(f"#!/bin/sh\necho {program} >>{tmp_path}/was_run\n")
        fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "DRY_RUN": "1", "VENV": "VENV"}
    environment |= {"LOGS": "runs/my logs", "STATE": "STATE", **settings}
    command = ["bash", f"launch/{arguments[0]}", *arguments[1:]]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == (GOLDEN / f"{name}.txt").read_text()
    assert not (tmp_path / "was_run").exists()
    assert not (ROOT / "VENV").exists()


def test_every_golden_text_is_compared() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)
