"""What the Hugging Face hub reads of a model card: the head, parsed as YAML, has the run's own numbers."""

import importlib.util
import json
import pathlib
from typing import Any

import pytest
import yaml

from poster_jax.export import model_card
from tests.helpers.made_run import cnn_config, make_workdir


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads((make_workdir(tmp_path_factory.mktemp("hub") / "run", cnn_config()) / "results.json").read_text())


def card_of(results: dict[str, Any], **about: str) -> str:
    config = cnn_config()
    config.data.image_size = (40, 32)
    return model_card.write(config, results, thresholds=[0.5] * 3, use=["As it is."], **about)


def head_of(card: str) -> dict[str, Any]:
    empty, head, body = card.split("---\n", 2)
    assert empty == "" and body.startswith("\n# ")
    return yaml.safe_load(head)


def test_the_head_has_the_task_and_the_scores_with_their_floors(results: dict[str, Any]) -> None:
    head = head_of(card_of(results))
    assert head["pipeline_tag"] == "image-classification" and head["library_name"] == "poster_jax"
    assert head["license"] == "unknown" and {"jax", "movie-posters"} <= {*head["tags"]}
    [model] = head["model-index"]
    [measured] = model["results"]
    assert model["name"] == results["title"] and measured["dataset"]["name"] == results["data"]["name"]
    entries = results["splits"]["test"]["metrics"]
    assert [metric["type"] for metric in measured["metrics"]] == head["metrics"] == list(model_card.HUB_METRICS)
    for metric in measured["metrics"]:
        entry = entries[metric["type"]]
        assert metric["value"] == entry["value"] and metric["name"].endswith(f", floor {entry['best_floor']:.3f}")


def test_a_licence_that_is_given_and_a_score_that_is_not_defined(results: dict[str, Any]) -> None:
    assert head_of(card_of(results, licence="Under the MIT licence."))["license"] == "other"
    changed = json.loads(json.dumps(results))
    changed["title"] = 'a title: with "quotes", # and \N{FILM PROJECTOR}\n--- a line'
    changed["splits"]["test"]["metrics"]["top1_accuracy"]["value"] = None
    head = head_of(card_of(changed))
    assert head["model-index"][0]["name"] == changed["title"]
    assert "top1_accuracy" not in head["metrics"] and len(head["model-index"][0]["results"][0]["metrics"]) == 2


def test_the_hubs_own_reader_takes_it(results: dict[str, Any], tmp_path: pathlib.Path) -> None:
    """By what the hub's package does where it is installed: it loads YAML, and makes an entry of every metric."""
    card = card_of(results)
    if importlib.util.find_spec("huggingface_hub"):
        from huggingface_hub import ModelCard

        (tmp_path / "README.md").write_text(card)
        data = ModelCard.load(tmp_path / "README.md").data
        assert data.pipeline_tag == "image-classification" and len(data.eval_results) == len(model_card.HUB_METRICS)
    assert all({"task", "dataset", "metrics"} <= one.keys() for one in head_of(card)["model-index"][0]["results"])
