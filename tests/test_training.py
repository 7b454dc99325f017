"""Training: what it learns, what it reports, and a seeded run with known figures."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from cpnas_cli.clock import Deadline
from cpnas_cli.config import Config, load_config
from cpnas_cli.data import load_dataset
from cpnas_cli.device import describe_environment, open_device
from cpnas_cli.epoch import NetworkName, cosine
from cpnas_cli.errors import MaxTimeReached
from cpnas_cli.evaluation import evaluate_run
from cpnas_cli.records import open_run
from cpnas_cli.space import Genotype, draw_uniform
from cpnas_cli.training import Training

SMALL = (
    "data.num_train=200",
    "data.num_test=100",
    "network.num_channels=8",
    "train.num_epochs=8",
    "train.batch_size=20",
)


def train(
    path: Path,
    config: Config,
    genotype: Genotype,
    networks: tuple[NetworkName, ...] = ("child",),
    *,
    max_seconds: float | None = None,
    resume: bool = False,
) -> tuple[dict, list[dict]]:
    fabric = open_device("cpu")
    run = open_run(path, config, resume=resume, environment=describe_environment(fabric))
    training = Training(
        run,
        config,
        genotype,
        load_dataset(config.data),
        fabric=fabric,
        networks=networks,
        provenance={},
        deadline=Deadline(max_seconds),
    )
    return training.train(), run.history()


def test_both_networks_learn(tmp_path):
    config = load_config(overrides=SMALL)
    result, history = train(tmp_path / "run", config, draw_uniform(seed=0), ("child", "parent"))
    for name in ("child", "parent"):
        epochs = [record for record in history if record["network"] == name]
        assert epochs[-1]["loss_cross_entropy"] < 0.5 * epochs[0]["loss_cross_entropy"]
    assert result["accuracy_test"] > 0.4  # chance is 0.1
    assert result["accuracy_parent_test"] > result["accuracy_test"] - 0.05
    parent = [record for record in history if record["network"] == "parent"]
    assert all(record["loss_kernel"] == 0 == record["loss_compactness"] for record in parent)


def test_a_seeded_run_has_its_known_figures(tmp_path):
    """A change of these is a change of every result: data, order, initialization, arithmetic or loss."""
    config = load_config(overrides=[*SMALL, "train.num_epochs=2"])
    _, history = train(tmp_path / "run", config, draw_uniform(seed=0))
    # 5 %: processors round differently, and a sign turns a rounding into another weight or activation
    assert [record["loss_cross_entropy"] for record in history] == pytest.approx([2.1804, 1.8623], rel=5e-2)
    assert history[0]["loss_kernel"] == pytest.approx(0.016804, rel=1e-2)


def test_without_weights_the_terms_are_off(tmp_path):
    settings = [*SMALL, "train.num_epochs=1", "train.kernel_weight=0", "train.lambda_compactness=0"]
    _, history = train(tmp_path / "run", load_config(overrides=settings), draw_uniform(seed=0))
    assert history[0]["loss_kernel"] == history[0]["loss_compactness"] == 0
    assert history[0]["loss"] == history[0]["loss_cross_entropy"]


def test_the_published_weight_of_the_kernel_term_brings_latents_to_plus_minus_alpha(tmp_path):
    def last_kernel_loss(weight: float) -> float:
        settings = [*SMALL, f"train.kernel_weight={weight}"]
        _, history = train(tmp_path / str(weight), load_config(overrides=settings), draw_uniform(seed=0))
        return history[-1]["loss_kernel"] / weight

    assert last_kernel_loss(1.0) < 0.5 * last_kernel_loss(0.001)


def test_the_model_file_describes_itself(tmp_path):
    config = load_config(overrides=[*SMALL, "train.num_epochs=1"])
    result, _ = train(tmp_path / "run", config, draw_uniform(seed=0))
    with safe_open(tmp_path / "run/model.safetensors", framework="np") as file:
        header = json.loads(file.metadata()["cpnas"])
    assert header["schema"] == "cpnas.model/1"
    state = header["state"]
    assert state["classes"] == [str(digit) for digit in range(10)]
    assert state["precision"] == "binary"
    assert state["genotype"]["schema"] == "cpnas.genotype/1"
    assert len(state["mean"]) == len(state["std"]) == state["num_image_channels"] == 1
    evaluated = evaluate_run(tmp_path / "run", data_dir=None, device=open_device("cpu").device)
    assert evaluated["accuracy_test"] == result["accuracy_test"] == evaluated["recorded_accuracy_test"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("estimator", ["clipped", "polynomial"])
def test_every_optimizer_and_estimator_trains(tmp_path, optimizer, estimator):
    settings = [*SMALL, "train.num_epochs=2", f"train.optimizer={optimizer}", f"network.estimator={estimator}"]
    settings += ["train.learning_rate=0.05"] if optimizer == "sgd" else []
    _, history = train(tmp_path / "run", load_config(overrides=settings), draw_uniform(seed=0))
    assert history[1]["loss_cross_entropy"] < history[0]["loss_cross_entropy"]


@pytest.mark.slow
def test_a_folder_of_images_from_search_to_evaluation(cpnas, tmp_path, image_folder):
    options = ["--set", "data.image_size=16", "--set", "network.num_channels=4", "--set", "network.num_cells=3"]
    options += ["--set", "search.batch_size=6", "--set", "train.num_epochs=8", "--set", "train.batch_size=6"]
    searched = cpnas("search", "--preset", "folder", "--data-dir", image_folder, *options, "--out", "s")
    assert searched.returncode == 0, searched.stderr
    trained = cpnas("train", "s/genotype.json", "--out", "t", "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["classes"] == ["dark", "light"]
    assert result["num_test_images"] == 8
    evaluated = cpnas("evaluate", "t", "--json")
    assert json.loads(evaluated.stdout)["accuracy_test"] == result["accuracy_test"]
    (image_folder / "test" / "dark").rename(image_folder / "test" / "bleak")
    (image_folder / "train" / "dark").rename(image_folder / "train" / "bleak")
    renamed = cpnas("evaluate", "t")
    assert renamed.returncode == 1
    assert "bleak" in renamed.stderr


def test_learning_rates():
    assert cosine(0.1, 0.0, 0.0) == pytest.approx(0.1)
    assert cosine(0.1, 0.02, 0.5) == pytest.approx(0.06)
    assert cosine(0.1, 0.02, 1.0) == pytest.approx(0.02)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_on_colour_images_resumes_to_the_same_bits(tmp_path, optimizer):
    """With several input channels a filter's memory layout differs from its logical order."""
    config = load_config(
        overrides=[*SMALL, "train.num_epochs=3", "data.num_channels=3", f"train.optimizer={optimizer}"]
    )
    train(tmp_path / "whole", config, draw_uniform(seed=0), ("child", "parent"))
    stops = 0
    while True:
        try:
            train(tmp_path / "run", config, draw_uniform(seed=0), ("child", "parent"), max_seconds=0, resume=stops > 0)
            break
        except MaxTimeReached:
            stops += 1
    assert stops == 5  # after every epoch of both but the last
    for name in ("model.safetensors", "parent.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
