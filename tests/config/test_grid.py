"""Axes of an ablation: which cells they make, in which order, and what is refused before anything starts."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from poster_jax import config as config_lib
from poster_jax import errors, models
from poster_jax.config import grid
from poster_jax.models import layers

ABLATION = str(pathlib.Path(__file__).resolve().parents[2] / "configs/ablation_onehot.py")
RATE = ("rate", "optim.learning_rate", (1e-4, 1))
BATCH = ("batch", "train.batch_size", (16, 64))


def load(*axes: Any, arg: str = "smoke", **more: Any) -> config_lib.Config:
    """As from the command line, where a grid is text."""
    given = [("ablation.axes", repr(axes))] if axes else []
    return config_lib.load(f"{ABLATION}:{arg}", [*given, *((key, str(value)) for key, value in more.items())])


def cells(config: config_lib.Config) -> list[grid.Cell]:
    return grid.cells(config_lib.flatten(config))


def test_every_combination_is_a_cell_and_the_last_axis_is_the_fastest() -> None:
    config = load(RATE, BATCH)
    found = cells(config)
    assert [tuple(cell.settings.values()) for cell in found] == [
        ("0.0001", "16"), ("0.0001", "64"), ("1", "16"), ("1", "64")
    ]  # fmt: skip
    assert [tuple(cell.values.values()) for cell in found] == [(1e-4, 16), (1e-4, 64), (1.0, 16), (1.0, 64)]
    assert found[2].title == "cell 3 (rate 1, batch 16)" and found[2].folder == "03_1_16"
    derived = config_lib.derive(config, found[3].values)
    assert (derived.optim.learning_rate, derived.train.batch_size) == (1.0, 64)
    assert config.optim.learning_rate == 1e-4, "the base stays as it is"


def test_a_row_s_entry_is_changed_in_whatever_network_another_axis_chose() -> None:
    small, large = ((2, 3, 2, False, 0.1),), ((4, 3, 1, False, 0.0), (5, 3, 2, False, 0.2))
    networks = ("net", ("model.blocks", "model.dense"), (("small", small, ((3, False, 0.5),)), ("large", large, ())))
    dropout = ("drop", ("model.blocks.dropout", "model.dense.dropout"), (("kept",), ("none", 0.0, 0)))
    for axes in ((networks, dropout), (dropout, networks)):
        found = {tuple(sorted(cell.settings.values())): cell.values for cell in cells(load(*axes))}
        assert found["kept", "small"]["model.blocks"] == small
        assert found["none", "small"] == {"model.blocks": ((2, 3, 2, False, 0.0),), "model.dense": ((3, False, 0.0),)}
        assert found["large", "none"] == {
            "model.blocks": ((4, 3, 1, False, 0.0), (5, 3, 2, False, 0.0)),
            "model.dense": (),
        }
    norm = cells(load(("norm", "model.blocks.batch_norm", (False, True))))
    assert [row[3] for row in norm[1].values["model.blocks"]] == [True] * 4


def test_the_default_grid_is_what_the_paper_changed_all_at_once() -> None:
    config = config_lib.load(ABLATION)
    found = cells(config)
    assert [len(cells(config_lib.load(f"{ABLATION}:{arg}"))) for arg in ("", "rates", "augment", "rates,augment")] == [
        12, 36, 24, 72
    ]  # fmt: skip
    assert config_lib.load(f"{ABLATION}:seeds").num_seeds == 3
    counts = {}
    for cell in found:
        derived = config_lib.derive(config, cell.values)
        ways = {"softmax integers": ("first", "softmax"), "softmax one-hot": ("one_hot", "softmax")}
        way = ways.get(cell.settings["labels"], ("one_hot", "sigmoid"))
        assert (derived.data.encoding, derived.loss.name) == way
        dropouts = [row[-1] for row in (*derived.model.blocks, *derived.model.dense)]
        assert any(dropouts) == (cell.settings["dropout"] == "kept")
        model: Any = models.build(**derived.model, num_genres=6, precision="float32")
        image = jnp.zeros((1, *derived.data.image_size, 3))
        shapes: Any = jax.eval_shape(lambda key, model=model, image=image: model.init(key, image, False), jax.random.key(0))
        counts[cell.settings["network"]] = layers.count_values(shapes["params"])
    # The fifth set of the paper's Table 3, and its Table 6.
    assert counts == {"table 2": 2_083_396, "table 6": 6_295_558}


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ("()", "is empty"),
        ("(('rate', 'optim.learning_rate', (1e-4, 1e-3)))", "holds 'rate', which is not an axis"),
        ("0.1", "of type tuple"),
        ("((1, 'optim.learning_rate', (1e-4,)),)", "which is not an axis"),
        ("(('rate', 'optim.learning_rat', (1e-4,)),)", 'did you mean "optim.learning_rate"'),
        ("(('drop', 'model.blocks.droput', (0.1,)),)", 'did you mean "model.blocks.dropout"'),
        ("(('drop', 'model.dense.filters', (1,)),)", "which the config does not have"),
        ("(('rate', (), ()),)", "has no key"),
        ("(('rate', 'optim.learning_rate', ()),)", "has no values"),
        ("(('rate', 'optim.learning_rate', 'many'),)", "has no values"),
        ("(('rate', 'optim.learning_rate', (1e-4, 'high')),)", "of type float"),
        ("(('batch', 'train.batch_size', (16, True)),)", "of type int"),
        ("(('drop', 'model.blocks.dropout', ('none',)),)", "of type float"),
        ("(('rate', 'optim.learning_rate', (1e-4, 0.0001)),)", "twice"),
        ("(('rate', ('optim.learning_rate',), (('a', 1), ('b', 1.0))),)", "has the values (1.0,) twice"),
        ("(('rate', ('optim.learning_rate',), (('a', 1), ('a', 2.0))),)", "has the label 'a' twice"),
        ("(('a', 'optim.learning_rate', (1.0,)), ('a', 'train.batch_size', (16,)))", "the name 'a' twice"),
        ("(('a', 'optim.learning_rate', (1.0,)), ('b', 'optim.learning_rate', (2.0,)))", "the key 'optim.learning_rate' twice"),
        ("(('n', ('train.batch_size', 'eval.batch_size'), (('a', 16),)),)", "a label and 2 values"),
        ("(('n', ('train.batch_size', 'eval.batch_size'), ((16, 16, 16),)),)", "a label and 2 values"),
        ("(('n', ('train.batch_size', 'eval.batch_size'), ((),)),)", "a label and 2 values"),
        ("(('n', 'model.blocks', (((4, 3),),)),)", "each row is (filters, kernel, pool, batch norm, dropout)"),
        ("(('n', 'model.dense', ((4,),)),)", "each row is (units, batch norm, dropout)"),
        ("(('seed', 'seed', (1, 2)),)", "use --config.num_seeds"),
        ("(('folds', 'search.num_folds', (3, 4)),)", "one network of a single run"),
        ("(('rate', 'optim.learning_rate', (1e-4, -1.0)),)", "cell 2 (rate -1): config.optim.learning_rate=-1.0 must be above"),
        ("(('way', 'data.encoding', ('first', 'multi_hot')),)", "cell 2 (way multi_hot): config.loss.name=softmax needs one"),
    ],
)
def test_wrong_axes_are_one_sentence(axes: str, says: str) -> None:
    with pytest.raises(errors.UserError) as raised:
        config_lib.load(f"{ABLATION}:smoke", [("ablation.axes", axes)])
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_cells_that_come_out_the_same_are_refused() -> None:
    kept = ("drop", ("model.blocks.dropout",), (("kept",), ("none", 0.0)))
    plain = "((4, 3, 2, False, 0.0),)"
    assert len(cells(load(kept))) == 2
    with pytest.raises(errors.UserError, match=r"cell 1 \(drop kept\) and cell 2 \(drop none\) are the same"):
        load(kept, **{"model.blocks": plain})
