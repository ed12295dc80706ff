"""The run folder: its lock, its config, which is written when a run begins, and what `auto` chose."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.runtime import multihost, storage
from poster_jax.workdir import checks, leftovers

CONFIG = "config.json"
# What `auto` may have chosen under a name; a group is a number.
CHOICES = {"path": ("resident", "streaming"), "vectorize": ("none", "folds", "all"), "group": ()}


@contextlib.contextmanager
def opened(workdir: pathlib.Path, config: config_lib.Config) -> Iterator[None]:
    """Makes or checks the folder and holds its lock inside the block; process 0 does so for all processes of the run.

    A folder in which no network has begun is emptied, and takes any config; `begin` writes it. An object store has no lock.
    Raises UserError for a folder that cannot be written, holds other files, is in use by another run, or was begun with a
    config that differs in more than `config.refused_changes` allows.
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
            # A bucket that is missing or not ours is seen by writing, before the data is opened.
            (workdir / ".lock").write_text("")
            storage.remove([workdir / ".lock"])
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
    if not (workdir / CONFIG).exists():
        ours = (".lock", f".{CONFIG}.")  # the second is left where a write was killed
        foreign = [entry.name for entry in workdir.iterdir() if not entry.name.startswith(ours)] if workdir.exists() else []
        if foreign:
            storage.remove([workdir / ".lock"])
            raise errors.UserError(
                f"the workdir {workdir} holds other things ({', '.join(sorted(foreign)[:3])}): name an empty or a new folder."
            )
    elif not leftovers.has_begun(workdir):
        leftovers.clear(workdir)
    else:
        refused = config_lib.refused_changes(load_config(workdir), config)
        if refused:
            raise errors.UserError(
                f"the workdir {workdir} was begun with another config ({'; '.join(refused)}), as its config.json says: "
                "use those values or another --workdir."
            )


def begin(workdir: pathlib.Path, config: config_lib.Config) -> None:
    """Writes config.json, once the protocol has accepted the config and its data is open: what is refused changes no folder.

    Where the config changes what a begun run computes, its results are removed first. Process 0 does so for all.
    """
    multihost.from_main(lambda: _begin(workdir, config))


def _begin(workdir: pathlib.Path, config: config_lib.Config) -> None:
    path, content = workdir / CONFIG, f"{config_lib.to_json(config)}\n".encode()
    if path.exists() and path.read_bytes() == content:
        return
    if path.exists() and leftovers.has_begun(workdir) and config_lib.changes_outcome(load_config(workdir), config):
        leftovers.forget_outcome(workdir)
    storage.write_atomic(path, content)


def load_config(workdir: pathlib.Path) -> config_lib.Config:
    """The config of a workdir; raises UserError where there is none, or one that is damaged or of another version."""
    path = workdir / CONFIG
    if not path.is_file():
        raise errors.UserError(f"{workdir} is not a workdir of poster_jax: it has no readable config.json.")
    with checks.named(path, "put a copy of it in its place, or run the command again in another workdir"):
        tree = checks.read_json(path)
    try:
        return config_lib.from_tree(tree)
    except errors.UserError as error:
        raise errors.UserError(f"{path} cannot be used: {error}") from error


def begun_config(workdir: pathlib.Path) -> config_lib.Config | None:
    """The config of a workdir in which a network has begun; None for any other folder, and where the file is damaged.

    That it is damaged is told when the folder is opened.
    """
    try:
        return load_config(workdir) if (workdir / CONFIG).is_file() and leftovers.has_begun(workdir) else None
    except errors.UserError:
        return None


def remember_choice(workdir: pathlib.Path, name: str, decided: tuple[str, str] | None = None) -> tuple[str, str] | None:
    """Returns the choice that `auto` made under `name` at an earlier start, or stores `decided` in chosen.json and returns it.

    Processes may have decided differently: the decision of process 0 counts for all. None if nothing was decided yet.
    """
    return multihost.from_main(lambda: _remember(workdir / "chosen.json", name, decided))


def _remember(path: pathlib.Path, name: str, decided: tuple[str, str] | None) -> tuple[str, str] | None:
    chosen = _read_choices(path) if path.exists() else {}
    if decided is not None and name not in chosen:
        storage.write_json(path, {**chosen, name: list(decided)})
        return decided
    return (chosen[name][0], chosen[name][1]) if name in chosen else None


def _read_choices(path: pathlib.Path) -> dict[str, list[str]]:
    """{name: [what was chosen, why]}; raises UserError where there is anything else."""
    with checks.named(path, "remove it, and what it held is chosen again"):
        chosen = checks.read_json(path)
        checks.check(chosen, checks.Each(checks.Many(checks.TEXT, 2)))
        for name, (value, *_) in chosen.items():
            is_number = name == "group" and value.isdecimal() and int(value) > 0
            checks.require(is_number or value in CHOICES.get(name, (value,)), name, f"{value!r} is no choice")
    return chosen
