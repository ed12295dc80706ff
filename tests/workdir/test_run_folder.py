"""The lock of a run folder: one run at a time, and the next one as soon as the first has ended."""

import gc
import pathlib

import pytest

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.workdir import run_folder


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: pathlib.Path) -> None:
    config = config_lib.base()
    with run_folder.opened(tmp_path / "run", config):
        gc.collect()
        with (
            pytest.raises(errors.UserError, match="in use by another run: wait for it or name another"),
            run_folder.opened(tmp_path / "run", config),
        ):
            pytest.fail("both hold the lock")
        with run_folder.opened(tmp_path / "other", config):
            pass
    with run_folder.opened(tmp_path / "run", config):
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(errors.UserError, match=r"run cannot be used \(Not a directory\): name another with --workdir"),
        run_folder.opened(tmp_path / "file" / "run", config_lib.base()),
    ):
        pytest.fail("it was opened")
