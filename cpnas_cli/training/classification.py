"""What a classifier's answers on labelled images say of it: per class, what is taken for what, how sure, where wrong.

The parts of `cpnas.evaluation/1` that need more than the number of right answers. An undefined fraction (the precision
of a class that is never predicted, the recall of one without an image) is None, and left out of a mean.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NUM_BINS = 15
"""Of confidence, of equal width over [0, 1]: what Guo et al. (2017) use."""

NUM_MISTAKES = 20
"""That are named one by one."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says of N images, in their order.

    Attributes:
      labels, predicted: int64 (N,), indices of classes.
      confidences: float64 (N,), the probability (softmax, not calibrated) of the class predicted.
      files: of each image, where it has one.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    confidences: np.ndarray
    files: tuple[Path, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> np.ndarray:
        """bool (N,)."""
        return self.labels == self.predicted


def classification_document(answers: Answers) -> dict[str, Any]:
    """The keys per_class, macro, confusion, num_mistakes, mistakes and calibration."""
    from sklearn.metrics import confusion_matrix

    indices = range(len(answers.classes))
    per_class, macro = _per_class(answers)
    return {
        "per_class": per_class,
        "macro": macro,
        "confusion": confusion_matrix(answers.labels, answers.predicted, labels=indices).tolist(),
        "num_mistakes": int((~answers.right).sum()),
        "mistakes": mistakes(answers, most=NUM_MISTAKES),
        "calibration": calibration(answers),
    }


def _per_class(answers: Answers) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Of each class, and the mean of each fraction over the classes for which it is defined."""
    from sklearn.metrics import precision_recall_fscore_support

    indices = range(len(answers.classes))
    undefined: Any = np.nan  # which scikit-learn takes, whatever its types say
    found: Any = precision_recall_fscore_support(
        answers.labels, answers.predicted, labels=indices, zero_division=undefined
    )
    *fractions, num_images = found
    named = dict(zip(("precision", "recall", "f1"), fractions, strict=True))
    num_predicted = np.bincount(answers.predicted, minlength=len(indices))
    per_class = [
        {
            "class": answers.classes[index],
            "num_images": int(num_images[index]),
            "num_predicted": int(num_predicted[index]),
            **{name: _defined(values[index]) for name, values in named.items()},
        }
        for index in indices
    ]
    return per_class, {name: _defined(np.mean(values[~np.isnan(values)])) for name, values in named.items()}


def _defined(fraction: float) -> float | None:
    return None if math.isnan(fraction) else float(fraction)


def mistakes(answers: Answers, *, most: int) -> list[dict[str, Any]]:
    """The images classified wrong, the most confident first; of equal ones the first."""
    wrong = np.flatnonzero(~answers.right)
    order = wrong[np.argsort(-answers.confidences[wrong], kind="stable")][:most]
    return [{"index": int(index), **_answer(answers, index)} for index in order]


def _answer(answers: Answers, index: int) -> dict[str, Any]:
    return {
        "file": None if answers.files is None else str(answers.files[index]),
        "class": answers.classes[answers.labels[index]],
        "predicted": answers.classes[answers.predicted[index]],
        "probability": float(answers.confidences[index]),
    }


def calibration(answers: Answers) -> dict[str, Any]:
    """Whether the network is as often right as it is sure.

        expected error = sum over the bins m of |B_m| / N * |accuracy(B_m) - mean confidence(B_m)|

    where B_m are the images whose confidence is above (m - 1) / NUM_BINS and at most m / NUM_BINS.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), equation (3).
    """
    edges = np.linspace(0, 1, NUM_BINS + 1)
    places = np.digitize(answers.confidences, edges[1:-1], right=True)  # of each image the index of its bin
    counts, confidence, accuracy = (
        np.bincount(places, weights=weights, minlength=NUM_BINS)
        for weights in (None, answers.confidences, answers.right)
    )
    return {
        "mean_confidence": float(answers.confidences.mean()),
        "expected_error": float(np.abs(accuracy - confidence).sum() / len(answers)),
        "bins": [
            {
                "above": float(edges[index]),
                "to": float(edges[index + 1]),
                "num_images": int(count),
                "mean_confidence": float(confidence[index] / count) if count else None,
                "accuracy": float(accuracy[index] / count) if count else None,
            }
            for index, count in enumerate(counts)
        ],
    }


def answers_csv(answers: Answers) -> str:
    """An image a line, in their order, under a line of names; an absent file is empty.

    A name that is no UTF-8 has its odd bytes as backslash escapes.
    """
    text = io.StringIO()
    fields = ["index", "file", "class", "predicted", "probability"]
    writer = csv.DictWriter(text, fieldnames=fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({"index": index, **_answer(answers, index)} for index in range(len(answers)))
    return text.getvalue().encode(errors="backslashreplace").decode()
