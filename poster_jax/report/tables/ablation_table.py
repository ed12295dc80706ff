"""The tables of an ablation."""

from collections.abc import Mapping

from poster_jax.report.tables import cells


def ablation_table(results: Mapping) -> str:
    """The table of an ablation's results.json: every cell's test metrics beside their floors, then what each setting does.

    results: {"title", "data": {"name"}, "ablation": `ablation_cells.summarise`}. Ends in a newline.
    """
    ablation = results["ablation"]
    lines = [
        results["title"],
        f"data: {results['data']['name']}; {cells.counted(len(ablation['cells']), 'cell')} on the same {_rows_line(ablation)}",
        f"weights: the best {ablation['best_metric']} on validation, of {cells.counted(len(ablation['seeds']), 'seed')}",
        ablation_caption(ablation),
        "",
        *cells.block(ablation_columns(ablation), num_fixed=1 + len(ablation["axes"])),
        *ablation_notes(ablation),
        "",
        "mean over the cells that have the setting (floors as above)",
        "",
        *cells.block(effect_columns(ablation), num_fixed=2),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def ablation_caption(ablation: Mapping) -> str:
    """What the values of the table are."""
    spread = "95 % interval, bootstrap over movies"
    if len(ablation["seeds"]) > 1:
        spread = f"range over {cells.counted(len(ablation['seeds']), 'seed')}, which are averaged"
    return f"{ablation['part']} value [{spread}] / floor, the best constant answer on the same rows"


def ablation_columns(ablation: Mapping) -> list[tuple[str, cells.Column]]:
    """(header, cells) of the table of cells, the axes in front."""
    table_rows = ablation["cells"]
    columns = [("cell", [str(row["cell"]) for row in table_rows])]
    columns += [
        (axis["name"], [cells.shortened(row["settings"][axis["name"]]) for row in table_rows]) for axis in ablation["axes"]
    ]
    for name in table_rows[0]["metrics"]:
        entries = [row["metrics"][name] for row in table_rows]
        values = [f"{cells.value(entry)} / {cells.number(entry['best_floor'])}" for entry in entries]
        columns.append((f"{name} /floor", values))
    return columns


def effect_columns(ablation: Mapping) -> list[tuple[str, cells.Column]]:
    """(header, cells) of the means over all cells with a setting, axis by axis."""
    effects = ablation["effects"]
    columns = [
        ("axis", [row["axis"] for row in effects]),
        ("setting", [cells.shortened(row["setting"]) for row in effects]),
    ]
    columns.append(("cells", [f"{row['num_measured']} of {row['num_cells']}" for row in effects]))
    return columns + [(name, [cells.number(row["means"][name]) for row in effects]) for name in effects[0]["means"]]


def ablation_notes(ablation: Mapping) -> list[str]:
    """The cells that diverged, one line each."""
    return [
        f"cell {row['cell']} diverged from seed {seed['seed']}: scores that are not finite at step {seed['diverged_at']}"
        for row in ablation["cells"]
        for seed in row["seeds"]
        if seed["diverged_at"] is not None
    ]


def _rows_line(ablation: Mapping) -> str:
    measured = [row["num_rows"] for row in ablation["cells"] if row["num_rows"]]
    train = sorted({rows["train"] for rows in measured})
    num_train = f"{train[0]:,}" if len(train) == 1 else f"{train[0]:,} to {train[-1]:,}"
    return f"{measured[0]['validation']:,} validation and {measured[0]['test']:,} test rows; trained on {num_train}"
