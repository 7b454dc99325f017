"""Images that validate: what a training says of them after every epoch, and what is kept of the best one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import DOCUMENT, GENOTYPE, error_of, invoke
from safetensors.torch import load_file
from test_training import train

from cpnas_cli.cli.views.trainings import TrainingView
from cpnas_cli.data.dataset import ImageSet, load_dataset
from cpnas_cli.deploy.export import export_run
from cpnas_cli.deploy.packed_file import load_packed
from cpnas_cli.errors import MaxTimeReached
from cpnas_cli.networks.network import Network
from cpnas_cli.settings import Config, load_config
from cpnas_cli.training import network_training
from cpnas_cli.training.evaluation import pipeline_of
from cpnas_cli.training.trained_network import read_trained_file
from cpnas_cli.training.validation import Validated

TINY = (
    "data.num_train=80",
    "data.num_test=20",
    "network.num_channels=4",
    "network.stem_multiplier=1",
    "train.batch_size=20",
    "train.num_epochs=3",
)
WATCHED = (*TINY, "data.validation_fraction=0.25")
OPTIONS = [word for setting in WATCHED for word in ("--set", setting)]


def config_of(*more: str) -> Config:
    return load_config(overrides=[*WATCHED, *more])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """A training with its Parent: folder, result, history; read only."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    return folder, *train(folder, config_of(), GENOTYPE, ("child", "parent"))


def answers(file: Path, images: ImageSet) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of the network in a file, by numpy."""
    trained = read_trained_file(file)
    with torch.no_grad():
        scores = trained.network(pipeline_of(trained).normalize(images.images)).logits.double().numpy()
    labels = images.labels.numpy()
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(len(labels)), labels].mean()
    return float((scores.argmax(axis=1) == labels).mean()), float(loss)


def validation_images() -> ImageSet:
    images = load_dataset(config_of().data).validation
    assert images is not None
    return images


def test_every_epoch_says_how_the_network_does(watched: Any) -> None:
    folder, result, history = watched
    images = validation_images()
    assert [record["network"] for record in history] == ["child"] * 3 + ["parent"] * 3
    for record, name in ((history[2], "model"), (history[5], "parent")):
        accuracy, loss = answers(folder / f"{name}.safetensors", images)
        assert record["validation_accuracy"] == accuracy
        assert record["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert result["num_train_images"] == 60
    last = {"accuracy": history[2]["validation_accuracy"], "loss": history[2]["validation_loss"]}
    assert {key: value for key, value in result["validation"].items() if key != "best"} == {"num_images": 20, **last}


def test_the_best_epoch_is_kept_beside_the_last(watched: Any) -> None:
    folder, result, history = watched
    child = history[:3]
    first = max(range(3), key=lambda e: (child[e]["validation_accuracy"], -child[e]["validation_loss"], -e))
    best = result["validation"]["best"]
    assert best == {
        "epoch": first,
        "accuracy": child[first]["validation_accuracy"],
        "loss": child[first]["validation_loss"],
        "file": "best.safetensors",
    }
    accuracy, loss = answers(folder / "best.safetensors", validation_images())
    assert (accuracy, loss) == (best["accuracy"], pytest.approx(best["loss"], rel=1e-5))


def weights(file: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("more", [(), ("train.ema_decay=0.9", "train.num_epochs=2")])
def test_to_be_watched_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Sequence[str]) -> None:
    """The same images, none of them looked at after an epoch; also with a moving average, which is looked at then."""
    config = config_of(*more)
    _, history = train(tmp_path / "watched", config, GENOTYPE)
    whole = load_dataset(config.data)
    monkeypatch.setattr("test_training.load_dataset", lambda _: replace(whole, validation=None))
    result, unwatched = train(tmp_path / "unwatched", config, GENOTYPE)
    new = ("validation_accuracy", "validation_loss", "seconds")
    assert [{k: v for k, v in record.items() if k not in new} for record in history] == [
        {k: v for k, v in record.items() if k != "seconds"} for record in unwatched
    ]
    assert weights(tmp_path / "watched/model.safetensors") == weights(tmp_path / "unwatched/model.safetensors")
    assert "validation" not in result
    assert not (tmp_path / "unwatched/best.safetensors").exists()
    if more:  # what is saved is the average, and so is what is validated
        assert (
            history[-1]["validation_accuracy"]
            == answers(tmp_path / "watched/model.safetensors", validation_images())[0]
        )


def test_the_best_epoch_survives_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after every epoch; the second of four is best, and a later one is as accurate with a higher loss."""
    seen: list[dict[str, bytes]] = []
    scripted = [(0.2, 1.0), (0.6, 0.7), (0.6, 0.8), (0.4, 0.1)]

    def validate(network: Network, *_: object, epoch: int, rank: int) -> Validated:
        seen.append({name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()})
        return Validated(epoch, *scripted[epoch])

    monkeypatch.setattr(network_training, "validate_trained", validate)
    config, stops, result = config_of("train.num_epochs=4"), 0, {}
    for _ in range(4):
        try:
            result, _ = train(tmp_path / "run", config, GENOTYPE, max_seconds=0, resume=stops > 0)
        except MaxTimeReached:
            stops += 1
            assert not (tmp_path / "run/best.safetensors").exists()
    assert (stops, len(seen)) == (3, 4)
    assert weights(tmp_path / "run/best.safetensors") == seen[1]
    assert weights(tmp_path / "run/model.safetensors") == seen[3]
    assert result["validation"] == {
        "num_images": 20,
        "accuracy": 0.4,
        "loss": 0.1,
        "best": {"epoch": 1, "accuracy": 0.6, "loss": 0.7, "file": "best.safetensors"},
    }


def test_a_training_of_an_older_version_goes_on_unwatched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder of images has a val/ beside test/, which was not looked at; the same weights in the end."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 3), ("val", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{index}.png")
    (tmp_path / "g.json").write_text(json.dumps(DOCUMENT))
    options = ["--data-dir", "images", "--set", "data.name=folder", "--set", "network.num_channels=4"]
    options += ["--set", "train.num_epochs=2", "--set", "train.batch_size=10", "--set", "network.stem_multiplier=1"]
    (tmp_path / "images/val").rename(tmp_path / "kept")
    assert invoke("train", "g.json", *options, "--out", "whole").exit_code == 0
    assert invoke("train", "g.json", *options, "--max-time", "0s", "--out", "run").exit_code == 75
    (tmp_path / "kept").rename(tmp_path / "images/val")
    answer = invoke("train", "--out", "run", "--resume")
    assert answer.exit_code == 0, answer.output
    assert "this run has begun without images that validate, and goes on without" in answer.stderr
    for name in ("dataset.json", "config.yaml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert weights(tmp_path / "run/model.safetensors") == weights(tmp_path / "whole/model.safetensors")
    assert "validation" not in json.loads((tmp_path / "run/result.json").read_text())
    # and one that is begun now is watched
    answer = invoke("train", "g.json", *options, "--out", "new")
    assert answer.exit_code == 0, answer.output
    assert "  validation " in answer.stderr
    assert "best by validation" in answer.stdout
    assert "best.safetensors" in answer.stdout
    assert weights(tmp_path / "new/model.safetensors") == weights(tmp_path / "whole/model.safetensors")


# ---------------------------------------------------------------- the best network used


def test_the_best_network_is_evaluated_and_exported(watched: Any, tmp_path: Path) -> None:
    folder, result, _ = watched
    file = folder / "best.safetensors"
    answer = invoke("evaluate", file, "--json")
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    test = load_dataset(config_of().data).test
    assert document["accuracy_test"] == answers(file, test)[0]
    assert (document["run"], document["recorded_accuracy_test"]) == (str(file), None)
    last = json.loads(invoke("evaluate", folder / "model.safetensors", "--json").stdout)
    assert last["accuracy_test"] == last["recorded_accuracy_test"] == result["accuracy_test"]
    assert json.loads(invoke("evaluate", folder, "--json").stdout)["accuracy_test"] == result["accuracy_test"]
    assert export_run(file, format_="packed").file == folder / "best.packed.safetensors"
    assert not (folder / "model.packed.safetensors").exists()
    assert export_run(folder / "model.safetensors", format_="packed").file == folder / "model.packed.safetensors"
    assert load_packed(folder / "best.packed.safetensors").mean == load_packed(folder / "model.packed.safetensors").mean
    message = error_of(invoke("export", folder, "--out", file), code=2)
    assert "would replace the trained network itself" in message
    assert "holds a child, no parent" in error_of(invoke("export", file, "--network", "parent"), code=1)


def test_the_view_shows_the_best_epoch_of_the_network_that_was_asked_for() -> None:
    view = TrainingView(config_of(), ("child", "parent"), quiet=True)
    losses = dict.fromkeys(("loss", "loss_cross_entropy", "loss_kernel", "loss_compactness", "accuracy_train"), 0.5)
    common = {"event": "epoch", "learning_rate": 0.1, "seconds": 1.0, **losses}

    def epoch(network: str, number: int, accuracy: float) -> dict[str, Any]:
        seen = {"validation_accuracy": accuracy, "validation_loss": 1.0}
        return {**common, "network": network, "epoch": number, **seen}

    for record in (epoch("child", 0, 0.25), epoch("child", 1, 0.75), epoch("child", 2, 0.5), epoch("parent", 0, 1.0)):
        view.notify(record)
    view.console.quiet, view.console.width = False, 120
    with view.console.capture() as captured:
        view.console.print(view.render())
    text = captured.get()
    assert "best epoch by validation so far: 2, 75.00 %" in text
    assert "validation" in text.splitlines()[3]


def test_the_view_has_a_column_for_each_term_of_the_loss_that_is_switched_on() -> None:
    """A taught Child of the preset `folder` learns from its teacher alone: the loss is that term."""
    terms = {"loss_cross_entropy": 0.0, "loss_kernel": 0.0, "loss_compactness": 0.0, "loss_teacher": 0.375}
    record = {"event": "epoch", "network": "child", "epoch": 0, "loss": 0.375, **terms, "accuracy_train": 0.5}
    config = config_of("train.kernel_weight=0", "train.lambda_compactness=0", "train.teacher_weight=1")
    view = TrainingView(config, ("child", "parent"), quiet=True)
    view.notify({**record, "learning_rate": 0.1, "seconds": 1.0})
    view.console.quiet, view.console.width = False, 120
    with view.console.capture() as captured:
        view.console.print(view.render())
    heads, row = (captured.get().splitlines()[line] for line in (2, 4))
    assert heads.replace("┃", " ").split() == [
        "network",
        "epoch",
        "loss",
        "cross-entropy",
        "teacher",
        "accuracy",
        "(train)",
        "rate",
    ]
    assert row.replace("│", " ").split()[2:5] == ["0.3750", "0.0000", "0.3750"]


@pytest.mark.slow
def test_a_killed_watched_training_ends_the_same(tmp_path: Path) -> None:
    import signal

    from conftest import run_cpnas
    from killing import kill, start, wait_for_lines, without_seconds

    (tmp_path / "g.json").write_text(json.dumps(DOCUMENT))
    words = ["train", "g.json", *OPTIONS, "--set", "train.num_epochs=5"]
    assert run_cpnas(tmp_path, *words, "--out", "whole").returncode == 0
    for lines in (1, 3):
        process = start(tmp_path, *words, "--out", "run", *(["--resume"] if (tmp_path / "run").exists() else []))
        wait_for_lines(process, tmp_path / "run/history.jsonl", lines)
        kill(process, signal.SIGKILL)
    assert run_cpnas(tmp_path, "train", "--out", "run", "--resume").returncode == 0
    for name in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert without_seconds(tmp_path / "run/history.jsonl") == without_seconds(tmp_path / "whole/history.jsonl")
    one, two = (json.loads((tmp_path / name / "result.json").read_text())["validation"] for name in ("run", "whole"))
    assert one == two
