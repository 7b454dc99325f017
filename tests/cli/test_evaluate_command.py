"""`cpnas evaluate`: the files of its mistakes, a row for each image, and tables that names cannot break."""

import csv
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import DOCUMENT, error_of, invoke
from rich.cells import cell_len

from cpnas_cli.cli.render.evaluation import largest_confusions, print_evaluation
from cpnas_cli.training.classification import Answers, classification_document

OPTIONS = ["--preset", "folder", "--set", "data.image_size=32", "--set", "network.num_channels=4"]
OPTIONS += ["--set", "network.num_cells=3", "--set", "train.num_epochs=1"]

ODD = "li[bold]ght\x1b[31m"


@pytest.fixture
def run(tmp_path: Path, image_folder: Path) -> Path:
    """A training on two classes, one of which has a name that a terminal must not see."""
    for part in ("train", "test"):
        (image_folder / part / "light").rename(image_folder / part / ODD)
    (tmp_path / "g.json").write_text(json.dumps(DOCUMENT))
    answer = invoke("train", tmp_path / "g.json", *OPTIONS, "--data-dir", image_folder, "--out", tmp_path / "run")
    assert answer.exit_code == 0, answer.output
    return tmp_path / "run"


@pytest.fixture
def both(tmp_path: Path, image_folder: Path, run: Path) -> Path:
    """The same images with every test image in both classes, so that one of each two is a mistake."""
    folder = tmp_path / "both"
    shutil.copytree(image_folder, folder)
    names = {}
    for number, file in enumerate(sorted((image_folder / "test").rglob("*.png"))):
        for name in ("dark", ODD):
            names[number] = shutil.copy(file, folder / "test" / name / f"image-{number}.png")
    for file in (folder / "test").rglob("0*.png"):
        file.unlink()
    return folder


def test_every_image_once_in_both_classes(run: Path, both: Path, tmp_path: Path) -> None:
    answer = invoke("evaluate", run, "--data-dir", both, "--csv", tmp_path / "answers.csv", "--json")
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert (document["accuracy_test"], document["num_test_images"], document["num_mistakes"]) == (0.5, 16, 8)
    wrong = {Path(each["file"]) for each in document["mistakes"]}
    assert sorted(file.name for file in wrong) == [f"image-{number}.png" for number in range(8)]
    for each in document["mistakes"]:
        assert Path(each["file"]).parent == both / "test" / each["class"]
        assert each["predicted"] != each["class"]
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["file"]) for row in rows} == set((both / "test").rglob("*.png"))
    assert {Path(row["file"]) for row in rows if row["class"] != row["predicted"]} == wrong
    assert [int(row["index"]) for row in rows] == list(range(16))
    by_file = {row["file"]: float(row["probability"]) for row in rows}
    assert [by_file[each["file"]] for each in document["mistakes"]] == [
        each["probability"] for each in document["mistakes"]
    ]
    assert all(0.5 <= probability <= 1 for probability in by_file.values())
    per_class = {row["class"]: row for row in document["per_class"]}
    assert {name: row["recall"] for name, row in per_class.items()}.keys() == {"dark", ODD}
    assert sum(row["num_predicted"] for row in per_class.values()) == 16


def test_names_are_shown_and_do_nothing(run: Path, both: Path) -> None:
    shown = invoke("evaluate", run, "--data-dir", both).stdout
    assert "\x1b" not in shown
    assert "li[bold]ght\\x1b[31m" in shown
    folder = next(line for line in shown.splitlines() if line.startswith("in "))
    assert folder.startswith(f"in {both / 'test'}")
    assert re.search(r"image-\d\.png", shown)
    assert "50.00 % right" in shown


def test_a_csv_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "choose another --csv" in error_of(invoke("evaluate", run, "--csv", tmp_path / "file/a.csv"), code=1)


def document_of(names: list[str], *, num_images: int, files: bool = False) -> dict[str, Any]:
    """An evaluation in which every class is taken for the next one once."""
    size = len(names)
    labels = np.repeat(np.arange(size), num_images)
    predicted = labels.copy()
    predicted[::num_images] = (labels[::num_images] + 1) % size
    paths = tuple(Path(f"/photos/test/{names[label]}/{index}.jpg") for index, label in enumerate(labels))
    answers = Answers(tuple(names), labels, predicted, np.full(len(labels), 0.9), paths if files else None)
    return {
        "network": "child",
        "accuracy_test": float(answers.right.mean()),
        "accuracy_parent_test": None,
        "recorded_accuracy_test": None,
        "num_test_images": len(labels),
        **classification_document(answers),
    }


def shown(
    document: Mapping[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    print_evaluation(document)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "name", ["c", "a class with a very long name that fits nowhere, ", "[red]\u4e2d\u6587\u4e2d\u6587"]
)
def test_twenty_classes_fit_eighty_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{name}{number}" for number in range(20)]
    lines = shown(document_of(names, num_images=50, files=True), capsys, monkeypatch)
    assert max(map(cell_len, lines)) <= 80
    assert not {"\x1b", "\u202e"} & set("".join(lines))
    start = next(place for place, line in enumerate(lines) if line.startswith("what is taken for what"))
    matrix = [line.split()[-20:] for line in lines[start + 2 : start + 22]]
    expected = [["." for _ in names] for _ in names]
    for index in range(20):
        expected[index][index], expected[index][(index + 1) % 20] = "49", "1"
    assert matrix == expected
    fractions = [line.split()[-6:] for line in lines if line.rstrip().endswith("98.00 %")]
    assert fractions == [["98.00", "%"] * 3] * 21  # twenty classes and their mean


def test_many_classes_are_those_that_matter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = document_of([f"class {number}" for number in range(200)], num_images=2)
    document["per_class"][150]["f1"] = 0.01
    document["confusion"][70][30] = 7
    lines = shown(document, capsys, monkeypatch)
    assert len(lines) < 60
    text = "\n".join(lines)
    assert "what is taken for what" not in text
    assert re.search(r" 7 +class 70 +class 30\b", text)
    assert text.index("class 150") < text.index("class 70")


def test_the_largest_confusions() -> None:
    assert largest_confusions([[9, 2, 0], [5, 9, 2], [0, 1, 9]]) == [(5, 1, 0), (2, 0, 1), (2, 1, 2), (1, 2, 1)]


def test_a_class_that_is_never_predicted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(("a", "b"), np.array([0, 1]), np.array([0, 0]), np.array([0.9, 0.8]))
    document = document_of(["a", "b"], num_images=1) | classification_document(answers)
    lines = shown(document, capsys, monkeypatch)
    row = next(line.split() for line in lines if line.split()[:1] == ["b"])
    assert row == ["b", "1", "0", "-", "0.00", "%", "0.00", "%"]
    assert any(line.startswith("-: never predicted") for line in lines)


def test_nothing_wrong_needs_no_list_of_mistakes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(("a", "b"), np.array([0, 1]), np.array([0, 1]), np.array([0.9, 0.8]))
    text = "\n".join(
        shown(document_of(["a", "b"], num_images=1) | classification_document(answers), capsys, monkeypatch)
    )
    assert "mistake" not in text
    assert "taken for" not in text
    assert "never predicted" not in text
