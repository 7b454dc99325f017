"""What photos decide, and what is refused, on records that are written by hand."""

from typing import Any

import pytest

from cpnas_cli.errors import DataError
from cpnas_cli.fit.choices import check_photos, choices_of_photos, choices_of_search, notes_on
from cpnas_cli.registry import RECOMMENDED_STRATEGY, STRATEGIES


def record(**changes: Any) -> dict[str, Any]:
    return {
        "folder": "/photos",
        "problems": [],
        "classes": ["cat", "dog"],
        "num_train_images": 25,
        "num_test_images": 7,
        "train": {"cat": 20, "dog": 5},
        "test": {"cat": 5, "dog": 2},
        "imbalance": {"ratio": 4.0, "hint": None},
        "sizes": {"width": {"median": 640}, "height": {"median": 480}},
        "duplicates": [],
        "unreadable": [],
        "skipped": {"num_files": 0},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"problems": ["/photos has one class (cat); a classifier needs at least two"]}, "one class (cat)"),
        ({"train": {"cat": 20, "dog": 4}}, "the class dog has 4 images to train with; cpnas fit needs at least 5"),
        ({"train": {"cat": 1, "dog": 4}}, "the class cat has 1 image to train with"),
        (
            {"unreadable": [{"image": f"c/{i}.png"} for i in range(7)], "problems": ["7 images cannot be read"]},
            "7 of the images in /photos cannot be read: c/0.png, c/1.png, c/2.png, c/3.png, c/4.png and 2 more",
        ),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], words: str) -> None:
    check_photos(record())
    with pytest.raises(DataError) as raised:
        check_photos(record(**changes))
    assert words in str(raised.value)


def test_what_makes_an_accuracy_doubtful_is_noted() -> None:
    assert notes_on(record()) == []
    notes = notes_on(
        record(
            duplicates=[
                {"across_split": True, "across_classes": False},
                {"across_split": True, "across_classes": True},
                {"across_split": False, "across_classes": True},
                {"across_split": False, "across_classes": False},
            ],
            imbalance={"ratio": 4.0, "hint": "add images of dog"},
            test={"cat": 5, "dog": 0},
            skipped={"num_files": 3},
        )
    )
    assert [note.split()[0] for note in notes] == ["2", "1", "add", "there", "3"]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(640, 480, 64), (28, 28, 32), (47, 200, 32), (200, 47.5, 32), (48, 48, 64)]
)
def test_small_pictures_stay_small(width: float, height: float, size: int) -> None:
    sizes = {"width": {"median": width}, "height": {"median": height}}
    chosen = choices_of_photos(record(sizes=sizes), asked=(), image_size=999)
    border = {32: 3, 64: 6}[size]
    assert [(choice.setting, choice.value) for choice in chosen] == [
        ("data.image_size", size),
        ("data.crop_padding", border),
    ]


def test_what_is_asked_for_is_not_chosen() -> None:
    data = record(classes=["left turn", "right turn"])
    assert [choice.setting for choice in choices_of_photos(data, asked=("data.image_size",), image_size=128)] == [
        "data.crop_padding",
        "data.flip",
    ]
    assert choices_of_photos(data, asked=("data.image_size",), image_size=128)[0].value == 12
    asked = ("data.image_size", "data.crop_padding", "data.flip")
    assert choices_of_photos(data, asked=asked, image_size=128) == []


def test_photos_are_searched_as_recommended_unless_asked_otherwise() -> None:
    assert RECOMMENDED_STRATEGY in STRATEGIES
    assert [(choice.setting, choice.value) for choice in choices_of_search(())] == [
        ("search.strategy", RECOMMENDED_STRATEGY)
    ]
    assert choices_of_search(("search.strategy",)) == []
