"""The model card of an exported network, as Markdown: what a user must know and cannot read from the program.

Mitchell et al. 2019, "Model Cards for Model Reporting". Every number is the run's own, from its config and results.json.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from poster_jax import config as config_lib
from poster_jax.data import csv_files
from poster_jax.metrics import chance, definitions
from poster_jax.report.tables import cells
from poster_jax.workdir import run_files

HUB_TASK = "image-classification"
HUB_METRICS = ("mean_average_precision", "top1_accuracy", "binary_accuracy")
UNKNOWN_LICENCE = (
    "The code is under the Apache License 2.0. The weights were computed from the posters, and from the pretrained weights if "
    "any are named above: whether they may be passed on depends on the licences of those, which are not known here."
)


def write(
    config: config_lib.Config,
    results: Mapping[str, Any],
    *,
    thresholds: Sequence[float],
    use: Sequence[str],
    licence: str = UNKNOWN_LICENCE,
) -> str:
    """The card of one finished run.

    Args:
        results: its results.json; thresholds: [K], those that a poster is decided by; use: paragraphs on how to call it.
    """
    height, width = config.data.image_size
    genres = [cells.markdown(genre) for genre in results["data"]["genres"]]
    sections = [
        f"# {cells.markdown(results['title'])}",
        f"Scores a movie poster for {len(genres)} genres: {', '.join(genres)}.",
        "## Use",
        *use,
        "## Input and output",
        *_contract(config, results, height, width),
        "## Scores on the test part",
        _verdict(config, results),
        *_metrics_table(results),
        "## Genres and thresholds",
        "A genre is decided for where its probability reaches the threshold, which is the one of largest F1 on validation. "
        "F1, precision and recall are those of the test part at this threshold; the floor of F1 is a yes to every poster, that "
        "of average precision the genre's share of the rows.",
        *_genre_table(results, thresholds),
        "## Data",
        *_data(config, results),
        "## Intended use and limits",
        *_limits(config, results),
        "## Provenance of the weights",
        *_provenance(config, results),
        "## Licence",
        licence,
    ]
    text = _hub_head(results, is_licence_known=licence != UNKNOWN_LICENCE)
    for before, section in zip(["", *sections], sections, strict=False):
        # No blank line within a list or a table.
        text += ("\n" if section[:2] in ("- ", "| ") and before[:2] == section[:2] else "\n\n" * bool(before)) + section
    return text + "\n"


def _hub_head(results: Mapping[str, Any], *, is_licence_known: bool) -> str:
    """What the Hugging Face hub reads of a card: YAML between two lines of dashes, and an empty line.

    Values are written as JSON, which YAML contains. Every metric's name says its floor, since the hub shows nothing else.
    """
    entries = results["splits"]["test"]["metrics"]
    shown = [name for name in HUB_METRICS if entries[name]["value"] is not None]
    metrics = [
        {"type": name, "value": entries[name]["value"], "name": f"{name}, floor {cells.number(entries[name]['best_floor'])}"}
        for name in shown
    ]
    dataset = {"name": results["data"]["name"], "type": results["data"]["name"].replace(" ", "-").lower(), "split": "test"}
    measured = {"task": {"type": HUB_TASK}, "dataset": dataset, "metrics": metrics}
    licence = {"license": "other", "license_name": "see-the-section-licence"} if is_licence_known else {"license": "unknown"}
    head = {
        **licence,
        "library_name": "poster_jax",
        "pipeline_tag": HUB_TASK,
        "tags": ["image-classification", "movie-posters", "jax", "flax"],
        "metrics": shown,
        "model-index": [{"name": results["title"], "results": [measured]}],
    }
    lines = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in head.items())
    return f"---\n{lines}---\n\n"


def use_of_bundle(config: config_lib.Config, *, platforms: Sequence[str], jax_version: str, others: Sequence[str]) -> list[str]:
    """How an exported folder is used; others: its files beside the program."""
    return [
        "`python predict.py [--csv=FILE] POSTER...` in this folder needs jax, numpy and Pillow, and refuses files that are not "
        "those that were exported (`manifest.json`). In a program of your own:",
        _example(*config.data.image_size),
        f"`program.jax_export` is StableHLO for {', '.join(platforms)}, written by jax {jax_version}; jax reads the files of "
        "earlier versions, for six months at least, and mostly not those of later ones. The weights and the normalisation are "
        "inside.",
        *_others(others),
    ]


def _others(names: Sequence[str]) -> list[str]:
    about = {
        "program.tflite": "`program.tflite` is the same network for LiteRT (TensorFlow Lite), one poster a call.",
        "weights.safetensors": "`weights.safetensors` has the weights alone, float32 under the names of the checkpoint: "
        "`params/` what is trained, `batch_stats/` the statistics.",
        "program.onnx": "`program.onnx` is the same network for ONNX runtimes, any number of posters a call.",
    }
    return [about[name] for name in names]


def _example(height: int, width: int) -> str:
    return f"""```python
import jax, numpy as np
from jax import export
from PIL import Image

program = export.deserialize(bytearray(open("program.jax_export", "rb").read()))
poster = Image.open("poster.jpg").convert("RGB").resize(({width}, {height}), Image.Resampling.BILINEAR)
probabilities = jax.jit(program.call)(np.asarray(poster)[None])
```"""


def sums_to_one(config: config_lib.Config, results: Mapping[str, Any]) -> bool:
    """Whether the probabilities of a poster do: those of a softmax, as long as each genre has not a temperature of its own."""
    return config.loss.name == "softmax" and "calibration" not in results


def _contract(config: config_lib.Config, results: Mapping[str, Any], height: int, width: int) -> list[str]:
    one = sums_to_one(config, results)
    mean = "the mean over the poster and its mirror image, " if config.eval.mirror else ""
    return [
        f"- In: uint8 [B, {height}, {width}, 3], any B from 1 on: RGB, 0 to 255, rows from top to bottom.",
        f"- A poster of another size is squeezed to {width} x {height} pixels (width x height), whatever its shape: bilinear "
        "with antialiasing, on 8-bit values, as Pillow's `Image.resize` does. Before that, pictures are turned upright (EXIF) "
        "and transparent ones laid on white.",
        f"- Out: float32 [B, {len(config.data.genres) or config.data.num_genres}], genres in the order of `labels.json`: {mean}"
        + ("probabilities that sum to one." if one else "every genre's own probability, which do not sum to one."),
    ]


def _verdict(config: config_lib.Config, results: Mapping[str, Any]) -> str:
    metric = config.eval.best_metric
    test = results["splits"]["test"]
    entry = test["metrics"][metric]
    scores = (
        f"{metric} is {cells.value(entry)} where the best constant answer has {cells.number(entry['best_floor'])}, on "
        f"{test['num_rows']:,} rows of {test['num_movies']:,} movies. Intervals are 95 %, by bootstrap over the movies."
    )
    if metric in definitions.RANKED:
        scores += (
            f" Labels that are permuted over the movies give {cells.number(entry['chance'])} "
            f"(p = {cells.p_value(entry)}, {chance.NUM_PERMUTATIONS:,} permutations)."
        )
    return (
        scores
        if chance.beats_constant(metric, entry)
        else f"{scores} **On this measure the network cannot be told from a constant answer.**"
    )


def _metrics_table(results: Mapping[str, Any]) -> list[str]:
    splits, baselines = results["splits"], results["baselines"]
    lines = _header(["metric", "test [95 %]", "floor", "chance", "ceiling", "validation", "train", *baselines])
    for name, entry in splits["test"]["metrics"].items():
        row = [name, cells.value(entry), *(cells.number(entry.get(key)) for key in ("best_floor", "chance", "ceiling"))]
        others = [splits["validation"], splits["train"], *(parts["test"] for parts in baselines.values())]
        lines.append(_row([*row, *(cells.number(other["metrics"][name]["value"]) for other in others)]))
    return [
        *lines,
        "`floor` is the best constant answer on the same rows, `chance` the mean when labels are permuted over movies, "
        "`ceiling` the best that the labels allow; `@tuned` is at the thresholds below, the others at 0.5; calibration_error "
        "is better when it is lower. Columns after `train` are simple methods on the same test rows.",
        *_calibrated(results),
    ]


def _calibrated(results: Mapping[str, Any]) -> list[str]:
    if "calibration" not in results:
        return []
    error = results["calibration"]["test"]["calibration_error"]
    return [
        "The table is of the network as it was trained. The program divides the logits by temperatures that were fitted on "
        f"validation: calibration_error is {cells.number(error['before'])} without and {cells.number(error['after'])} with "
        f"them (difference {cells.value(error['difference'], '+.3f')}). No order within a genre changes, and no answer at a "
        "threshold below."
    ]


def _genre_table(results: Mapping[str, Any], thresholds: Sequence[float]) -> list[str]:
    columns = ["genre", "threshold", "test rows", "average precision", "floor", "F1", "floor", "precision", "recall"]
    lines = _header(columns)
    per_genre = results["splits"]["test"]["per_genre"]
    for (genre, entry), threshold in zip(per_genre.items(), thresholds, strict=True):
        ranked, decided = entry["average_precision"], entry["f1@tuned"]
        row = [cells.markdown(genre), f"{threshold:.6f}", str(entry["count"])]
        row += [cells.value(ranked), cells.number(ranked["floor"]), cells.value(decided), cells.number(decided["floor"])]
        lines.append(_row([*row, cells.number(entry["precision@tuned"]), cells.number(entry["recall@tuned"])]))
    return lines


def _data(config: config_lib.Config, results: Mapping[str, Any]) -> list[str]:
    data = results["data"]
    refused = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in data["refused"]["reason"].items())
    name = cells.markdown(data["name"])
    lines = [
        f"- {name}: {data['num_posters']:,} posters, beside {data['num_refused']:,} catalog rows that were refused"
        + (f" ({refused})." if refused else "."),
        f"- Fingerprint of the prepared posters: `{data['fingerprint']}`.",
        f"- Labels: `{config.data.encoding}`, {data['labels_per_row']:.2f} per row; balance of the genres: "
        f"`{config.data.balance}`"
        + (", before the split." if config.data.balance_before_split else ", of the training part only."),
        f"- Rows: {', '.join(f'{part} {count:,}' for part, count in data['num_rows'].items())}; movies are "
        + ("never on two sides." if config.data.split_grouped else "**on two sides of the split** where they have two rows."),
    ]
    leaked = {part: count for part, count in data["leaked_rows"].items() if count}
    if leaked:
        counts = " and ".join(f"{count:,} of {part}" for part, count in leaked.items())
        lines.append(f"- **Leaked**: {counts} have a poster that is in the training part too.")
    if data["auxiliary_genres"]:
        lines.append(
            f"- Learnt beside the genres, and not given out: {', '.join(map(cells.markdown, data['auxiliary_genres']))}."
        )
    if config.train.teacher:
        names = ", ".join(cells.markdown(pathlib.PurePath(name).name) for name in csv_files.split_names(config.train.teacher))
        lines.append(
            f"- Training targets: {config.train.teacher_share:g} the mean of the scores of other networks ({names}), the rest "
            "the labels."
        )
    parts = data["genre_counts"]
    lines += _header(["rows with the genre", *parts])
    for k, genre in enumerate(data["genres"]):
        lines.append(_row([cells.markdown(genre), *(f"{counts[k]:,}" for counts in parts.values())]))
    return lines


def _limits(config: config_lib.Config, results: Mapping[str, Any]) -> list[str]:
    lines = [
        "- For research on what posters tell of a movie's genres. Not for decisions about people, works or rights.",
        "- A label is what a catalog lists for the movie; a poster need not show it, and no score says that it does.",
        "- A picture that is no poster gets probabilities as well: the network cannot say that it does not know.",
        f"- Measured on {results['data']['name']} alone; posters of other years, countries or sources were not tried.",
        f"- One network, of seed {results['seed']}: the intervals are over the movies of the test part, not over trainings.",
        "- Thresholds were chosen on validation for F1, which favours a yes; choose others where a wrong yes costs more.",
    ]
    if config.data.variant == "synthetic":
        lines.insert(0, "- **Trained on posters that a program drew: it says nothing about real ones.**")
    if config.data.balance != "none" and config.data.balance_before_split:
        lines.append(
            "- The genres were balanced before the split, in the test part too: among all movies the shares of the genres, "
            "and with them precision and average precision, are others."
        )
    return lines


def _provenance(config: config_lib.Config, results: Mapping[str, Any]) -> list[str]:
    given = config.model.to_dict()
    # A network that was trained to its end was not chosen by step.
    chosen = f", the best by {config.eval.best_metric} on validation" if results["best_step"] < results["num_steps"] else ""
    trained = f"the weights of step {results['best_step']:,} of {results['num_steps']:,}{chosen}"
    if results["best_step"] == 0:  # of protocol transfer without fine-tuning
        trained = f"a head{chosen}, on a frozen body, which took no step"
    protocol = run_files.find_protocol(results)
    lines = [
        f"- Network `{given['name']}`, protocol `{protocol}`, seed {results['seed']}, loss `{config.loss.name}`, "
        f"{config.train.precision}; {trained}."
    ]
    named = given["weights"] if "weights" in given else ""
    lines.append(f"- Training began from the weights `{named}`." if named else "- Training began from random weights.")
    if named and protocol == "transfer":
        lines += [f"- Of these weights, {name.replace('_', ' ')}: `{value}`" for name, value in results["weights"].items()]
    return lines


def _header(columns: Sequence[str]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns))]


def _row(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"
