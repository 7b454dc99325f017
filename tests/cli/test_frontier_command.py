"""`cpnas frontier` and `cpnas train --baseline`: whole runs on digits, and what is said in one line."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import TINY_OPTIONS, run_cpnas
from played_experiments import genotype, write
from safetensors.numpy import load_file
from typer.testing import CliRunner

from cpnas_cli.cli.app import app
from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.settings import load_config
from cpnas_cli.storage.documents import read_document
from cpnas_cli.storage.genotype_file import genotype_document

runner = CliRunner()

SETTINGS = [*TINY_OPTIONS, "--set", "train.num_epochs=1", "--set", "search.strategy=random"]
FRONTIER = ["frontier", *SETTINGS, "--widths", "1,2", "--seeds", "0", "--baseline-bytes", "2KiB"]


def accuracy_in_onnx_runtime(model: Path, run: Path) -> float:
    """Independently: pixels of the data set's own file, normalized in numpy, one image at a time."""
    dataset = json.loads((run / "dataset.json").read_text())
    test = load_dataset(load_config(overrides=["data.num_train=40", "data.num_test=20"]).data).test
    images = test.images.numpy().astype(np.float32) / 255
    images = (images - np.float32(dataset["mean"][0])) / np.float32(dataset["std"][0])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = [np.asarray(session.run(None, {"images": image[None]})[0])[0] for image in images]
    return float(np.mean(np.argmax(scores, axis=1) == test.labels.numpy()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and document of a tiny frontier."""
    folder = tmp_path_factory.mktemp("frontier")
    answer = run_cpnas(folder, *FRONTIER, "--out", "run", "--json", timeout=280)
    assert answer.returncode == 0, answer.stderr
    return folder / "run", json.loads(answer.stdout)


@pytest.mark.slow(seconds=40)
def test_a_whole_frontier(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, document = whole
    assert document == read_document(folder / "frontier.json")
    assert {member["name"]: member["state"] for member in document["members"]} == dict.fromkeys(
        ["search", "width-1-seed-0", "width-2-seed-0", "cnn-2-seed-0"], "finished"
    )
    points = {(point["family"], point["width"]): point for point in document["points"]}
    families = ["1-bit", "int8 Parent", "float32 Parent"]
    assert list(points) == [
        *((family, width) for family in families for width in (1.0, 2.0)),
        ("int8 CNN", 2.0),
        ("float32 CNN", 2.0),
    ]
    for point in points.values():
        assert 0 < point["seconds_p10"] <= point["seconds_median"] <= point["seconds_p90"]
        assert point["accuracy_test_std"] is None
    assert [points["1-bit", width]["num_channels"] for width in (1.0, 2.0)] == [4, 8]
    assert points["int8 CNN", 2.0]["bytes"] == 9 * (2 + 120) + 80 + 8 * 36
    assert {"frontier.svg", "frontier.png"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_accuracies_and_bytes_are_those_of_the_stored_files(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, document = whole
    for member in document["members"][1:]:
        run = folder / "members" / member["name"]
        forms = {form["family"].split()[0]: form for form in member["networks"]}
        result = json.loads((run / "result.json").read_text())
        for precision in ("int8", "float32"):
            form = forms[precision]
            assert accuracy_in_onnx_runtime(run / form["file"], run) == form["accuracy_test"]
            assert form["file_bytes"] == (run / form["file"]).stat().st_size
        if "1-bit" in forms:
            arrays = load_file(run / forms["1-bit"]["file"])
            assert (
                sum(array.nbytes for array in arrays.values())
                == forms["1-bit"]["bytes"]
                == -(-result["size_bits"] // 8)
            )
            assert forms["1-bit"]["accuracy_test"] == result["accuracy_test"]
            assert forms["float32"]["accuracy_test"] == result["accuracy_parent_test"]


@pytest.mark.slow
def test_typing_it_again_trains_and_times_nothing(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, document = whole
    files = {path: path.stat().st_mtime_ns for path in (folder / "members").rglob("*")}
    for words in (FRONTIER, ["frontier", "--resume"]):
        answer = runner.invoke(app, [*words, "--out", str(folder)])
        assert answer.exit_code == 0, answer.stderr
        assert document["advice"]["sentence"] in answer.stdout
        assert "timing" not in answer.stderr
    assert files == {path: path.stat().st_mtime_ns for path in (folder / "members").rglob("*")}
    assert read_document(folder / "frontier.json") == document
    again = folder.parent / "again"
    answer = runner.invoke(app, ["figure", str(folder), "--out", str(again)])
    assert answer.stdout.split() == [str(again / "frontier.svg"), str(again / "frontier.png")]
    assert (again / "frontier.svg").read_bytes() == (folder / "frontier.svg").read_bytes()


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """A genotype, as a search has found it."""
    file = tmp_path / "found/genotype.json"
    write(file, genotype_document(genotype(2), provenance={}))
    return file


@pytest.mark.slow
def test_a_baseline_beside_a_child(found: Path, tmp_path: Path) -> None:
    words = ["train", str(found), *SETTINGS, "--out", str(tmp_path / "run")]
    plain = runner.invoke(app, [*words, "--json"])
    assert json.loads(plain.stdout)["baseline"] is None
    answer = runner.invoke(app, [*words, "--baseline", "--resume", "--json"])  # also of a run that is there
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result == read_document(tmp_path / "run/result.json")
    baseline = result.pop("baseline")
    assert result == {key: value for key, value in json.loads(plain.stdout).items() if key != "baseline"}
    assert baseline["child_bytes"] == -(-result["size_bits"] // 8)
    width = baseline["width"]
    assert baseline["bytes"] == 9 * (width + 30 * width**2) + 40 * width + 8 * (13 * width + 10)
    assert baseline["bytes"] <= 1.1 * baseline["child_bytes"]
    run = tmp_path / "run/baseline"
    assert accuracy_in_onnx_runtime(run / "int8.onnx", run) == baseline["accuracy_test"]
    assert accuracy_in_onnx_runtime(run / "float32.onnx", run) == baseline["accuracy_float32_test"]
    assert min(baseline[key] for key in baseline if key.endswith("seconds_per_image")) > 0
    again = runner.invoke(app, [*words, "--baseline", "--resume"])
    assert "a plain int8 CNN, test accuracy" in again.stdout
    assert "measuring" not in again.stderr


# ---------------------------------------------------------------- one line each


def refused(*words: str) -> tuple[int, str]:
    answer = runner.invoke(app, list(words))
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1, answer.stderr
    return answer.exit_code, answer.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--widths", "1,x"], "--widths expects numbers above 0, got 'x'; for example --widths 0.5,1,2"),
        (["--widths", "1,1.01"], "--widths 1 and 1.01 both give 16 channels"),
        (["--widths", "200"], "--widths 200 gives 3200 channels, at most 1024 are possible"),
        (["--baseline-bytes", "much"], "--baseline-bytes expects sizes up to 1024MiB, got 'much'"),
        (["--seeds", "a"], "--seeds expects whole numbers from 0 up, got 'a'"),
        (["--workers", "0"], "--workers expects a whole number from 1 up, got '0'"),
        (["--resume"], "--resume needs --out FOLDER, the folder of the frontier to go on with"),
        (["--resume", "--out", "nowhere"], "no frontier to resume in nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = refused("frontier", *words)
    assert code == 2
    assert message in said
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_another_experiment(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "experiment.json").write_text("{}")
    answer = runner.invoke(app, [*FRONTIER, "--out", str(folder)])
    assert answer.exit_code == 1
    assert f"{folder} is not empty and holds no frontier; choose another --out" in answer.stderr
    assert [path.name for path in folder.iterdir()] == ["experiment.json"]


@pytest.mark.parametrize("command", ["frontier", "train"])
def test_without_the_extra_nothing_is_trained(
    command: str, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    monkeypatch.chdir(tmp_path)
    code, said = refused(*(["frontier"] if command == "frontier" else ["train", str(found), "--baseline"]))
    assert code == 1
    assert "needs onnxruntime of the onnx extra, not installed; type: pip install 'cpnas[onnx]'" in said
    assert list(tmp_path.rglob("*.json")) == [found]


def test_a_baseline_stands_beside_a_child_on_one_process(found: Path) -> None:
    code, said = refused("train", str(found), "--baseline", "--precision", "full")
    assert code == 2
    assert "--baseline stands beside a 1-bit Child" in said
    code, said = refused("train", str(found), "--baseline", "--devices", "2")
    assert code == 2
    assert "--baseline measures on one process; leave out --devices" in said
