"""What is said of a classifier's answers, against counts by hand and by plain loops."""

import csv
import io
import json
import random
import warnings
from pathlib import Path

import numpy as np
import pytest

from cpnas_cli.training.classification import (
    NUM_BINS,
    Answers,
    answers_csv,
    calibration,
    classification_document,
    mistakes,
)


def answers(labels: list[int], predicted: list[int], confidences: list[float], classes: str = "abc") -> Answers:
    return Answers(tuple(classes), np.array(labels), np.array(predicted), np.array(confidences))


# a: two images, one taken for b. b: one image, found. c: one image, taken for b. d: neither an image nor an answer
SMALL = answers([0, 0, 1, 2], [0, 1, 1, 1], [0.9, 0.6, 0.8, 0.7], classes="abcd")


def test_a_small_case_counted_by_hand() -> None:
    document = classification_document(SMALL)
    rows = [[row[key] for key in ("class", "num_images", "num_predicted")] for row in document["per_class"]]
    assert rows == [["a", 2, 1], ["b", 1, 3], ["c", 1, 0], ["d", 0, 0]]
    fractions = [[row[key] for key in ("precision", "recall", "f1")] for row in document["per_class"]]
    expected = [[1, 1 / 2, 2 / 3], [1 / 3, 1, 1 / 2], [None, 0, 0], [None, None, None]]
    assert fractions == [[pytest.approx(value) for value in row] for row in expected]
    assert document["macro"] == pytest.approx({"precision": 2 / 3, "recall": 1 / 2, "f1": (2 / 3 + 1 / 2 + 0) / 3})
    assert document["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert document["num_mistakes"] == 2
    assert [(each["index"], each["class"], each["predicted"]) for each in document["mistakes"]] == [
        (3, "c", "b"),
        (1, "a", "b"),
    ]


def test_the_undefined_is_null_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = json.dumps(classification_document(SMALL), allow_nan=False)
        json.dumps(classification_document(answers([0], [1], [0.5])), allow_nan=False)  # nothing is right
    assert json.loads(text)["per_class"][2]["precision"] is None


def test_many_answers_counted_one_by_one() -> None:
    source = random.Random(0)
    labels = [source.randrange(5) for _ in range(300)]
    predicted = [label if source.random() < 0.6 else source.randrange(5) for label in labels]
    confidences = [source.random() for _ in labels]
    document = classification_document(answers(labels, predicted, confidences, classes="abcde"))
    pairs = list(zip(labels, predicted, strict=True))
    for index, row in enumerate(document["per_class"]):
        hits = sum(pair == (index, index) for pair in pairs)
        assert row["precision"] == pytest.approx(hits / predicted.count(index))
        assert row["recall"] == pytest.approx(hits / labels.count(index))
        assert row["f1"] == pytest.approx(2 * hits / (predicted.count(index) + labels.count(index)))
        assert document["confusion"][index] == [pairs.count((index, other)) for other in range(5)]
    assert document["num_mistakes"] == sum(label != answer for label, answer in pairs)


def test_calibration_bin_by_bin() -> None:
    source = random.Random(1)
    confidences = [source.random() for _ in range(500)] + [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    right = [source.random() < 0.5 for _ in confidences]
    found = calibration(answers([0] * len(right), [0 if each else 1 for each in right], confidences))
    error = 0.0
    for place, row in enumerate(found["bins"]):
        inside = [
            pair
            for pair in zip(confidences, right, strict=True)
            if row["above"] < pair[0] <= row["to"] or (place == 0 and pair[0] == 0)
        ]
        assert row["num_images"] == len(inside) > 0
        assert row["mean_confidence"] == pytest.approx(sum(value for value, _ in inside) / len(inside))
        assert row["accuracy"] == pytest.approx(sum(is_right for _, is_right in inside) / len(inside))
        error += len(inside) / len(right) * abs(row["accuracy"] - row["mean_confidence"])
    assert found["expected_error"] == pytest.approx(error)
    assert found["mean_confidence"] == pytest.approx(sum(confidences) / len(confidences))
    assert [row["above"] for row in found["bins"]] == pytest.approx([place / 15 for place in range(15)])
    assert found["bins"][-1]["to"] == 1


@pytest.mark.parametrize(
    ("right", "error"), [([True, True, True, False], 0.0), ([True] * 4, 0.25), ([False] * 4, 0.75)]
)
def test_a_network_that_is_always_as_sure(right: list[bool], error: float) -> None:
    found = calibration(answers([0] * 4, [0 if each else 1 for each in right], [0.75] * 4))
    assert found["expected_error"] == pytest.approx(error)
    filled = [row for row in found["bins"] if row["num_images"]]
    assert len(filled) == 1
    assert filled[0]["above"] < 0.75 <= filled[0]["to"]
    empty = [row for row in found["bins"] if not row["num_images"]]
    assert len(empty) == NUM_BINS - 1
    assert {(row["accuracy"], row["mean_confidence"]) for row in empty} == {(None, None)}


def test_of_equally_confident_mistakes_the_first_comes_first() -> None:
    found = mistakes(answers([0] * 6, [1, 0, 1, 1, 2, 1], [0.5, 0.9, 0.7, 0.5, 0.7, 0.6]), most=4)
    assert [each["index"] for each in found] == [2, 4, 5, 0]


def test_a_line_of_csv_for_each_image_with_odd_names() -> None:
    names = ('a,"b', "new\nline", "odd\udcff")
    files = tuple(Path(f"/photos/{name}/{index}.png") for index, name in enumerate(names))
    found = Answers(names, np.array([0, 1, 2]), np.array([1, 1, 0]), np.array([0.25, 0.5, 1 / 3]), files)
    rows = list(csv.DictReader(io.StringIO(answers_csv(found), newline="")))
    assert list(rows[0]) == ["index", "file", "class", "predicted", "probability"]
    assert [row["class"] for row in rows] == ['a,"b', "new\nline", "odd\\udcff"]
    assert [row["file"] for row in rows] == [
        '/photos/a,"b/0.png',
        "/photos/new\nline/1.png",
        "/photos/odd\\udcff/2.png",
    ]
    assert [row["predicted"] for row in rows] == ["new\nline", "new\nline", 'a,"b']
    assert [float(row["probability"]) for row in rows] == [0.25, 0.5, 1 / 3]
    assert next(csv.DictReader(io.StringIO(answers_csv(SMALL))))["file"] == ""
