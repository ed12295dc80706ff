"""A machine without the project: an empty virtual environment, to which the packages that the project needs are lent.

Fetching them anew takes minutes. They are seen through a path file, all but the project itself, so what is installed into the
environment and what is run in it is the project as others get it.
"""

import os
import pathlib
import subprocess
import sys
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parents[2]


def copy_project(target: pathlib.Path) -> pathlib.Path:
    """What a wheel is built from, copied, as building leaves files beside it; returns the copy."""
    listing = ["git", "ls-files", "-co", "--exclude-standard"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in tracked:
        if (name.startswith(("poster_jax/", "configs/")) or "/" not in name) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


def make_environment(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """(the interpreter, the folder that packages are installed to) of an environment FOLDER/venv."""
    venv, lent = folder / "venv", folder / "lent"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    lent.mkdir()
    for path in pathlib.Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "poster_jax" not in path.name and not path.name.endswith(".pth"):
            (lent / path.name).symlink_to(path)
    (site / "lent.pth").write_text(f"{lent}\n")
    return venv / "bin" / "python", site


def clean_environ() -> dict[str, str]:
    """Variables of this process, without those that lead to the checkout."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GLIBC_TUNABLES")}
