"""One command for everything: what it passes on, what it lists, and the project installed from its wheel."""

import os
import pathlib
import re
import subprocess
import sys
import time
import tomllib
import zipfile

import pytest

import poster_jax
from poster_jax import __main__ as commands
from poster_jax import cli, errors
from poster_jax import config as config_lib
from poster_jax.config import listing, loading
from tests.helpers import fresh_machine

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_every_command_is_the_main_of_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    for name, (_, about) in commands.COMMANDS.items():
        with pytest.raises(SystemExit) as ended:
            commands.main([name, "--config=x", "--help"] if name in ("train", "plan") else [name, "--help"])
        assert ended.value.code == 0 and "usage:" in capsys.readouterr().out
        assert about in commands.usage()
    assert "no such command" not in commands.usage()


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = "import sys, poster_jax.__main__ as m; m.main(['--help']); print([n for n in ('jax', 'numpy') if n in sys.modules])"
    started = time.process_time(), os.times().children_user
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.endswith("[]\n") and "poster-jax train cnn_onehot:smoke" in done.stdout
    assert os.times().children_user - started[1] < 0.5


def test_the_version_is_the_installed_one_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, poster_jax.__main__ as m; m.main(['--version']); print([n for n in ('jax', 'numpy') if n in sys.modules])"
    )
    before = os.times().children_user
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert os.times().children_user - before < 0.5
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert done.stdout == f"poster_jax {version}\n[]\n" and re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert cli.version_of("poster_jax_that_nobody_has") == cli.NOT_KNOWN


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["train", "cnn_onehot:smoke", "--config.seed=1"], ["--config=cnn_onehot:smoke", "--config.seed=1"]),
        (["train", "--config=a.py", "--workdir=b"], ["--config=a.py", "--workdir=b"]),
        (["plan", "configs/cnn_onehot.py"], ["--config=configs/cnn_onehot.py", "--plan"]),
    ],
)
def test_train_and_plan_take_a_config_by_name(given: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from poster_jax import main as main_module

    seen: list[list[str]] = []
    monkeypatch.setattr(main_module, "main", lambda argv: seen.append(argv) or 75)
    assert commands.main(given) == 75
    assert seen == [passed]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fit"], "'fit' is no command"),
        (["--version", "train"], "'--version' is no command"),
        (["train"], "needs a config"),
        (["train", "cnn_onehott"], 'did you mean "cnn_onehot"'),
        (["train", "elsewhere/cnn_onehot.py"], "does not exist"),
        (["keys", "no-such-word"], "no config key"),
        (["configs", "extra"], "unrecognized arguments"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(argv) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_a_config_is_found_by_its_name_from_any_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = config_lib.to_json(config_lib.load(str(ROOT / "configs" / "search_cnn.py") + ":smoke"))
    for text in ("search_cnn:smoke", "search_cnn.py:smoke", "configs/search_cnn.py:smoke", "configs/search_cnn:smoke"):
        assert config_lib.to_json(config_lib.load(text)) == wanted
    own = tmp_path / "search_cnn.py"
    own.write_text("from poster_jax import config\n\n\ndef get_config(arg):\n    return config.base('mobilenet_v2')\n")
    assert config_lib.load("search_cnn.py").model.name == "mobilenet_v2", "a file of the user's own comes first"
    with pytest.raises(errors.UserError, match="does not exist"):
        loading.find_file("other/search_cnn.py")


def test_all_configs_and_keys_are_listed() -> None:
    names = [line.split()[0] for line in listing.config_lines()]
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    lines = listing.key_lines([])
    for model in config_lib.MODELS:
        for key in loading.flatten(config_lib.base(model)):
            assert any(line.startswith(f"{key} = ") for line in lines), key
    assert "train.augment.flip = False  # mirror half of the posters" in lines
    assert "model.pooling = 'max'  # mobilenet_v2 and efficientnet_lite0 only; max | avg" in lines
    [weights] = [line for line in lines if line.startswith("model.weights = 'keras:imagenet'")]
    assert "mobilenet_v2 only" in weights and "released:NAME; empty: none" in weights
    assert "search.memory_mb = 0  # for networks in one program; 0 is 0.8 of what the device has" in lines
    chosen = listing.key_lines(["LEARNING", "search"])
    assert chosen and all("learning" in line and "search" in line for line in chosen) and len(chosen) < len(lines)


def test_the_packages_of_the_wheel_are_those_of_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "poster_jax").rglob("*.py")}
    assert set(listed) == found | {"poster_jax.configs"} and len(listed) == len(set(listed))


def test_the_wheel_works_in_an_empty_environment_from_an_empty_folder(tmp_path: pathlib.Path) -> None:
    source = fresh_machine.copy_project(tmp_path / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*build, f"--wheel-dir={tmp_path}", str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "poster_jax/configs/cnn_onehot.py" in names and not any(name.startswith(("configs/", "tests/")) for name in names)

    python, site = fresh_machine.make_environment(tmp_path)
    zipfile.ZipFile(wheel).extractall(site)
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "poster-jax = poster_jax.__main__:script" in zipfile.ZipFile(wheel).read(entry).decode()

    folder = tmp_path / "empty"
    folder.mkdir()
    environment = fresh_machine.clean_environ()
    start = [str(python), "-m", "poster_jax"]

    def call(*argv: str) -> str:
        done = subprocess.run([*start, *argv], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cnn_onehot" in call("configs") and "learning_rate" in call("keys", "learning")
    assert re.search(r"better than|cannot be told", call("train", "cnn_onehot:smoke", "--config.eval.baselines=False"))
    assert (folder / "runs" / "cnn_onehot" / "results.json").is_file()
    where = subprocess.run([start[0], "-c", "import poster_jax; print(poster_jax.__file__)"], cwd=folder, env=environment,
                           capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert str(site) in where, "the checkout was not used"


def test_the_door_from_python_answers_as_the_command_does(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    from poster_jax import predict
    from tests.helpers import made_run

    workdir = made_run.make_workdir(tmp_path / "run", made_run.cnn_config())
    picture = tmp_path / "poster.jpg"
    Image.effect_noise((40, 60), 90).convert("RGB").save(picture)
    answer = poster_jax.load(workdir).predict(str(picture))
    assert predict.main([str(workdir), str(picture), f"--csv={tmp_path / 'out.csv'}"]) == 0
    header, row = (line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines())
    assert tuple(header[1:-1]) == answer.labels
    assert [f"{value:.6f}" for value in answer.probabilities] == row[1:-1]
    assert "|".join(answer.decision) == row[-1]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(errors.UserError, match=r"bad\.jpg cannot be read"):
        poster_jax.load(workdir).predict(tmp_path / "bad.jpg")
    with pytest.raises(errors.UserError):
        poster_jax.load(tmp_path)
