"""`python -m tests.helpers.fetch_run STORE FOLDER`: what a workdir in a store holds, as files of a disk."""

import pathlib
import sys

from etils import epath


def fetch(source: epath.Path, target: pathlib.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            fetch(path, target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    fetch(epath.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
