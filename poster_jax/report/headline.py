"""The first screen of a run: three scores beside floor, chance and colours, what they mean, and what made them."""

from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax import config as config_lib
from poster_jax.report import blocks
from poster_jax.report.runs import FinishedRun
from poster_jax.report.tables import cells, closing
from poster_jax.workdir import provenance, run_files

SHOWN = ("mean_average_precision", "top1_accuracy", "binary_accuracy")
KEY = (
    "Bar: the test value, with its 95 % interval (bootstrap over movies). Floor: the best constant answer on the same rows. "
    "Chance: the mean when labels are permuted over movies. Colours: logistic regression on colour histograms."
)
SEEDS_KEY = KEY.replace(
    "the test value, with its 95 % interval (bootstrap over movies)", "the mean over seeds, with their range"
)
DRAWN = (
    "Drawn posters: the program made them, to show that everything runs. What a network reaches on them says nothing about "
    "real posters."
)
NOT_RECORDED = "not recorded"


def headline(seeds: Sequence[FinishedRun]) -> blocks.Headline:
    """The headline of one network, or of one recipe's seeds together."""
    results = [seed.results for seed in seeds]
    return blocks.Headline(
        warning=DRAWN if is_drawn(seeds[0]) else "",
        about=_about(results),
        bars=[_bar(name, results) for name in SHOWN],
        key=KEY if len(seeds) == 1 else SEEDS_KEY,
        meaning=f"{'On drawn posters: ' if is_drawn(seeds[0]) else ''}{closing.meaning(results)}",
        origin=_origin(seeds[0]),
    )


def is_drawn(run: FinishedRun) -> bool:
    """True where the posters are synthetic."""
    return run.config["data"]["variant"] == "synthetic"


def _about(results: Sequence[Mapping[str, Any]]) -> str:
    test, data = results[0]["splits"]["test"], results[0]["data"]
    rows, movies = cells.counted(test["num_rows"], "row"), cells.counted(test["num_movies"], "movie")
    seeds = f", {len(results)} seeds" if len(results) > 1 else ""
    genres = cells.counted(len(data["genres"]), "genre")
    return f"{results[0]['title']}{seeds}. Test part: {rows} of {movies}, {genres}, {data['name']}."


def _bar(name: str, results: Sequence[Mapping[str, Any]]) -> blocks.Bar:
    entries = [one["splits"]["test"]["metrics"][name] for one in results]
    found = [one["baselines"][closing.COLOURS]["test"]["metrics"] for one in results if closing.COLOURS in one["baselines"]]
    colours = [metrics[name] for metrics in found]
    beside = {
        "floor": _mean(entries, "best_floor"),
        "chance": _mean(entries, "chance"),
        "colours": _mean(colours, "value"),
    }
    value = closing.value(entries)
    told = ", ".join(f"{word} {cells.number(number)}" for word, number in beside.items() if number is not None)
    label = closing.ROWS[name]
    return blocks.Bar(label, value, told, blocks.Track(f"{label} {value}, {told}", _marks(entries, beside)))


def _marks(entries: Sequence[Mapping[str, Any]], beside: Mapping[str, float | None]) -> list[blocks.Mark]:
    value = _mean(entries, "value")
    marks = [] if value is None else [blocks.Mark("fill", 0, blocks.place(value))]
    if len(entries) == 1:
        marks += blocks.range_mark(entries[0]["low"], entries[0]["high"])
    elif values := cells.defined(entries, "value"):
        marks += blocks.range_mark(min(values), max(values))
    return marks + [blocks.Mark(shape, blocks.place(number)) for shape, number in beside.items() if number is not None]


def _mean(entries: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = cells.defined(entries, key)
    return sum(known) / len(known) if known else None


def _origin(run: FinishedRun) -> list[tuple[str, str]]:
    """(name, text) of what made the run, those that its folder knows."""
    about, data = provenance.read(run.origin), run.results["data"]
    rows = ", ".join(f"{count:,} {part}" for part, count in data["num_rows"].items())
    changed = changed_settings(run.config)
    found = [
        ("finished", about.get("date", "")),
        ("commit", about.get("commit", "")),
        ("command", about.get("command", "")),
        ("config", f"{run_files.find_protocol(run.results)}, {cells.counted(len(changed), 'setting')} not at the default"),
        ("jax", about.get("jax", "")),
        ("device", about.get("machine", "")),
        ("data", f"{data['name']}, fingerprint {data['fingerprint'][:8]}; rows: {rows}"),
        ("seconds", f"{about['secs']:,.0f}" if about else ""),
    ]
    return [(name, text or NOT_RECORDED) for name, text in found]


def changed_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """{key: value} of a run's config.json that differ from the defaults of its model."""
    model = config["model"]["name"]
    defaults = config_lib.flatten(config_lib.base(model)) if model in config_lib.MODELS else {}
    own = config_lib.flatten(config)
    # A tuple comes back from JSON as a list.
    return {key: text for key, value in own.items() if (text := written(value)) != written(defaults.get(key))}


def written(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(written(each) for each in value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)
