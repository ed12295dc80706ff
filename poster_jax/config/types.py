"""The config tree as types: one protocol per section, with the keys of `defaults.DEFAULTS`; the meanings are there.

At run time a config is a ConfigDict of ml_collections, which types every entry as a union of seven types. `make` is the only
place that turns one into the other.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Self

import ml_collections

Range = tuple[float, float] | tuple[()]  # black and white, or what the weights were made with
Pair = tuple[int, int]
Blocks = tuple[tuple[int, int, int, bool, float], ...]  # (filters, kernel, pool, batch norm, dropout)
Dense = tuple[tuple[int, bool, float], ...]  # (units, batch norm, dropout)


class Section(Protocol):
    """A part of the config tree: attributes by name, and a mapping, so that `build(**config.model)` works."""

    def keys(self) -> Iterable[str]: ...
    def items(self) -> Iterable[tuple[str, Any]]: ...
    def __contains__(self, key: str, /) -> bool: ...
    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: Any, /) -> None: ...
    def to_dict(self) -> dict[str, Any]: ...


class Data(Section, Protocol):
    variant: str
    dir: str
    csv: str
    path_column: str
    label_column: str
    features: str
    id_column: str
    movie_column: str
    split_column: str
    label_separator: str
    num_posters: int
    seed: int
    cache_dir: str
    image_size: Pair
    genres: tuple[str, ...]
    num_genres: int
    genre_rank: str
    num_auxiliary: int
    min_movies: int
    encoding: str
    balance: str
    balance_limit: int
    balance_before_split: bool
    split: tuple[float, float, float]
    split_grouped: bool
    train_share: float
    path: str


class Model(Section, Protocol):
    """The keys of all networks; a config has those of its own network, see `networks.MODELS`."""

    name: str
    input_range: Range
    # cnn
    blocks: Blocks
    dense: Dense
    # bodies with pretrained weights
    weights: str
    weights_sha256: str
    width: float
    pooling: str
    style_from: str
    dropout: float
    bn_mode: str
    train_from: str


class Optim(Section, Protocol):
    name: str
    learning_rate: float
    schedule: str
    warmup_steps: int
    weight_decay: float
    head_factor: float
    accumulate_steps: int


class Loss(Section, Protocol):
    name: str
    label_smoothing: float
    positive_weights: bool
    focal_gamma: float
    asymmetric_gammas: tuple[float, float]
    asymmetric_clip: float


class Augment(Section, Protocol):
    flip: bool
    shift: float
    zoom: float
    brightness: float
    contrast: float
    saturation: float


class Train(Section, Protocol):
    batch_size: int
    num_epochs: float
    num_steps: int
    teacher: str
    teacher_share: float
    average_decay: float
    precision: str
    augment: Augment
    log_every_steps: int
    log_accuracy: bool
    tensorboard: bool


class Eval(Section, Protocol):
    batch_size: int
    every_steps: int
    every_epochs: float
    parts: tuple[str, ...]
    validation_steps: int
    best_metric: str
    mirror: bool
    bootstrap_samples: int
    baselines: bool


class Checkpoint(Section, Protocol):
    every_steps: int
    every_epochs: float


class Transfer(Section, Protocol):
    input_ranges: tuple[Range, ...]
    learning_rates: tuple[float, ...]
    start_rate: float
    tune: bool
    head_epochs: float
    cached: bool
    augment: bool
    bn_mode: str
    unfreeze_epochs: float


class Probe(Section, Protocol):
    inverse_penalties: tuple[float, ...]


class Search(Section, Protocol):
    num_trials: int
    num_folds: int
    learning_rate_exponent: tuple[float, float]
    dropout: tuple[float, float]
    filters: tuple[Pair, ...]
    units: tuple[Pair, ...]
    trials: tuple[tuple[Any, ...], ...]
    train_sample: int
    vectorize: str
    memory_mb: int
    halving: tuple[int, ...]


class Ablation(Section, Protocol):
    axes: tuple[tuple[Any, ...], ...]


class Reproduce(Section, Protocol):
    experiments: tuple[tuple[str, str, tuple[str, ...]], ...]
    overrides: tuple[str, ...]
    catalog: str


class Config(Section, Protocol):
    """The whole tree."""

    protocol: str
    seed: int
    num_seeds: int
    data: Data
    model: Model
    optim: Optim
    loss: Loss
    train: Train
    eval: Eval
    checkpoint: Checkpoint
    transfer: Transfer
    probe: Probe
    search: Search
    ablation: Ablation
    reproduce: Reproduce

    @property
    def is_locked(self) -> bool: ...
    def lock(self) -> Self: ...
    def copy_and_resolve_references(self) -> Self: ...


def make(tree: Mapping[str, Any]) -> Config:
    """A nested dict as a config; keys and values are taken as they are."""
    made: Any = ml_collections.ConfigDict(dict(tree))
    return made
