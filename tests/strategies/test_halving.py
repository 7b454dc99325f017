"""Successive halving: who is trained for how long, who goes on, and what an interrupted training leaves."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from test_every_strategy import digits, make_search, search_whole, tensors_of, without_seconds

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.data.splits import split_for_search
from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config, change_config, load_config
from cpnas_cli.strategies import strategy_named
from cpnas_cli.strategies.halving import search as halving_search
from cpnas_cli.strategies.halving.recipe import shortened
from cpnas_cli.strategies.halving.search import better_half
from cpnas_cli.training.training import Training

HALVING = strategy_named("halving")
RANDOM = strategy_named("random")


# ---------------------------------------------------------------- the recipe in fewer epochs


@pytest.mark.parametrize(
    ("recipe", "num_epochs", "first_stage", "warmup"),
    [
        ((40, 0, 0), 4, 0, 0),
        ((40, 20, 0), 4, 2, 0),
        ((40, 10, 4), 8, 2, 1),
        ((40, 10, 4), 40, 10, 4),  # the recipe itself
        ((40, 10, 4), 80, 20, 8),  # and longer
        ((40, 30, 5), 8, 6, 1),
        ((40, 39, 0), 4, 3, 0),  # each stage keeps an epoch
        ((40, 1, 0), 4, 1, 0),
        ((40, 20, 10), 2, 1, 0),  # and one in which the rate falls
        ((40, 20, 10), 1, 0, 0),
        ((10, 0, 9), 2, 0, 1),
    ],
)
def test_stages_and_warmup_keep_their_shares(
    recipe: tuple[int, int, int], num_epochs: int, first_stage: int, warmup: int
) -> None:
    names = ("train.num_epochs", "train.first_stage_epochs", "train.warmup_epochs")
    train = load_config(overrides=[f"{name}={value}" for name, value in zip(names, recipe, strict=True)]).train
    found = shortened(train, num_epochs)
    assert (found.num_epochs, found.first_stage_epochs, found.warmup_epochs) == (num_epochs, first_stage, warmup)
    changed = {"num_epochs": num_epochs, "first_stage_epochs": first_stage, "warmup_epochs": warmup}
    assert found.model_dump() == train.model_dump() | changed
    type(found).model_validate(found.model_dump())  # a recipe that can be started


# ---------------------------------------------------------------- who goes on


@pytest.mark.parametrize(
    ("accuracies", "kept"),
    [
        ({0: 0.5}, [0]),
        ({0: 0.1, 1: 0.2}, [1]),
        ({0: 0.2, 1: 0.2}, [0]),  # a tie goes to the first draw
        ({2: 0.5, 5: 0.5, 7: 0.6}, [7, 2]),  # half of three is two
        ({3: 0.1, 2: 0.1, 1: 0.1, 0: 0.1}, [0, 1]),
    ],
)
def test_the_better_half_goes_on(accuracies: dict[int, float], kept: list[int]) -> None:
    assert better_half(accuracies) == kept


class PlayedTraining:
    """In place of `Training`: notes what it is asked for, and reads the accuracies {(round, draw): accuracy}."""

    asked: list[dict[str, Any]]
    table: Mapping[tuple[int, int], float]

    def __init__(
        self, run: RunFolder, config: Config, genotype: Genotype, dataset: Dataset, *, networks: Any, **_: Any
    ) -> None:
        words = run.path.name.split("-")  # round-R-draw-D
        self.where = int(words[1]), int(words[3])
        assert networks == ("child",)
        self.asked.append({"where": self.where, "config": config, "genotype": genotype, "dataset": dataset})

    def train(self) -> dict[str, Any]:
        return {
            "accuracy_test": self.table[self.where],
            "accuracy_parent_test": None,
            "seconds": 0.0,
            "seconds_parent": None,
        }


SEVEN = ("halving.num_genotypes=7", "halving.num_rounds=3", "halving.first_epochs=3")
PLAYED = {
    **{(0, draw): accuracy for draw, accuracy in enumerate([0.1, 0.5, 0.4, 0.4, 0.6, 0.4, 0.2])},
    **{(1, draw): accuracy for draw, accuracy in zip((1, 2, 3, 4), (0.3, 0.9, 0.3, 0.2), strict=True)},
    (2, 1): 0.8,
    (2, 2): 0.8,
}


def test_rounds_to_the_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """7 genotypes of 3 epochs, the best 4 of 6, the best 2 of 12; all anew, on one half, judged on the other."""
    monkeypatch.setattr(halving_search, "Training", PlayedTraining)
    PlayedTraining.asked, PlayedTraining.table = [], PLAYED
    search = make_search(tmp_path / "run", HALVING, *SEVEN, "search.validation_fraction=0.3")
    genotype = HALVING.search(search)
    asked = PlayedTraining.asked
    expected = [(0, draw) for draw in range(7)] + [(1, draw) for draw in (1, 2, 3, 4)] + [(2, 1), (2, 2)]
    assert [one["where"] for one in asked] == expected
    assert [one["config"].train.num_epochs for one in asked] == 7 * [3] + 4 * [6] + 2 * [12]
    assert HALVING.num_units(search.config) == 13
    assert HALVING.cost(search.run.history()).trained == 7 * 3 + 4 * 6 + 2 * 12
    assert [record["kept"] for record in search.run.history() if record["event"] == "halve"] == [
        [4, 1, 2, 3], [2, 1], [1]
    ]  # fmt: skip
    drawn = [
        RANDOM.search(make_search(tmp_path / str(draw), RANDOM, f"search.random_draw={draw}")) for draw in range(7)
    ]
    assert [one["genotype"] for one in asked] == [drawn[draw] for _, draw in expected]
    assert genotype == drawn[1]
    for one in asked:
        seen, whole = one["dataset"], digits().train
        assert (len(seen.train), len(seen.test)) == (14, 6)
        both = torch.cat([seen.train.images, seen.test.images]).flatten(1).tolist()
        assert sorted(both) == sorted(whole.images.flatten(1).tolist())
        changed = change_config(search.config, {"train.num_epochs": one["config"].train.num_epochs})
        assert one["config"] == changed


def test_a_draw_is_a_training_with_the_recipe(tmp_path: Path) -> None:
    """The last one, of two epochs: the same network trained by itself is as accurate, also where cells are searched."""
    overrides = ("search.num_cells=4", "search.num_channels=2")  # of shared weights, which there are none of
    whole = search_whole(tmp_path / "run", HALVING, *overrides)
    (record,) = [record for record in whole.history if record["event"] == "draw"][-1:]
    config = change_config(whole.search.config, {"train.num_epochs": 2})
    halves = split_for_search(digits().train, validation_fraction=0.5, seed=0)
    (tmp_path / "alone").mkdir()
    result = Training(
        RunFolder(tmp_path / "alone"),
        config,
        Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])),
        Dataset(*halves, digits().classes, digits().mean, digits().std),
        fabric=whole.search.fabric,
        networks=("child",),
        provenance={},
        deadline=Deadline(),
    ).train()
    assert (record["num_epochs"], record["accuracy_child"]) == (2, result["accuracy_test"])
    assert record["accuracy_parent"] is None


def test_a_parent_that_teaches_is_trained_and_counted(tmp_path: Path) -> None:
    whole = search_whole(tmp_path, HALVING, "train.teacher_weight=0.5")
    assert all(record["accuracy_parent"] is not None for record in whole.units)
    assert HALVING.cost(whole.history).trained == whole.num_gradients == 2 * (3 * 1 + 2 * 2)


# ---------------------------------------------------------------- what an interruption leaves


class Stopped(Exception):
    """What kills a search in a test."""


@contextlib.contextmanager
def killed_in(round_index: int, draw: int, epoch: int) -> Any:
    """What tells a search's progress, and kills it when this epoch begins."""

    def notify(record: Mapping[str, Any]) -> None:
        if record["event"] == "progress":
            assert record["num_epochs"] == 2 ** record["round"]
            if (record["round"], record["draw"], record["epoch"]) == (round_index, draw, epoch):
                raise Stopped

    with pytest.raises(Stopped):
        yield notify


def test_killed_within_a_training_it_goes_on_after_the_last_epoch(tmp_path: Path) -> None:
    whole = search_whole(tmp_path / "whole", HALVING)
    survivor = min(whole.history[3]["kept"])
    with killed_in(1, survivor, 1) as notify:
        HALVING.search(make_search(tmp_path / "run", HALVING, notify=notify))
    folder = tmp_path / "run/trainings"
    assert [path.name for path in folder.iterdir()] == [f"round-1-draw-{survivor}"]
    again = search_whole(tmp_path / "run", HALVING)
    assert again.num_steps == 1 + 2  # one of two epochs is left, and another training
    assert not folder.exists()
    assert again.genotype == whole.genotype
    assert without_seconds(again.history) == without_seconds(whole.history)
    assert tensors_of(again.search.run) == whole.tensors()


def test_the_folder_of_a_recorded_training_is_not_taken_for_another(tmp_path: Path) -> None:
    """Killed after a training was recorded, and before its folder was removed."""
    whole = search_whole(tmp_path / "whole", HALVING)
    with killed_in(0, 2, 0) as notify:
        HALVING.search(make_search(tmp_path / "run", HALVING, notify=notify))
    left = tmp_path / "run/trainings/round-0-draw-1"
    left.mkdir()
    (left / "result.json").write_text('{"accuracy_test": 1.0, "accuracy_parent_test": null, "seconds": 0.0}')
    again = search_whole(tmp_path / "run", HALVING)
    assert not left.exists()
    assert without_seconds(again.history) == without_seconds(whole.history)


def test_a_history_without_its_checkpoint_is_not_begun_again(tmp_path: Path) -> None:
    whole = search_whole(tmp_path, HALVING)
    whole.search.run.checkpoint.unlink()
    with pytest.raises(RunError, match="is missing"):
        HALVING.search(make_search(tmp_path, HALVING))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "trainings").write_text("a file")
    with pytest.raises((RunError, OSError)) as caught:
        HALVING.search(make_search(tmp_path, HALVING))
    assert isinstance(caught.value, RunError)
    assert str(tmp_path / "trainings") in str(caught.value)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["train.gradient_accumulation_steps=4"], "does not divide into 4 gradient accumulation steps"),
        (["train.teacher_weight=1", "train.teacher=/none"], "the teacher /none does not exist"),
    ],
)
def test_a_recipe_that_half_of_the_images_cannot_have_is_refused_before(
    overrides: list[str], match: str, tmp_path: Path
) -> None:
    """Also on a cluster, where the device is not known yet."""
    search = make_search(tmp_path, HALVING, *overrides)
    for fabric in (search.fabric, None):
        with pytest.raises(UsageError, match=match):
            HALVING.check(search.config, search.dataset, fabric)
