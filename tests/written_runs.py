"""Run folders written by hand, as a search or a training leaves them: nothing is trained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from command_line import CELL, DOCUMENT, GENOTYPE
from PIL import Image

from cpnas_cli.networks.network import build_network
from cpnas_cli.search_space import EDGES, OPERATIONS
from cpnas_cli.settings import Config, change_config, config_yaml, load_config
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork, write_trained

Record = dict[str, Any]

KINDS = ("normal", "reduce")

SCRIPT = "<script>alert(1)</script>"
EVIL = ("<img src=x onerror=alert(2)>", '"><b onclick="alert(3)">', "red\x1b[31m \u202egnp.exe & co\u200b")
"""Names of classes that are legal names of folders: markup, an end of an attribute, a terminal's command and a
turned text."""


def write(file: Path, content: str | Mapping[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def tiny_config(**values: Any) -> Config:
    settings = {"network.num_channels": 4, "network.stem_multiplier": 1, "train.num_epochs": 3}
    return change_config(load_config("digits"), {**settings, **values}, stored=True)


def dataset_document(classes: Sequence[str], *, num_test: int = 20) -> Record:
    return {
        "schema": "cpnas.dataset/1",
        "classes": list(classes),
        "num_train_images": 40,
        "num_test_images": num_test,
        "image_shape": [1, 8, 8],
        "mean": [0.3],
        "std": [0.4],
        "hash": "0123",
    }


def environment_document(*words: str) -> Record:
    return {
        "schema": "cpnas.environment/1",
        "cpnas": "9.9",
        "commit": None,
        "python": "3.11",
        "libraries": {"torch": "2.11", "onnx": None},
        "platform": "a machine",
        "device": "cpu",
        "device_name": "a processor",
        "num_threads": 1,
        "num_processes": 1,
        "command": ["/somewhere/cpnas_cli/__main__.py", *words],
    }


# ---------------------------------------------------------------- a search


def death_order(edge: int) -> list[str]:
    """Of the edge with this index: its operations in the order in which they are abandoned; the last one stays."""
    return [OPERATIONS[(edge + place) % len(OPERATIONS)] for place in range(len(OPERATIONS))]


def search_history(*, num_passes: int = 1, accuracy: Any = lambda number: 0.25 + number / 1000) -> list[Record]:
    """K draws a pass, K from 8 down to 2; A_C of draw number n is `accuracy(n)`, A_P a tenth more."""
    history: list[Record] = []
    number = 0
    for num_candidates in range(len(OPERATIONS), 1, -1):
        for pass_ in range(num_passes):
            for draw in range(num_candidates):
                number += 1
                child = accuracy(number)
                history.append(
                    {
                        "event": "draw",
                        "num_candidates": num_candidates,
                        "pass": pass_,
                        "draw": draw,
                        "normal": list(CELL),
                        "reduce": list(CELL),
                        "accuracy_child": child,
                        "accuracy_parent": child + 0.1,
                        "z": child - 0.1,
                        "seconds": 0.5,
                    }
                )
        history.append(abandon_record(num_candidates))
    return history


def abandon_record(num_candidates: int) -> Record:
    round_ = len(OPERATIONS) - num_candidates

    def edges() -> list[Record]:
        found = []
        for index, (source, node) in enumerate(EDGES):
            alive = death_order(index)[round_:]
            weights = {op: (place + 1) / sum(range(len(alive) + 1)) for place, op in enumerate(alive)}
            found.append({"from": source, "to": node, "evaluation": weights, "abandoned": alive[0]})
        return found

    return {"event": "abandon", "num_candidates": num_candidates, "normal": edges(), "reduce": edges()}


def write_search(
    folder: Path, history: Sequence[Record], *, done: bool = True, classes: Sequence[str] = ("a", "b"), **values: Any
) -> Path:
    write(folder / "config.yaml", config_yaml(tiny_config(**values)))
    write(folder / "environment.json", environment_document("search", "--out", "x y"))
    write(folder / "dataset.json", dataset_document(classes))
    write(folder / "history.jsonl", "".join(json.dumps(record) + "\n" for record in history))
    if done:
        write(folder / "genotype.json", {**DOCUMENT, "provenance": {"strategy": "cpnas", "seed": 0, "note": SCRIPT}})
    return folder


# ---------------------------------------------------------------- a training


def epoch_record(epoch: int, network: str = "child", **more: Any) -> Record:
    return {
        "event": "epoch",
        "network": network,
        "epoch": epoch,
        "loss": 2.0 / (epoch + 1),
        "loss_cross_entropy": 1.5 / (epoch + 1),
        "loss_kernel": 0.5 / (epoch + 1),
        "loss_compactness": 0.0,
        "loss_teacher": 0.0,
        "loss_auxiliary": 0.0,
        "accuracy_train": 0.5 + epoch / 10,
        "learning_rate": 0.1,
        "seconds": 1.0,
        **more,
    }


def result_document(classes: Sequence[str], **more: Any) -> Record:
    return {
        "schema": "cpnas.result/1",
        "network": "child",
        "accuracy_test": 0.625,
        "accuracy_parent_test": 0.75,
        "num_parameters": 1234,
        "num_binary_weights": 1000,
        "num_real_values": 234,
        "num_thresholds": 0,
        "size_bits": 8192,
        "size_parent_bits": 81920,
        "precision": {"binary": ["convolutions"], "real": ["stem"]},
        "compiled": False,
        "num_epochs": 3,
        "num_train_images": 40,
        "num_test_images": 20,
        "dataset": "digits",
        "classes": list(classes),
        "seconds": 61.0,
        "seconds_parent": 4.0,
        "seed": 0,
        "genotype": DOCUMENT,
        "baseline": None,
        **more,
    }


def write_training(
    folder: Path,
    history: Sequence[Record],
    *,
    classes: Sequence[str] = ("a", "b"),
    result: Record | None = None,
    networks: Sequence[str] = ("child", "parent"),
    with_genotype: bool = True,
    **values: Any,
) -> Path:
    """Without a genotype, which every training has, a page is made in a fraction of the time."""
    write_search(folder, history, done=with_genotype, classes=classes, **values)
    write(folder / "training.json", {"schema": "cpnas.training/1", "networks": list(networks)})
    write(folder / "environment.json", environment_document("train", "g.json", "--out", SCRIPT))
    if result is not None:
        write(folder / "result.json", result)
    return folder


def write_photos(root: Path, classes: Sequence[str], *, num_train: int = 4, num_test: int = 6, side: int = 16) -> Path:
    """A folder of photos, of each class as many; noise, so that a network that has learned nothing makes mistakes."""
    generator = np.random.default_rng(0)
    for part, count in (("train", num_train), ("test", num_test)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def write_model(folder: Path, classes: Sequence[str], config: Config) -> None:
    """`model.safetensors` of a Child that has learned nothing."""
    network = build_network(
        config.network, precision="binary", num_image_channels=3, num_classes=len(classes), seed=0, genotype=GENOTYPE
    )
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    trained = TrainedNetwork(network.eval(), config, GENOTYPE, {"seed": 0}, tuple(classes), normalization, 3)
    write_trained(trained, folder / "model.safetensors")


def write_training_with_mistakes(folder: Path, photos: Path, classes: Sequence[str] = EVIL, *, side: int = 16) -> Path:
    """A finished training on photos whose classes have these names, with the network's file."""
    write_photos(photos, classes, side=side)
    values = {"data.name": "folder", "data.dir": str(photos), "data.image_size": 16}
    ordered = sorted(classes)
    history = [epoch_record(epoch, validation_accuracy=0.4 + epoch / 20) for epoch in range(3)]
    result = result_document(ordered, accuracy_test=1 / len(classes))
    write_training(folder, history, classes=ordered, result=result, **values)
    write_model(folder, ordered, tiny_config(**values))
    return folder
