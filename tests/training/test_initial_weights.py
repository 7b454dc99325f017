"""`--init-from`: a training that begins with the weights of a former one, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import DOCUMENT, error_of, invoke
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from cpnas_cli.search_space import draw_uniform
from cpnas_cli.storage.genotype_file import genotype_document

TINY = ["--set", "data.num_train=40", "--set", "data.num_test=20", "--set", "network.num_channels=4"]
TINY += ["--set", "network.stem_multiplier=1", "--set", "train.batch_size=20", "--set", "train.num_epochs=1"]
STILL = ["--set", "train.learning_rate=1e-30", "--set", "train.learning_rate_min=0"]
"""A step changes no weight in float32, so that what a training ends with is what it began with, but for statistics."""


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of Child and Parent; read only."""
    folder = tmp_path_factory.mktemp("former")
    (folder / "g.json").write_text(json.dumps(DOCUMENT))
    scale = ["--set", "network.scale=learned", "--set", "data.validation_fraction=0.25"]
    answer = invoke("train", folder / "g.json", "--with-parent", *TINY, *scale, "--out", folder / "run")
    assert answer.exit_code == 0, answer.output
    return folder / "run"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(*words: str | Path, code: int = 0) -> dict[str, Any]:
    answer = invoke("train", *words, "--json")
    assert answer.exit_code == code, answer.output
    return {"stderr": answer.stderr, **(json.loads(answer.stdout) if answer.stdout else {})}


def weights(file: Path) -> dict[str, Tensor]:
    """Those that are trained: no statistics, and nothing that follows from the images."""
    return {name: tensor for name, tensor in load_file(file).items() if "running" not in name and "num_" not in name}


def same(one: Path, other: Path, *, but: str = "nothing") -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(first[name].equal(second[name]) for name in first if not name.startswith(but))


def test_both_networks_begin_with_what_was_trained(former: Path) -> None:
    """Without a genotype it is that of the former training, with its settings; learned scales are not reset."""
    result = begin("--init-from", former, "--with-parent", *STILL, "--out", "next")
    assert same(former / "model.safetensors", Path("next/model.safetensors"))
    assert same(former / "parent.safetensors", Path("next/parent.safetensors"))
    files = {"child": former / "model.safetensors", "parent": former / "parent.safetensors"}
    assert {name: (Path(made["file"]), made["classifier"]) for name, made in result["init_from"].items()} == {
        name: (file, "kept") for name, file in files.items()
    }
    assert f"note: the child begins with the weights of {former / 'model.safetensors'}\n" in result["stderr"]
    assert f"init_from: {former}\n" in Path("next/config.yaml").read_text()
    begin("--with-parent", former, *STILL, "--out", "own")
    assert not same(former / "model.safetensors", Path("own/model.safetensors"))


def test_the_best_network_and_an_average_begin_a_training(former: Path) -> None:
    """Of a file, the moving average starts at its weights: at a decay of nearly 1 it is what stays."""
    begin(
        former, "--init-from", former / "best.safetensors", *STILL, "--set", "train.ema_decay=0.9999", "--out", "next"
    )
    assert same(former / "best.safetensors", Path("next/model.safetensors"))


def test_it_goes_on_without_being_typed_again(former: Path) -> None:
    words = ["--init-from", former, "--set", "train.num_epochs=3"]
    whole = begin(*words, "--out", "whole")
    begin(*words, "--max-time", "0s", "--out", "run", code=75)
    moved = former.rename(former.with_name("moved"))  # what has begun needs it no more
    try:
        found = begin("--out", "run", "--resume")
    finally:
        moved.rename(former)
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert found["init_from"] == whole["init_from"]
    assert "train.init_from: " in error_of(
        invoke("train", former, "--init-from", "whole", "--out", "run", "--resume"), code=1
    )


def test_a_classifier_of_other_classes_is_fresh(former: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("dark", "light", "none"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for index in range(8):
                pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{index}.png")
    options = ["--set", "data.name=folder", "--data-dir", "images", "--set", "data.validation_fraction=0"]
    result = begin("--init-from", former, *options, *STILL, "--out", "next")
    assert result["init_from"]["child"]["classifier"] == "fresh"
    line = f"{former / 'model.safetensors'}; its classifier is fresh, for 3 classes and not those 10"
    assert line in result["stderr"]
    trained = weights(Path("next/model.safetensors"))
    assert trained["classifier.weight"].shape[0] == 3
    before = weights(former / "model.safetensors")
    assert all(trained[name].equal(value) for name, value in before.items() if "classifier" not in name)


def test_what_does_not_fit_is_refused_in_one_line(former: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(genotype_document(draw_uniform(seed=3), provenance={})))
    refused = [
        ((other, "--init-from", former), "is another network (genotype: normal "),
        (("--init-from", former, "--set", "network.num_channels=8"), "(network.num_channels: 4 there, 8 now)"),
        (("--init-from", former, "--set", "data.num_channels=3"), "(image channels: 1 there, 3 now)"),
        ((former, "--init-from", tmp_path / "missing"), "missing does not exist; --init-from expects"),
        (("--init-from", tmp_path / "missing"), "missing does not exist; --init-from expects"),
        ((former, "--init-from", tmp_path), "holds no trained network; --init-from expects"),
        (
            ("--precision", "full", "--init-from", former / "best.safetensors"),
            "best.safetensors holds no trained parent; name another",
        ),
    ]
    for words, expected in refused:
        message = error_of(invoke("train", *words, "--out", "new"), code=2)
        assert expected in message, words
        assert not Path("new").exists()


def test_a_parent_that_was_not_trained_begins_with_its_own_draw(former: Path) -> None:
    result = begin("--with-parent", "--init-from", former / "best.safetensors", *STILL, "--out", "next")
    assert list(result["init_from"]) == ["child"]
    assert "holds no parent; this one begins with its own draw" in result["stderr"]
