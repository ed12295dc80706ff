"""What a config would do, before anything starts: the data and what it can show, steps, bytes, and the time of the whole.

Shapes suffice: no weights are read, nothing is compiled and nothing is built. The data comes first, without jax.
"""

import pathlib
from collections.abc import Callable, Iterator

from poster_jax import config as config_lib
from poster_jax import errors
from poster_jax.data import audit, dataset, places, preview
from poster_jax.data.source import Source
from poster_jax.runtime import alive, storage

Select = Callable[[config_lib.Data], dataset.Dataset]


def describe(config: config_lib.Config, split_file: str = "") -> Iterator[str]:
    """Lines of text, each as soon as it is known. Reads the catalog; writes nothing but `split_file`, where one is named."""
    yield f"plan of {config.protocol} on {config_lib.SOURCES[config.data.variant].name}; nothing is started"
    if config.protocol == "reproduce":
        if split_file:
            raise errors.UserError("--write-split is of one split, and a reproduction has several: plan an experiment.")
        yield from _reproduction(config)
        return
    open_source = _make_opener()
    source = open_source(config.data)
    select = _make_select(open_source)
    first = config if config.protocol != "ablation" else _first_cell(config)
    rows = select(first.data)
    yield from rows.describe()
    if config.data.variant in places.READERS:
        paths = audit.read_paths(config.data.variant, places.find_place(config.data))
        yield from audit.lines(source, rows, paths)
        if split_file:
            yield audit.write_split(pathlib.Path(split_file), source, rows, paths)
    elif split_file:
        raise errors.UserError("--write-split is for posters in files: name some with --config.data.csv or --config.data.dir.")
    yield from _work(config, source, rows, select)


def _first_cell(config: config_lib.Config) -> config_lib.Config:
    from poster_jax.protocols import ablation

    return ablation.make_networks(config, pathlib.Path())[0].config


def _make_opener() -> Callable[[config_lib.Data], Source]:
    """A function from `config.data` to its source, which reads each place once."""
    known: dict[tuple, Source] = {}

    def open_source(data: config_lib.Data) -> Source:
        key = (data.variant, places.find_place(data), data.num_posters, data.seed if data.variant == "synthetic" else 0)
        if key not in known:
            if data.variant == "packed":
                from poster_jax.data import resident

                known[key] = resident.load_packed(storage.as_path(data.dir), data.image_size)
            else:
                known[key] = preview.preview_source(data)
        return known[key]

    return open_source


def _make_select(open_source: Callable[[config_lib.Data], Source]) -> Select:
    """`dataset.select` of `config.data`, done once for equal ones."""
    known: dict[str, dataset.Dataset] = {}

    def select(data: config_lib.Data) -> dataset.Dataset:
        key = repr(sorted(data.to_dict().items()))
        if key not in known:
            known[key] = dataset.select(open_source(data), data)
        return known[key]

    return select


def _work(config: config_lib.Config, source: Source, rows: dataset.Dataset, select: Select) -> Iterator[str]:
    """Steps, bytes and time of everything but a reproduction."""
    with alive.doing("loading jax"):
        from poster_jax.data import input_pipeline, resident
        from poster_jax.protocols import costs

    with alive.doing("tracing the network"):
        cost = costs.find(config, select)
    yield from cost.lines
    path, why = input_pipeline.choose_path(config.data.path, len(source.table), config.data.image_size)
    packed_mb = resident.num_bytes(len(source.table), config.data.image_size) / 2**20
    used_mb = resident.num_bytes(len(rows.poster), config.data.image_size) / 2**20 if path == "resident" else 0
    yield f"input: {path}, because {why}"
    yield f"disk: {packed_mb:.0f} MB packed posters, {cost.disk_mb:.0f} MB weights and checkpoints"
    yield f"device: {cost.device_mb:.0f} MB state and gradients, {used_mb:.0f} MB posters"
    yield costs.time_line([cost])


def _reproduction(config: config_lib.Config) -> Iterator[str]:
    """A line for each experiment, and the time of the whole."""
    from poster_jax.protocols import costs, reproduce

    select = _make_select(_make_opener())
    found = []
    for name, experiment in reproduce.load_experiments(config).items():
        cost = costs.find(experiment, select)
        found.append(cost)
        yield f"{name}: {cost.summary}"
    yield f"disk: {sum(cost.disk_mb for cost in found):.0f} MB weights and checkpoints"
    yield costs.time_line(found)
