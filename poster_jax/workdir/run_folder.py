"""The run folder: its config, its lock, and files that are replaced whole."""

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.runtime import multihost, storage


@contextlib.contextmanager
def opened(workdir: pathlib.Path, config: config_lib.Config) -> Iterator[None]:
    """Makes or checks the folder and holds its lock inside the block; process 0 does so for all processes of the run.

    An object store has no lock. Raises UserError for a folder that cannot be written, holds other files, is in use by another
    run, or was begun with another config.
    """
    with contextlib.ExitStack() as held:
        multihost.from_main(lambda: _lock_and_check(workdir, config, held))
        yield


def _lock_and_check(workdir: pathlib.Path, config: config_lib.Config, held: contextlib.ExitStack) -> None:
    if storage.is_remote(workdir):
        print(f"{workdir}: a store knows no locks, so let no second run use this workdir", flush=True)
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            _check_config(workdir, config)
        except errors.UserError:
            raise
        except Exception as error:  # the clients of stores have no common class for a bucket that is missing or not ours
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise errors.UserError(f"the workdir {workdir} cannot be used ({reason}): name another with --workdir.") from error
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # The operating system drops this lock when the process dies, however it dies.
        lock = open(workdir / ".lock", "w")
    except OSError as error:
        raise errors.UserError(
            f"the workdir {workdir} cannot be used ({error.strerror}): name another with --workdir."
        ) from error
    held.enter_context(lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise errors.UserError(f"the workdir {workdir} is in use by another run: wait for it or name another.") from error
    _check_config(workdir, config)


def _check_config(workdir: pathlib.Path, config: config_lib.Config) -> None:
    path = workdir / "config.json"
    if not path.exists():
        foreign = [entry.name for entry in workdir.iterdir() if entry.name != ".lock"] if workdir.exists() else []
        if foreign:
            storage.remove([workdir / ".lock"])
            raise errors.UserError(
                f"the workdir {workdir} holds other things ({', '.join(sorted(foreign)[:3])}): name an empty or a new folder."
            )
    else:
        changed = config_lib.differences(load_config(workdir), config)
        longer = config.optim.schedule == "constant"
        refused = [
            line
            for line in changed
            if line.split(":")[0] not in config_lib.RESUMABLE or ("num_" in line.split(":")[0] and not longer)
        ]
        if refused:
            raise errors.UserError(
                f"the workdir {workdir} was begun with another config ({'; '.join(refused)}): "
                "use those values or another --workdir."
            )
    storage.write_atomic(path, config_lib.to_json(config) + "\n")


def load_config(workdir: pathlib.Path) -> config_lib.Config:
    """The config of a workdir; raises UserError where there is none, or one with keys of another version."""
    try:
        return config_lib.from_json((workdir / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise errors.UserError(f"{workdir} is not a workdir of poster_jax: it has no readable config.json.") from error
    except errors.UserError as error:
        raise errors.UserError(f"{workdir / 'config.json'} cannot be used: {error}") from error


def remember_choice(workdir: pathlib.Path, name: str, decided: tuple[str, str] | None = None) -> tuple[str, str] | None:
    """Returns the choice that `auto` made under `name` at an earlier start, or stores `decided` in chosen.json and returns it.

    Processes may have decided differently: the decision of process 0 counts for all. None if nothing was decided yet.
    """
    return multihost.from_main(lambda: _remember(workdir / "chosen.json", name, decided))


def _remember(path: pathlib.Path, name: str, decided: tuple[str, str] | None) -> tuple[str, str] | None:
    chosen = json.loads(path.read_text()) if path.exists() else {}
    if decided is not None and name not in chosen:
        storage.write_json(path, {**chosen, name: list(decided)})
        return decided
    return tuple(chosen[name]) if name in chosen else None
