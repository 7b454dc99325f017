"""The recipe "add a data set", carried out: from search to prediction on images that the recipe makes up."""

import json
from pathlib import Path

import pytest
from applied_recipe import Run, apply_recipe, check_prediction, runner_of
from conftest import PUBLISHED_RULES

TINY = (
    *PUBLISHED_RULES,
    "data.name=stripes",
    "data.image_size=16",
    "network.num_channels=4",
    "search.num_channels=null",
    "network.stem_multiplier=1",
    "search.batch_size=25",
    "search.num_calibration_batches=1",
    "train.num_epochs=2",
    "train.batch_size=20",
)
OPTIONS = [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    apply_recipe("Add a data set", table="DATASETS", folder=tmp_path)
    return runner_of(tmp_path)


@pytest.mark.slow
def test_a_data_set_of_one_file_and_one_line_goes_from_search_to_prediction(run: Run, tmp_path: Path) -> None:
    run("search", *OPTIONS, "--out", "search", "--json")
    dataset = json.loads((tmp_path / "search/dataset.json").read_text())
    assert dataset["classes"] == ["across", "down"]
    assert (dataset["num_train_images"], dataset["num_test_images"]) == (120, 40)
    # a mean of 74.5 of the noise, and 100 more on every fourth line
    assert dataset["mean"] == [pytest.approx((74.5 + 25) / 255, abs=0.01)]
    run("train", "search", *OPTIONS, "--out", "training")
    result = json.loads((tmp_path / "training/result.json").read_text())
    assert result["accuracy_test"] > 0.8  # stripes are easy
    check_prediction(run, tmp_path)


def test_its_shapes_are_known_and_its_name_is_a_choice(run: Run, tmp_path: Path) -> None:
    run("search", "--set", "data.name=stripes", "--strategy", "random", "--out", "search", "--json")
    estimated = json.loads(run("estimate-efficiency", "search/genotype.json", "--json").stdout)
    assert (estimated["num_image_channels"], estimated["num_classes"]) == (1, 2)
    refused = run("search", "--set", "data.name=strips", code=2)
    assert "'stripes'" in refused.stderr
