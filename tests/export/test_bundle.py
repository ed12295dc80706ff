"""The `predict.py` of an exported folder: the pictures, scores and CSV of `poster_jax.predict`, without the package."""

import csv
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from poster_jax import predict
from poster_jax.export import __main__ as export
from poster_jax.export import bundle
from tests.helpers.made_run import GENRES, cnn_config, make_workdir

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOISE = np.random.default_rng(5).integers(0, 256, (3, 40, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_workdir(tmp_path_factory.mktemp("bundle") / "run", cnn_config())


@pytest.fixture(scope="module")
def out(workdir: pathlib.Path) -> pathlib.Path:
    """The bundle of `workdir`, by the command."""
    assert export.main([str(workdir), str(workdir.parent / "bundle")]) == 0
    return workdir.parent / "bundle"


def run_without_the_package(code: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code in `folder` where an import of poster_jax or of most of what it needs fails."""
    blocked = """
import runpy, sys
for name in ("poster_jax", "flax", "optax", "orbax", "tensorflow", "ml_collections"):
    sys.modules[name] = None  # an import of it fails
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", blocked + code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def make_pictures(folder: pathlib.Path) -> list[str]:
    """Names of pictures of many kinds in `folder`; those that cannot be read begin with "bad"."""
    colours = Image.fromarray(NOISE[0]).resize((64, 90), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    colours.save(folder / "turned.jpg", exif=exif)
    colours.save(folder / "colour.jpg")
    colours.convert("L").save(folder / "grey.jpg")
    colours.quantize(16).save(folder / "palette.png")
    colours.resize((32, 40)).save(folder / "of_the_size.png")
    clear = colours.convert("RGBA")
    clear.putalpha(colours.convert("L"))
    clear.save(folder / "clear.png")
    Image.fromarray((np.asarray(colours.convert("L")).astype(np.uint16) << 8) + 77).save(folder / "grey_16_bit.png")
    (folder / "bad_empty.jpg").write_bytes(b"")
    (folder / "bad_cut.jpg").write_bytes((folder / "colour.jpg").read_bytes()[:900])
    (folder / "bad_page.png").write_text("<html>not found</html>")
    (folder / "bad_folder.png").mkdir()
    return [*sorted(path.name for path in folder.iterdir()), "bad_missing.png"]


def test_predict_py_gives_the_csv_of_predict_and_tells_bad_pictures(
    workdir: pathlib.Path, out: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "posters").mkdir()
    names = make_pictures(tmp_path / "posters")
    bad = [name for name in names if name.startswith("bad")]
    argv = f"sys.argv[1:] = {['--csv=found.csv', *names]!r}\n"
    script = f"runpy.run_path({str(out / 'predict.py')!r}, run_name='__main__')"
    done = run_without_the_package(argv + script, tmp_path / "posters")
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split(" is left out: ")[0] for line in done.stderr.splitlines()] == bad
    assert done.stdout == f"found.csv: {len(names) - len(bad)} of {len(names)} pictures\n"

    monkeypatch.chdir(tmp_path / "posters")
    assert predict.main([str(workdir), *[name for name in names if name != "bad_folder.png"], "--csv=wanted.csv"]) == 0
    found, wanted = (list(csv.reader(open(name, newline=""))) for name in ("found.csv", "wanted.csv"))
    assert len(found) == len(names) - len(bad) + 1
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours[0] == theirs[0] and ours[-1] == theirs[-1]
    numbers = [np.array([row[1:-1] for row in rows[1:]], float) for rows in (found, wanted)]
    np.testing.assert_allclose(*numbers, atol=3e-6)
    assert numbers[0].std(0).max() > 1e-3  # the pictures differ

    done = run_without_the_package(f"sys.argv[1:] = {bad!r}\n" + script, tmp_path / "posters")
    assert done.returncode == 2 and f"none of the {len(bad)} pictures could be read" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    done = run_without_the_package("sys.argv[1:] = ['--help']\n" + script, tmp_path)
    assert done.returncode == 0 and "--csv" in done.stdout


def test_predict_py_prints_the_lines_of_predict(
    workdir: pathlib.Path, out: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / f"{index}.png") for index in range(3)]
    for path, pixels in zip(paths, NOISE, strict=True):
        Image.fromarray(pixels).save(path)
    assert predict.main([str(workdir), *paths]) == 0
    wanted = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    command = [sys.executable, str(out / "predict.py"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [line[1] for line in found] == [line[1] for line in wanted] and [line[0] for line in found] == paths


def test_the_example_of_the_card_predicts_without_the_package(
    workdir: pathlib.Path, out: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    Image.fromarray(NOISE[0]).resize((60, 90)).save(tmp_path / "0.png")
    [example] = re.findall(r"```python\n(.*?)```", (out / "MODEL_CARD.md").read_text(), flags=re.DOTALL)
    shown = re.sub(r"resize\(\(\d+, \d+\)", "resize((101, 150)", example)
    assert shown in (ROOT / "poster_jax" / "export" / "README.md").read_text()
    code = example.replace("program.jax_export", str(out / "program.jax_export")).replace("poster.jpg", "0.png")
    done = run_without_the_package(f"{code}\nnp.save('example.npy', probabilities)\n", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    network = predict.load_network(workdir)
    answer = network.predict(tmp_path / "0.png")
    np.testing.assert_allclose(np.load(tmp_path / "example.npy"), answer.probabilities[None], atol=2e-6)
    assert len(answer.probabilities) == len(GENRES)


def test_the_decoder_of_a_bundle_is_ours_and_needs_numpy_and_pillow_only(out: pathlib.Path) -> None:
    imported: set[str] = set()
    for name, module in export.MODULES.items():
        content = (out / name).read_text()
        assert content.replace("import picture_files\n", "from poster_jax.data import picture_files\n") == (
            pathlib.Path(module.__file__ or "").read_text()
        )
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", content, flags=re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"numpy", "PIL", "picture_files"}


@pytest.mark.parametrize("name", ["program.jax_export", "labels.json", "MODEL_CARD.md", "predict.py", *export.MODULES])
def test_a_changed_file_is_noticed(
    out: pathlib.Path,
    tmp_path: pathlib.Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = shutil.copytree(out, tmp_path / "bundle")
    assert bundle.load(changed)[1]["genres"] == list(GENRES)
    content = bytearray((changed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (changed / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        bundle.load(changed)
    monkeypatch.setattr(bundle, "FOLDER", changed)
    assert bundle.main(["poster.jpg"]) == 2
    assert f"{changed / name} is not the file that was exported: export again." in capsys.readouterr().err
