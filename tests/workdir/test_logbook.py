"""The logs of a run: what TensorBoard's copy holds once the logbook is closed."""

import pathlib

from poster_jax.workdir import logbook


def test_tensorboards_copy_is_whole_when_the_logbook_is_closed(tmp_path: pathlib.Path) -> None:
    log = logbook.Logbook(tmp_path, last_step=0, total_steps=2, tensorboard=True)
    log.metrics(1, "train", {"loss": 0.5})
    log.metrics(2, "validation", {"loss": 0.25, "macro_auc": None})
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    written = events.read_bytes()
    assert b"train/loss" in written and b"validation/loss" in written
    assert b"macro_auc" not in written, "what is undefined is no number"


def test_without_tensorboard_there_is_no_copy(tmp_path: pathlib.Path) -> None:
    log = logbook.Logbook(tmp_path, last_step=0, total_steps=2, tensorboard=False)
    log.metrics(1, "train", {"loss": 0.5})
    log.close()
    assert not (tmp_path / "tensorboard").exists()
