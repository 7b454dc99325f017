"""Hints where a mirrored image may be of another class."""

import pytest

from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.data.mirroring import mirror_hint, one_sided_classes
from cpnas_cli.settings import load_config


@pytest.mark.parametrize(
    "classes",
    [["0", "1"], ["10", "20"], ["a", "b"], ["cat", "turn_left"], ["Right", "up"], ["arrow-3", "x-ray"], ["字", "cat"]],
)
def test_names_of_signs_and_directions_are_doubtful(classes: list[str]) -> None:
    hint = mirror_hint(classes)
    assert hint is not None
    assert hint.endswith("add --set data.flip=false")
    assert "\n" not in hint


@pytest.mark.parametrize(
    "classes", [["cat", "dog"], ["daisy", "rose", "tulip"], ["T-shirt/top", "Bag"], ["sparrow", "bright"]]
)
def test_names_of_things_are_not(classes: list[str]) -> None:
    assert mirror_hint(classes) is None


def test_the_first_ones_are_named() -> None:
    hint = mirror_hint([str(digit) for digit in range(10)])
    assert hint is not None
    assert hint.startswith("classes such as '0', '1', '2' and others may")


def test_it_is_said_where_images_are_mirrored_and_nowhere_else() -> None:
    for flip in (False, True):
        config = load_config(overrides=[f"data.flip={str(flip).lower()}", "data.num_train=40"])
        assert [note for note in load_dataset(config.data).notes if "data.flip" in note] == (
            [mirror_hint([str(digit) for digit in range(10)])] if flip else []
        )


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (["cat", "dog"], None),
        (["sparrow", "bright", "turnip", "Leftovers"], None),
        (["10", "cat"], "10"),
        (["cat", "Q"], "Q"),
        (["keep-right", "stop"], "keep-right"),
        (["stop", "Arrow_up"], "Arrow_up"),
    ],
)
def test_names_of_what_has_a_left_and_a_right(classes: list[str], name: str | None) -> None:
    assert one_sided_classes(classes)[:1] == ([] if name is None else [name])
