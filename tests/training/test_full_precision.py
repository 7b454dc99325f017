"""`cpnas train --precision full` and what the commands then say of a run whose network is a Parent."""

import json
from pathlib import Path

import pytest
from command_line import DOCUMENT, error_of, invoke
from conftest import TINY_OPTIONS

from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.training.evaluation import pipeline_of
from cpnas_cli.training.trained_network import read_trained

OPTIONS = [*TINY_OPTIONS, "--set", "train.num_epochs=2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings with the same seed: full/ of the Parent alone, both/ of the Child with its Parent."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "g.json").write_text(json.dumps(DOCUMENT))
    for name, words in (("full", ["--precision", "full"]), ("both", ["--with-parent"])):
        answer = invoke("train", folder / "g.json", *words, *OPTIONS, "--out", folder / name)
        assert answer.exit_code == 0, answer.output
        assert ("full-precision Parent, test accuracy" in answer.stdout) == (name == "full")
        assert ("its Parent, test accuracy" in answer.stdout) == (name == "both")
    return folder


def accuracy_of_parent(run: Path, network: str) -> float:
    """Counted with no function of ours but the network's and the images'."""
    trained = read_trained(RunFolder(run), network)
    test = load_dataset(trained.data_settings()).test
    scores = trained.network(pipeline_of(trained).normalize(test.images)).logits
    return (scores.argmax(dim=1) == test.labels).double().mean().item()


def test_the_parent_alone_is_the_parent_beside_a_child(runs: Path) -> None:
    """Its weights do not depend on what else is trained; only the name of the file does."""
    assert (runs / "full/model.safetensors").read_bytes() == (runs / "both/parent.safetensors").read_bytes()
    assert not (runs / "full/parent.safetensors").exists()
    result = json.loads((runs / "full/result.json").read_text())
    assert (result["network"], result["num_binary_weights"], result["precision"]["binary"]) == ("parent", 0, [])


def test_the_parent_is_not_called_its_own_parent(runs: Path) -> None:
    answer = invoke("evaluate", runs / "full")
    percent = f"{100 * accuracy_of_parent(runs / 'full', 'parent'):.2f} %"
    assert answer.stdout.splitlines()[:3] == [
        f"test accuracy {percent} on 20 images (the full-precision Parent)",
        f"at the end of the training it was {percent}",
        "per class",
    ]
    assert "its Parent" in invoke("evaluate", runs / "both").stdout


def test_the_record_names_the_network(runs: Path) -> None:
    full, both = (json.loads(invoke("evaluate", runs / name, "--json").stdout) for name in ("full", "both"))
    parent = accuracy_of_parent(runs / "full", "parent")
    assert (full["network"], both["network"]) == ("parent", "child")
    assert full["accuracy_test"] == full["accuracy_parent_test"] == full["recorded_accuracy_test"] == parent
    assert both["accuracy_parent_test"] == parent
    assert both["accuracy_test"] == both["recorded_accuracy_test"] == accuracy_of_parent(runs / "both", "child")


@pytest.mark.slow
def test_what_can_be_exported_of_it(runs: Path) -> None:
    full = runs / "full"
    assert "a Parent is not 1-bit and has no packed form" in error_of(invoke("export", full), code=2)
    assert "holds no trained child" in error_of(invoke("export", full, "--network", "child"), code=1)
    assert "is not 1-bit" in error_of(invoke("export", runs / "both", "--network", "parent"), code=2)
    assert not list(runs.rglob("*packed*"))
    documents = [
        json.loads(invoke("export", run, "--format", "onnx", *words, "--json").stdout)
        for run, words in ((full, []), (full, ["--network", "parent"]), (runs / "both", ["--network", "parent"]))
    ]
    assert {(document["network"], document["bytes"]) for document in documents} == {("parent", documents[0]["bytes"])}
    assert (full / "parent.onnx").read_bytes() == (runs / "both" / "parent.onnx").read_bytes()
    packed = json.loads(invoke("export", runs / "both", "--json").stdout)
    assert (packed["network"], Path(packed["file"]).name) == ("child", "model.packed.safetensors")
    Path(packed["file"]).unlink()
