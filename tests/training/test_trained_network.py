"""The record of a trained network: its file to the byte, what is read back, and every foreign file one line."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import Child, every_operation, everywhere, make_child
from command_line import error_of, invoke
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cpnas_cli.errors import CheckpointError, RunError, UsageError
from cpnas_cli.networks.network import build_network
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config
from cpnas_cli.training.trained_network import (
    Normalization,
    TrainedNetwork,
    read_all_trained,
    read_trained,
    read_trained_file,
    save_trained,
    trained_files,
    write_trained,
)

CHILD = make_child(every_operation(), seed=3)


def parent_of(child: Child) -> TrainedNetwork:
    trained = child.trained
    parent = build_network(
        trained.config.network, precision="full", num_image_channels=3, num_classes=3, seed=0, genotype=trained.genotype
    )
    return TrainedNetwork(
        parent, trained.config, trained.genotype, {}, trained.classes, trained.normalization, trained.num_image_channels
    )


def stored_state() -> dict[str, Any]:
    """The header of CHILD's file, written down by hand."""
    edges = [(source, node) for node in range(2, 6) for source in range(node)]
    genotype = every_operation()
    cells = {
        kind: [{"from": source, "to": node, "op": op} for (source, node), op in zip(edges, cell, strict=True)]
        for kind, cell in (("normal", genotype.normal), ("reduce", genotype.reduce))
    }
    return {
        "config": Config.model_validate(
            {"data": {"image_size": 8}, "network": {"num_cells": 3, "num_channels": 4, "stem_multiplier": 1}}
        ).model_dump(mode="json"),
        "genotype": {"schema": "cpnas.genotype/1", **cells, "provenance": {"seed": 3}},
        "precision": "binary",
        "classes": ["class 0", "class 1", "class 2"],
        "mean": [0.45, 0.5, 0.55],
        "std": [0.2, 0.25, 0.3],
        "num_image_channels": 3,
    }


def write_by_hand(path: Path, state: Any, *, schema: str = "cpnas.model/1", **changed: torch.Tensor | None) -> None:
    """CHILD's file with another state, other tensors (None: without it)."""
    tensors = {**{name: value.contiguous() for name, value in CHILD.network.state_dict().items()}, **changed}
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {name: value for name, value in sorted(tensors.items()) if value is not None}
    document = {"schema": schema, "state": state}
    found = hashlib.blake2b(json.dumps(document).encode(), digest_size=16)
    for name, value in written.items():
        found.update(json.dumps([name, str(value.dtype).split(".")[1], list(value.shape)]).encode())
        found.update(value.numpy().tobytes())
    save_file(written, path, metadata={"cpnas": json.dumps(document | {"blake2b": found.hexdigest()})})


# ---------------------------------------------------------------- the file


def test_the_file_is_what_it_always_was(tmp_path: Path) -> None:
    """`cpnas.model/1` to the byte, against safetensors and json themselves."""
    write_by_hand(tmp_path / "by hand", stored_state())
    write_trained(CHILD.trained, tmp_path / "written")
    assert (tmp_path / "written").read_bytes() == (tmp_path / "by hand").read_bytes()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "model", stored_state())
    trained = read_trained_file(tmp_path / "model")
    assert (trained.name, trained.precision, trained.image_size) == ("child", "binary", 8)
    assert trained.genotype == every_operation()
    assert trained.provenance == {"seed": 3}
    assert trained.classes == ("class 0", "class 1", "class 2")
    assert trained.normalization == Normalization((0.45, 0.5, 0.55), (0.2, 0.25, 0.3))
    assert trained.num_image_channels == 3
    assert trained.config == CHILD.trained.config
    images = CHILD.draw_images(5)
    assert not trained.network.training
    np.testing.assert_array_equal(Child(trained).logits(images), CHILD.logits(images))
    write_trained(trained, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_a_class_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    """As the folder of a class may."""
    write_by_hand(tmp_path / "model", stored_state() | {"classes": ["a", "b\udce9", "ü"]})
    assert read_trained_file(tmp_path / "model").classes == ("a", "b\udce9", "ü")


def test_an_older_file_lacks_later_settings(tmp_path: Path) -> None:
    state = stored_state()
    del state["config"]["train"]["gradient_accumulation_steps"], state["config"]["pcdarts"]
    write_by_hand(tmp_path / "model", state)
    assert read_trained_file(tmp_path / "model").config == CHILD.trained.config


def test_its_data_settings(tmp_path: Path) -> None:
    state = stored_state()
    state["config"]["data"] |= {"name": "folder", "dir": "/somewhere"}
    write_by_hand(tmp_path / "model", state)
    trained = read_trained_file(tmp_path / "model")
    own, other = trained.data_settings(), trained.data_settings(tmp_path)
    assert (own.dir, own.num_channels, own.image_size) == ("/somewhere", 3, 8)
    assert (other.dir, other.num_channels) == (str(tmp_path.resolve()), 3)
    with pytest.raises(UsageError, match="digits"):
        CHILD.trained.data_settings(tmp_path)


# ---------------------------------------------------------------- foreign files: one line, exit 1


def edit(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], Any]:
    def apply(state: Any) -> Any:
        inner = state
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return state

    return apply


def without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def apply(state: Any) -> Any:
        inner = state
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        return state

    return apply


STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    **{f"without {key}": (without(key), rf"lacks {key}") for key in stored_state()},
    "an unknown key": (
        edit("tutor", value=1),
        r"has tutor, which this version does not know; expected config, ",
    ),
    "an unknown setting": (edit("config", "train", "tutor", value=1), r"has config\.train\.tutor, which this vers"),
    "an unknown section": (edit("config", "tutor", value={}), r"has config\.tutor, .*; expected seed, data, netw"),
    "no state": (lambda _: None, "has no state"),
    "a state that is a list": (lambda _: [1], "has no state"),
    "config a text": (edit("config", value="digits"), "wrong config: .*dictionary.* got 'digits'"),
    "config without a section's value": (
        edit("config", "network", "num_cells", value=None),
        r"wrong config\.network\.num_cells: input should be a valid integer, got None",
    ),
    "a setting out of range": (
        edit("config", "network", "num_cells", value=1),
        r"wrong config\.network\.num_cells: input should be greater than or equal to 3, got 1",
    ),
    "a setting that is NaN": (
        edit("config", "train", "learning_rate", value=float("nan")),
        r"wrong config\.train\.learning_rate: .*finite.*, got nan",
    ),
    "images that no cell can halve": (edit("config", "data", "image_size", value=9), "data.image_size must be a mult"),
    "another precision": (edit("precision", value="half"), "wrong precision: input should be 'binary' or 'full', got"),
    "classes a text": (edit("classes", value="abc"), "wrong classes: .*tuple.* got 'abc'"),
    "classes of numbers": (edit("classes", value=["a", "b", 3]), r"wrong classes\.2: .*string, got 3"),
    "no classes": (edit("classes", value=[]), "wrong classes: .*at least 1 item"),
    "fewer classes": (edit("classes", value=["a", "b"]), r"belongs to another network: classifier\.\w+ is \(3"),
    "mean NaN": (edit("mean", 1, value=float("nan")), r"wrong mean\.1: .*got nan"),
    "mean a text": (edit("mean", 1, value="0.5"), r"wrong mean\.1: input should be a valid number, got '0\.5'"),
    "mean of pixels": (edit("mean", 1, value=127.5), r"wrong mean\.1: .*less than or equal to 1, got 127\.5"),
    "std 0": (edit("std", 0, value=0), r"wrong std\.0: .*greater than 0, got 0"),
    "std of one channel": (edit("std", value=[0.2]), "expected mean and std of 3 channels"),
    "two channels": (edit("num_image_channels", value=2), "wrong num_image_channels: input should be 1 or 3, got 2"),
    "grey": (
        lambda state: state | {"num_image_channels": 1, "mean": [0.5], "std": [0.5]},
        r"belongs to another network: stem\.0\.weight",
    ),
    "genotype a list": (edit("genotype", value=[]), "wrong genotype: .*dictionary"),
    "genotype of another schema": (edit("genotype", "schema", value="x/1"), "genotype: expected schema 'cpnas.genot"),
    "an edge too few": (lambda state: state["genotype"]["normal"].pop() and state, "genotype: edge 4->5 of the normal"),
    "an unknown operation": (edit("genotype", "normal", 0, "op", value="attention"), "genotype: .*attention"),
    "provenance NaN": (edit("genotype", "provenance", value={"beta_p": float("nan")}), "genotype: Out of range float"),
    "another genotype": (
        edit("genotype", "normal", 0, "op", value="sep_conv_5x5"),
        "belongs to another network: cells.0.edges.0",
    ),
    "a Parent by its precision": (edit("precision", value="full"), "belongs to another network: cells"),
    "a value without end": (edit("precision", value="x" * 10_000), r"got 'x{190,197}\.\.\."),
    "a key with a line's end": (edit("a\nb", value=1), r"has a\\nb, which"),
}


def refusal(file: Path, read: Callable[[Path], object] = read_trained_file) -> str:
    with pytest.raises(CheckpointError) as raised:
        read(file)
    message = str(raised.value)
    assert message.startswith(f"{file} ")
    assert "\n" not in message
    assert len(message) < len(str(file)) + 400
    return message


@pytest.mark.parametrize("kind", STATES)
def test_a_foreign_description_is_one_line(kind: str, tmp_path: Path) -> None:
    change, said = STATES[kind]
    file = tmp_path / "model.safetensors"
    write_by_hand(file, change(stored_state()))
    assert re.search(said, refusal(file)), refusal(file)


FIRST = "cells.0.edges.0.max_pool_3x3.norm.bias"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"classifier.bias": None}, "another network: classifier.bias is only in one"),
        ({"more": torch.zeros(1)}, "another network: more is only in one"),
        ({"classifier.bias": torch.zeros(4)}, r"classifier\.bias is \(4,\) there, expected \(3,\)"),
        ({"classifier.bias": torch.zeros(1, 3)}, r"classifier\.bias is \(1, 3\) there, expected \(3,\)"),
        ({"classifier.bias": torch.tensor([0, torch.nan, 0])}, "values in classifier.bias that are not finite"),
        ({"stem.0.weight": torch.full((4, 3, 3, 3), torch.inf)}, "values in stem.0.weight that are not finite"),
        ({"classifier.bias": torch.zeros(3, dtype=torch.int64)}, "classifier.bias is int64 there, expected float32"),
    ],
)
def test_foreign_weights_are_one_line(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_by_hand(file, stored_state(), **changed)
    assert re.search(said, refusal(file)), refusal(file)


def test_what_is_no_such_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_by_hand(file, stored_state(), schema="cpnas.model/2")
    assert "has schema 'cpnas.model/2'; expected 'cpnas.model/1'" in refusal(file)
    write_by_hand(file, stored_state())
    whole = file.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert "is truncated or not ours" in refusal(file)
    header = '{"schema": "cpnas.model/1", "state": ' + "[" * 100_000
    save_file({"a": torch.zeros(1)}, file, metadata={"cpnas": header})
    assert "is truncated or not ours" in refusal(file)


@pytest.mark.parametrize("words", [["evaluate"], ["export"], ["export", "--format", "onnx"], ["efficiency", "measure"]])
def test_a_foreign_file_ends_every_command_with_one_line(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "run" / "model.safetensors"
    for kind in ("without std", "an unknown setting", "mean NaN"):
        change, said = STATES[kind]
        write_by_hand(file, change(stored_state()))
        message = error_of(invoke(*words, file.parent), code=1)
        assert message.startswith(str(file))
        assert re.search(said, message), message


# ---------------------------------------------------------------- the networks of a run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_run_without_a_network_says_how_to_get_one(run: RunFolder) -> None:
    for read in (trained_files, read_trained, read_all_trained):
        with pytest.raises(RunError, match=r"run holds no trained network; `cpnas train GENOTYPE --out .*run` makes"):
            read(run)


def test_a_child_and_its_parent(run: RunFolder) -> None:
    save_trained(run, CHILD.trained, asked_for="child")
    assert [trained.name for trained in read_all_trained(run)] == ["child"]
    with pytest.raises(RunError, match="holds no trained parent; leave out --network"):
        read_trained(run, "parent")
    save_trained(run, parent_of(CHILD), asked_for="child")
    assert [file.name for file in trained_files(run)] == ["model.safetensors", "parent.safetensors"]
    assert [trained.name for trained in read_all_trained(run)] == ["child", "parent"]
    assert read_trained(run).name == read_trained(run, "child").name == "child"
    parent = read_trained(run, "parent").network.state_dict()
    stored = load_file(run.path / "parent.safetensors")
    assert parent.keys() == stored.keys() != CHILD.network.state_dict().keys()
    assert all(torch.equal(parent[name], stored[name]) for name in stored)


def test_a_parent_that_was_asked_for_is_the_model(run: RunFolder) -> None:
    save_trained(run, parent_of(CHILD), asked_for="parent")
    assert [file.name for file in trained_files(run)] == ["model.safetensors"]
    with safe_open(run.path / "model.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["cpnas"])["state"]["precision"] == "full"
    assert read_trained(run).name == "parent"
    with pytest.raises(RunError, match="holds no trained child"):
        read_trained(run, "child")
    message = error_of(invoke("efficiency", "measure", run.path), code=1)
    assert "holds a Parent only, there is no 1-bit network to measure" in message


def test_a_child_in_the_place_of_the_parent(run: RunFolder) -> None:
    save_trained(run, CHILD.trained, asked_for="child")
    write_trained(CHILD.trained, run.file(RunFolder.PARENT_MODEL))
    for words in (["evaluate", run.path], ["export", run.path, "--network", "parent"]):
        message = error_of(invoke(*words), code=1)
        assert message.startswith(f"{run.path}/parent.safetensors is a 1-bit Child; expected a full-precision Parent")


def test_two_networks_that_are_no_pair(run: RunFolder) -> None:
    save_trained(run, CHILD.trained, asked_for="child")
    for other in (make_child(everywhere("sep_conv_3x3")), make_child(every_operation(), num_classes=4)):
        if other.trained.classes == CHILD.trained.classes:
            save_trained(run, parent_of(other), asked_for="child")
        else:
            trained = other.trained
            network = TrainedNetwork(
                trained.untrained_parent(), trained.config, trained.genotype, {}, trained.classes,
                trained.normalization, 3,
            )  # fmt: skip
            save_trained(run, network, asked_for="child")
        message = error_of(invoke("evaluate", run.path), code=1)
        assert "parent.safetensors is not the Parent of the network in" in message
    save_trained(run, parent_of(CHILD), asked_for="parent")
    write_trained(parent_of(CHILD), run.file(RunFolder.PARENT_MODEL))
    assert "is not the Parent of" in error_of(invoke("evaluate", run.path), code=1)


def test_the_untrained_parent_is_the_freshly_built_one() -> None:
    expected = parent_of(CHILD).network.state_dict()
    found = CHILD.trained.untrained_parent()
    assert not found.training
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
