"""Workdirs and caches in an object store: logs in parts, no lock, and the run of a disk.

An `epath.Path` of a folder goes the way of a store's path. One run goes to a fake of Google's store, over HTTP.
"""

import json
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from etils import epath

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import builder, cache, resident
from poster_jax.protocols import single
from poster_jax.runtime import preemption, storage
from poster_jax.workdir import logbook, run_files, run_folder
from tests.helpers import faults, processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"{ROOT}/configs/cnn_onehot.py:smoke"


def in_store(path: pathlib.Path) -> Any:
    path.mkdir(parents=True, exist_ok=True)
    return epath.Path(path)


def test_a_text_names_a_disk_or_a_store_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("runs/a", "/runs/a", "a:b"):
        assert storage.as_path(text) == pathlib.Path(text) and not storage.is_remote(storage.as_path(text))
    pytest.importorskip("gcsfs")
    assert (
        storage.is_remote(storage.as_path("gs://bucket/a")) and str(storage.as_path("gs://bucket/a") / "b") == "gs://bucket/a/b"
    )
    with pytest.raises(errors.UserError, match="of no store known here"):
        storage.as_path("ftp://host/a")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for scheme, extra in (("gs", "gcs"), ("s3", "s3")):
        with pytest.raises(errors.UserError, match=rf"poster_jax\[{extra}\]"):
            storage.as_path(f"{scheme}://bucket/a")


def test_a_log_grows_in_numbered_parts_that_become_one_file(tmp_path: pathlib.Path) -> None:
    path = in_store(tmp_path) / "metrics.jsonl"
    lines = [{"step": step, "part": "train"} for step in range(12)]
    for first in (0, 5):  # a second process goes on with the numbers of the first
        log = storage.Log(path)
        for line in lines[first : first + 5]:
            log.append(line)
    assert sorted(os.listdir(tmp_path)) == [f"metrics.jsonl.{number:06}" for number in range(10)]
    assert run_files.read_lines(path.parent) == lines[:10]
    kept = path.with_name("metrics.jsonl.000004").read_text()
    log.close()
    assert os.listdir(tmp_path) == ["metrics.jsonl"] and run_files.read_lines(path.parent) == lines[:10]
    # What a crash has left between the file and the removal of its parts is not told twice; a lost part is missed.
    path.with_name("metrics.jsonl.000004").write_text(kept)
    assert run_files.read_lines(path.parent) == lines[:10]
    log.append(lines[10])
    log.append(lines[11])
    path.with_name("metrics.jsonl.000005").unlink()
    assert run_files.read_lines(path.parent) == [*lines[:10], lines[11]]
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append({"loss": float("nan")})


def test_a_disk_appends_to_one_file(tmp_path: pathlib.Path) -> None:
    log = storage.Log(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    log.append({"step": 2})
    log.close()
    assert os.listdir(tmp_path) == ["metrics.jsonl"]
    assert storage.read(tmp_path / "metrics.jsonl") == '{"step": 1}\n{"step": 2}\n'
    assert storage.read(tmp_path / "none.jsonl") == ""


def test_lines_beyond_the_restored_step_are_dropped_from_the_parts_too(tmp_path: pathlib.Path) -> None:
    workdir = in_store(tmp_path)
    for last_step in (0, 3):
        log = logbook.Logbook(workdir, last_step=last_step, total_steps=9, tensorboard=False)
        for step in range(last_step + 1, last_step + 6):
            log.metrics(step, "train", {"loss": float(step + last_step)})
    assert [(line["step"], line["loss"]) for line in run_files.read_lines(workdir)] == [
        *((step, step) for step in range(1, 4)),
        *((step, step + 3) for step in range(4, 9)),
    ]


def test_a_run_in_a_store_is_the_run_on_a_disk_without_a_lock(tmp_path: pathlib.Path) -> None:
    config = config_lib.load(SMOKE, [("eval.bootstrap_samples", "5"), ("eval.baselines", "False")])
    for workdir in (tmp_path / "disk", in_store(tmp_path / "store")):
        single.run(config, workdir, preemption.StopRequest())
    names = [sorted(os.listdir(tmp_path / name)) for name in ("disk", "store")]
    assert names[0] == sorted([*names[1], ".lock"])
    for name in names[1]:
        disk, other = (tmp_path / folder / name for folder in ("disk", "store"))
        if other.is_file() and name not in ("timings.jsonl", "predictions.npz", "samples.npz"):
            assert disk.read_bytes() == other.read_bytes(), name
    with pytest.raises(errors.UserError, match="begun with another config"):
        changed = config_lib.derive(config, {"seed": 7})
        with run_folder.opened(epath.Path(tmp_path / "store"), changed):  # type: ignore[arg-type]
            pass


def test_packed_posters_are_kept_in_the_store_and_read_from_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_lib.load(SMOKE)
    source: Any = builder.load_source(config.data)
    kept = in_store(tmp_path / "store")
    monkeypatch.setattr(cache, "cache_root", lambda cache_dir: kept if cache_dir == "there" else tmp_path / "disk")
    first = resident.pack(source, config.data.image_size, "there")
    [folder] = kept.iterdir()
    assert {path.name for path in folder.iterdir()} == {"images.npy", "packed.json", "refused.csv", "table.csv"}
    # A folder without what is written last is not whole, and is written again.
    (folder / "packed.json").unlink()
    again = resident.pack(source, config.data.image_size, "there")
    assert (again.images == first.images).all() and (folder / "packed.json").exists()
    monkeypatch.setattr(storage, "as_path", lambda text: epath.Path(text))
    config.data.variant, config.data.dir = "packed", str(folder)
    packed: Any = builder.open_source(config.data)
    assert (packed.images == first.images).all() and packed.fingerprint == source.fingerprint
    assert packed.table.equals(first.table)


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """The environment in which gs://posters is a bucket of a fake store on this machine."""
    server_lib = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is the fake store")
    host, _, port = processes.free_address().partition(":")
    server = server_lib.create_server(host, int(port), in_memory=True, default_bucket="posters")
    server.start()
    address = f"http://{host}:{port}"
    yield {
        "STORAGE_EMULATOR_HOST": address,  # gcsfs
        "TENSORSTORE_GCS_HTTP_URL": address,  # the arrays of orbax
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    server.stop()


def start(module: str, arguments: list[str], bucket: dict[str, str]) -> Any:
    """`python -m MODULE` as on a machine without TensorFlow, whose own client of gs:// cannot be sent to a fake."""
    code = "import runpy, sys; from etils.epath import gpath; gpath._is_tf_installed = lambda: False; "
    code += f"sys.argv[1:] = {arguments!r}; runpy.run_module({module!r}, run_name='__main__')"
    return processes.start_python(["-c", code], **bucket)


def test_a_run_in_a_bucket_that_is_killed_goes_on_and_ends_as_on_a_disk(bucket: dict[str, str], tmp_path: pathlib.Path) -> None:
    whole = faults.run_whole("single", tmp_path)
    workdir = "gs://posters/runs/a"
    arguments = [*faults.SINGLE, f"--workdir={workdir}", f"--config.data.cache_dir={whole.cache}"]
    process = start("poster_jax.main", arguments, bucket)
    for line in process.stderr:
        if "step      8 train" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, said = processes.finish(start("poster_jax.main", arguments, bucket))
    assert code == 0, said
    assert "a store knows no locks" in said and "seed 0: step 0 of" not in said and "of 30, 1 device(s)" in said
    code, said = processes.finish(start("tests.helpers.fetch_run", [workdir, str(tmp_path / "fetched")], bucket))
    assert code == 0, said
    fetched = faults.fingerprint(tmp_path / "fetched", whole.cache)
    kept = {name: value for name, value in whole.fingerprint.items() if name != "results.json"}
    assert kept == {name: value for name, value in fetched.items() if name != "results.json"}
    results = [
        json.loads((place / "results.json").read_text()) for place in (tmp_path / "single" / "run", tmp_path / "fetched")
    ]
    assert results[0] == results[1]
    code, said = processes.finish(start("poster_jax.compare", [workdir, workdir], bucket))
    assert code == 0 and "B is identical to A" in said
    code, said = processes.finish(start("poster_jax.main", [*faults.SINGLE, "--workdir=gs://none/run"], bucket))
    assert code == 2 and "the workdir gs://none/run cannot be used" in said and "Traceback" not in said
