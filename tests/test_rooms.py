"""One direction of imports between rooms, heavy guests in named files, and modules that load without jax, read by `ast`."""

import ast
import pathlib
from collections.abc import Mapping

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "poster_jax"
# A file imports from its own room, without a circle, or from a room that stands before it.
ROOMS = "errors ops cli metrics runtime config data models workdir train search paper report compare score".split()
ROOMS += "protocols predict suspects features demo main bench export __main__".split()
NEVER = {("models", "data"), ("report", "train"), ("protocols", "report")}  # what the order alone would allow
WITHOUT_JAX = (
    "errors cli metrics config paper compare score report workdir.run_folder workdir.run_files workdir.logbook".split()
)
WITHOUT_JAX += "runtime.multihost runtime.storage runtime.hugepages data.download data.catalog data.images data.labels".split()
WITHOUT_JAX += "data.splits data.synthetic data.sampler data.cache search.space search.snapshots search.summary".split()
WITHOUT_JAX += "data.own data.places data.dataset data.source protocols.ablation_cells export.model_card".split()
WITHOUT_JAX += "data.array_files data.predictions data.feature_files workdir.given".split()
JAX = {"jax", "flax", "optax", "orbax"}
NEEDS_JAX = {"paper.facts"}
# Who may import a guest, and inside functions only.
GUESTS = {
    "tensorflow": "data.streaming bench.peers bench.keras_finetune bench.mutations export.formats",
    "keras": "bench.peers bench.keras_finetune",
    "torch": "bench.peers models.files.torch_files",
    "efficientnet_lite_pytorch": "bench.peers",
    "jax2onnx": "export.formats",
    "onnxruntime": "export.formats",
    "ai_edge_litert": "export.formats",
    "h5py": "models.files.keras_files",
    "matplotlib": "report.figures.style report.figures.curves report.figures.overlay report.figures.confusions",
    "jinja2": "report.render",
    "tensorboardX": "workdir.logbook",
    "pyarrow": "data.array_files",
    "safetensors": "data.array_files models.files.torch_files export.formats",
}
CODE = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or path.stem != "__init__"
}


def names_in(nodes: list[ast.AST]) -> set[str]:
    """Full dotted names of everything that these nodes import."""
    found = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    return found | {f"{node.module}.{a.name}" for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}


def faults(code: Mapping[str, str]) -> list[str]:
    """What breaks the rules in {dotted name below poster_jax: source}."""
    found, graph = [], {}
    for name, source in code.items():
        tree, room = ast.parse(source), name.split(".")[0]
        names, at_top = names_in(list(ast.walk(tree))), names_in(list(tree.body))
        own = {full.removeprefix("poster_jax.") for full in names if full.startswith("poster_jax.")}
        graph[name] = {next((p for p in (o, o.rpartition(".")[0]) if p in code), o) for o in own} - {name}
        rooms = {other.split(".")[0] for other in graph[name]} - {room}
        found += [f"{name} imports {r}" for r in rooms if ROOMS.index(r) > ROOMS.index(room) or (room, r) in NEVER]
        for guest, allowed in GUESTS.items():
            used = [n for n in names if n.split(".")[0] == guest]
            found += [f"{name} imports {n}" for n in used if name not in allowed.split() or n in at_top]
        if any(f"{name}.".startswith(f"{part}.") for part in WITHOUT_JAX) and name not in NEEDS_JAX:
            found += [f"{name} needs jax" for n in at_top if n.split(".")[0] in JAX]
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    return [*found, *(f"{name} is in or above a circle" for name in graph)]


def test_the_rooms_of_the_package() -> None:
    assert not faults(CODE)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ops.pool", "from poster_jax import config"),
        ("models.cnn", "from poster_jax.data import labels"),
        ("data.labels", "from poster_jax.data import dataset"),
        ("train.loop", "def f():\n    import torch"),
        ("data.streaming", "import tensorflow"),
        ("metrics.floors", "import jax.numpy as jnp"),
    ],
)
def test_a_planted_wrong_import_is_seen(name: str, line: str) -> None:
    assert faults({**CODE, name: f"{CODE[name]}\n{line}\n"})


def test_files_functions_and_argument_lists_stay_small() -> None:
    """350 lines a file, 60 a function (80 in a protocol), five positional and eight parameters in all.

    A function that takes a config section by its keys, as `build(**config.loss)` does, may have more, all by keyword.
    """
    by_keys = {"build", "build_optimizer", "augment"}
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path.name
        limit = 80 if "protocols" in path.parts else 60
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                where = f"{path.name}: {node.name}"
                assert node.end_lineno - node.lineno < limit, where  # type: ignore[operator]
                positional = [a for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
                assert len(positional) <= 5, where
                assert len(positional) + len(node.args.kwonlyargs) <= 8 or node.name in by_keys, where


def test_the_path_of_a_newcomer_is_short() -> None:
    names = ("protocols/single", "data/dataset", "data/input_pipeline", "train/steps", "train/loop")
    paths = [PACKAGE.parent / "configs" / "cnn_onehot.py", *(PACKAGE / f"{name}.py" for name in names)]
    assert sum(len(path.read_text().splitlines()) for path in paths) < 650
