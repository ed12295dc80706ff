"""Makes the folders beside this file with the code of commit 8ca02b4, on the eight CPU devices of tests/conftest.py.

    git worktree add /tmp/old 8ca02b4 && cd /tmp/old && PYTHONPATH=/tmp/old python .../tests/workdir/old_run/make.py OUT

OUT gets `finished` and `stopped` (workdirs; the second one had SIGTERM at its third step), `bundle` (an export of the first),
`packed-...` (its packed posters) and `machine.json` (on what it ran; elsewhere the last bits may differ).
"""

import hashlib
import json
import os
import pathlib
import platform
import shutil
import signal
import sys
import tempfile

ARGUMENTS = (
    "--config=configs/cnn_onehot.py:smoke",
    "--config.data.num_posters=60",
    "--config.data.num_genres=3",
    "--config.data.min_movies=4",
    "--config.data.image_size=(18, 16)",
    "--config.model.blocks=((2, 3, 1, False, 0.0), (2, 3, 2, False, 0.25))",
    "--config.model.dense=((4, False, 0.5),)",
    "--config.train.batch_size=8",
    "--config.train.num_epochs=2.0",
    "--config.eval.bootstrap_samples=20",
)
STOPPED_AT_CHECK = 5  # of the signal: after the third step


def machine() -> dict[str, str]:
    """What the last bits of a CPU's sums depend on."""
    import jax

    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    about = [line.partition(":")[2].split() for line in lines if line.startswith(("model name", "flags"))][:2]
    features = hashlib.sha256(" ".join(sorted(about[-1])).encode()).hexdigest() if about else platform.machine()
    return {"jax": jax.__version__, "cpu": " ".join(about[0]) if about else "", "features": features}


def main(out: pathlib.Path) -> None:
    import jax

    jax.config.update("jax_num_cpu_devices", 8)
    from poster_jax import export, runtime
    from poster_jax import main as command

    out.mkdir()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["POSTER_JAX_CACHE"] = cache
        assert command.main([*ARGUMENTS, f"--workdir={out / 'finished'}"]) == 0
        (packed,) = pathlib.Path(cache).glob("packed-*")
        shutil.copytree(packed, out / packed.name)
        assert export.main([str(out / "finished"), str(out / "bundle")]) == 0
        check, checks = runtime.StopRequest.check, []

        def stopped(self: runtime.StopRequest) -> None:
            checks.append(1)
            if len(checks) == STOPPED_AT_CHECK:
                os.kill(os.getpid(), signal.SIGTERM)
            check(self)

        runtime.StopRequest.check = stopped
        print(command.main([*ARGUMENTS, f"--workdir={out / 'stopped'}"]), "of the stopped run")
    (out / "machine.json").write_text(json.dumps(machine(), indent=2) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
