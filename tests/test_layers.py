"""One direction of imports, and heavy guests in their rooms, read from the code by `ast`."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "poster_jax"

# A file imports from lower levels only, or from files of its own level that stand before it in this list.
LEVELS = (
    (
        "errors",
        "hugepages",
        "checks",
        "search_space",
        "grid",
        "processes",
        "progress",
        "data.fetch",
        "data.hosts",
        "data.ledger",
        "bundle",
        "forms",
        "store",
    ),
    ("config", "data.images", "data.order", "data.synthetic", "losses", "measures", "ranking"),
    ("narrow", "image_block", "winograd", "layers", "depthwise", "baselines"),
    (
        "data.catalog",
        "data.links",
        "data.crawl",
        "data.download",
        "data.labels",
        "data.splits",
        "bootstrap",
        "floors",
        "data.augment",
        "models.cnn",
        "models.blocks",
        "models.mobilenet_v2",
        "models.keras_files",
    ),
    (
        "metrics",
        "runtime",
        "programs",
        "workdir",
        "models.pretrained",
        "models.convert",
        "models",
        "data.builder",
        "data.resident",
        "data.pipeline",
        "data.dataset",
    ),
    ("data.feed", "state", "step", "checkpoint", "logbook", "search_files", "search_results", "ablation_results", "population"),
    ("loop", "cohort", "features", "heads", "explain", "samples"),
    ("report.style", "report.overlay", "report.runs", "report.template", "report.explain_72"),
    ("report.table", "report.transfer", "report.trials"),
    ("report.distributions", "report.curves", "report.confusions", "report.posters", "report.tables"),
    ("report.histories", "report.claims_table", "report.page", "claims", "compare", "evidence", "ledger"),
    ("protocols.single", "protocols.transfer", "protocols.search", "protocols.ablation", "protocols.reproduce", "protocols"),
    ("plan", "bench.timing", "bench.peers", "bench.keras_finetune", "bench.keras_search", "bench.keras_heads", "bench.scaling"),
    ("model_card",),
    ("predict", "report.__main__"),
    ("export_formats",),
    ("export",),
    ("main", "bench.__main__"),
)
ORDER = [name for level in LEVELS for name in level]
# Where a guest may be imported at all; "inside" means inside functions only.
GUESTS = {
    "tensorflow": {"data.pipeline", "bench.peers", "bench.keras_finetune", "export_formats"},
    "keras": {"bench.peers", "bench.keras_finetune", "models.convert"},
    "torch": {"bench.peers", "models.convert"},
    "jax2onnx": {"export_formats"},
    "onnxruntime": {"export_formats"},
    "ai_edge_litert": {"export_formats"},
    "h5py": {"models.keras_files"},
    "matplotlib": {"report.style", "report.overlay", "report.confusions"},
    "jinja2": {"report.page"},
    "tensorboardX": {"logbook"},
}
WITHOUT_JAX = ("data.images", "data.catalog", "data.labels", "data.splits", "data.synthetic", "data.order", "metrics")
WITHOUT_JAX += (
    "measures",
    "floors",
    "bootstrap",
    "baselines",
    "report.table",
    "report.transfer",
    "report.trials",
    "ranking",
    "search_space",
    "search_files",
    "search_results",
    "grid",
    "ablation_results",
    "progress",
    "compare",
    "claims",
    "evidence",
    "ledger",
    "report.histories",
    "report.claims_table",
    "config",
    "checks",
    "errors",
    "workdir",
    "hugepages",
    "model_card",
)
WITHOUT_JAX += ("data.fetch", "data.hosts", "data.ledger", "data.links", "data.crawl", "data.download")
WITHOUT_JAX += ("report.style", "report.overlay", "report.runs", "report.template", "report.explain_72", "report.distributions")
WITHOUT_JAX += ("report.curves", "report.confusions", "report.posters", "report.tables", "report.page", "report.__main__")


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
CODE = {name: tree for name, tree in MODULES.items() if tree.body}


def imported(tree: ast.AST) -> set[str]:
    """Full dotted names of everything imported, `from a import b` as a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(names: set[str]) -> set[str]:
    """Those of our modules that dotted names stand for: poster_jax.state.TrainState is `state`."""
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "poster_jax":
            known = [".".join(parts[1:end]) for end in range(len(parts), 1, -1) if ".".join(parts[1:end]) in CODE]
            found |= set(known[:1])
    return found


def test_every_module_has_its_place() -> None:
    assert sorted(CODE) == sorted(ORDER)


@pytest.mark.parametrize("name", sorted(CODE))
def test_imports_point_one_way(name: str) -> None:
    later = {other for other in own(imported(CODE[name])) if ORDER.index(other) >= ORDER.index(name)}
    assert not later, f"{name} imports {later}, which stand above it"


@pytest.mark.parametrize("name", sorted(CODE))
def test_guests_stay_in_their_rooms_and_inside_functions(name: str) -> None:
    for guest, rooms in GUESTS.items():
        used = {module for module in imported(CODE[name]) if module.split(".")[0] == guest}
        assert not used or name in rooms, f"{name} imports {guest}"
        top = {module for node in CODE[name].body for module in imported(node) if isinstance(node, ast.Import | ast.ImportFrom)}
        assert not {module for module in top if module.split(".")[0] == guest}, f"{name} imports {guest} at its top"


@pytest.mark.parametrize("name", WITHOUT_JAX)
def test_these_need_no_jax(name: str) -> None:
    assert not {module for module in imported(CODE[name]) if module.split(".")[0] in ("jax", "flax", "optax")}


def test_the_check_itself_sees_a_wrong_import() -> None:
    assert own(imported(ast.parse("from poster_jax.data import feed\nimport poster_jax.state"))) == {
        "data.feed",
        "state",
    }
    assert ORDER.index("data.feed") > ORDER.index("data.labels")


def test_files_and_functions_stay_small() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path.name
        limit = 80 if "protocols" in path.parts else 60
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < limit, f"{path.name}: {node.name}"  # type: ignore[operator]
