"""Recipes and tables on held-out training images: what is switched, what is paired, and that a table stays its own."""

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import architecture_table, baseline_rates, found, recipe
from benchmarks.held_out import held_out, settings_of_table, trains_alike
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.settings import load_config
from cpnas_cli.storage.documents import write_json

TINY = (
    "data.num_train=40",
    "network.num_channels=4",
    "network.group_width=2",
    "network.stem_multiplier=1",
    "search.num_channels=4",
    "search.batch_size=10",
    "train.batch_size=10",
    "train.num_epochs=1",
    "spos.num_epochs=1",
    "spos.num_scored=4",
    "spos.num_parents=2",
)


# ---------------------------------------------------------------- ingredients


def test_every_ingredient_is_off_in_the_plain_recipe_and_alone_in_its_variant() -> None:
    base = load_config("cifar10-small")
    recommended = {name for name in recipe.INGREDIENTS if recipe.is_on(base, name)}
    assert {"block", "soft targets of the Parent", "stem of two convolutions"} <= recommended < set(recipe.INGREDIENTS)
    found_variants = list(recipe.variants(base))
    assert len(found_variants) == 2 + 2 * len(recipe.INGREDIENTS)
    (plain,) = [settings for kind, name, settings in found_variants if (kind, name) == ("plain", "")]
    off = load_config("cifar10-small", overrides=plain)
    assert [name for name in recipe.INGREDIENTS if recipe.is_on(off, name)] == []
    for kind, name, settings in found_variants:
        if not name:
            continue
        config = load_config("cifar10-small", overrides=settings)
        expected = (kind == "plain") or name not in recommended
        assert recipe.is_on(config, name) == expected, (kind, name)


def test_halves_and_quarters_are_of_the_preset() -> None:
    config = load_config("cifar10-small")
    assert recipe.in_numbers("train.first_stage_epochs=HALF", config) == "train.first_stage_epochs=10"
    assert recipe.in_numbers("data.cutout=QUARTER", config) == "data.cutout=8"


def test_a_pair_is_of_one_seed_and_its_sign_says_what_presence_brings() -> None:
    runs = [
        ("recommended", "", 0, 0.80),
        ("recommended", "", 1, 0.70),
        ("recommended", "cutmix 1", 0, 0.78),  # is not in it: switched on, and harms
        ("recommended", "cutmix 1", 1, 0.66),
        ("recommended", "block", 0, 0.75),  # is in it: switched off, and is missed
        ("recommended", "block", 1, 0.65),
        ("plain", "", 0, 0.50),
        ("plain", "block", 0, 0.60),
    ]
    document = {
        "recommended": ["block"],
        "runs": [dict(zip(("base", "ingredient", "seed", "accuracy"), run, strict=True)) for run in runs],
    }
    rows = {(row["base"], row["ingredient"]): row for row in recipe.table(document)}
    assert rows["recommended", "cutmix 1"]["points"] == pytest.approx(-3)
    assert rows["recommended", "cutmix 1"]["interval"] == pytest.approx(12.706 * 1, rel=1e-3)  # t(0.975, 1) * 1 point
    assert rows["recommended", "block"]["points"] == pytest.approx(5)
    assert rows["recommended", "block"]["interval"] == pytest.approx(0, abs=1e-6)
    assert rows["plain", "block"]["points"] == pytest.approx(10)
    assert math.isinf(rows["plain", "block"]["interval"])  # one pair
    assert len(rows) == 3


# ---------------------------------------------------------------- tables


def tiny_table(*, num_genotypes: int, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    settings = [*TINY, *overrides]
    config = load_config("digits", overrides=settings)
    shape = Surroundings(config.data.image_size, 1, 10)
    rows = [architecture_table.genotype_row(config, shape, draw=draw) for draw in range(num_genotypes)]
    return {
        "preset": "digits",
        "settings": settings,
        "num_held_out": 30,
        "config": config.model_dump(mode="json"),
        "genotypes": rows,
    }


def test_a_table_trains_as_it_was_made_whatever_its_preset_is_now() -> None:
    table = tiny_table(num_genotypes=1)
    table["config"]["train"]["learning_rate"] = 0.0123  # what the preset had then
    table["config"]["search"]["beta_p"] = 7  # which no training reads
    del table["config"]["data"]["test_fraction"]  # a setting that is newer than the table
    config = settings_of_table(table, ["search.strategy=spos", "seed=3"])
    assert (config.train.learning_rate, config.train.num_epochs, config.seed) == (0.0123, 1, 3)
    assert (config.search.strategy, config.search.beta_p) == ("spos", load_config("digits").search.beta_p)
    assert trains_alike(config, table)
    assert not trains_alike(load_config("digits", overrides=TINY), table)


def test_a_table_holds_both_networks_without_a_teacher_and_finds_are_trained_like_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of one architecture and two seeds, one search, its find trained with both seeds; and nothing twice."""
    table = tiny_table(num_genotypes=1)
    row = table["genotypes"][0]
    assert row["num_parameters"] > row["size_bits"] / 32
    for seed in (0, 1):
        config = settings_of_table(table, [f"seed={seed}"])
        assert config.train.teacher_weight == 0
        row["runs"].append(architecture_table.run_of(config, draw=0, num_held_out=30))
    for run in row["runs"]:
        assert 0 <= run["accuracy_parent"] <= 1
        assert run["seconds_parent"] > 0
        assert len(run["loss_child"]) == len(run["loss_parent"]) == 1
    path = tmp_path / "table.json"
    write_json(path, {"schema": "cpnas.architecture-table/1", **table})
    words = [str(path), "--out", str(tmp_path / "found.json"), "--searches", "spos", "--seeds", "0"]
    found.main(words)
    document = json.loads((tmp_path / "found.json").read_text())
    (run,) = document["runs"]
    assert (run["kind"], run["seed"], sorted(run["accuracies"])) == ("spos", 0, ["0", "1"])

    def fail(*_: object) -> None:
        raise AssertionError("it is in the file")

    monkeypatch.setattr(found, "search", fail)
    found.main(words)
    assert json.loads((tmp_path / "found.json").read_text())["runs"] == [run]

    again = [*words[:2], str(tmp_path / "wider.json"), *words[3:], "--again", str(tmp_path / "found.json")]
    found.main([*again, "--again-set", "network.num_channels=8", "--again-set", "network.group_width=8"])
    (wider,) = json.loads((tmp_path / "wider.json").read_text())["runs"]
    assert {key: wider[key] for key in ("kind", "seed", "normal", "reduce", "seconds")} == {
        key: run[key] for key in ("kind", "seed", "normal", "reduce", "seconds")
    }
    assert wider["size_bits"] > run["size_bits"]
    with pytest.raises(SystemExit):
        found.main([*again, "--again-set", "network.num_channels=16"])
    assert "wider.json was made with ['network.num_channels=8'" in capsys.readouterr().err


def test_what_is_trained_again_is_asked_for_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.json"
    write_json(table, tiny_table(num_genotypes=1))
    other = tmp_path / "found.json"
    write_json(other, {"runs": [{"kind": "spos", "seed": 1}]})
    words = [str(table), "--out", str(tmp_path / "wider.json"), "--searches", "spos", "--seeds", "0,1"]
    with pytest.raises(SystemExit):
        found.main([*words, "--again", str(other)])
    assert "found.json has no search of spos 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        found.main([*words, "--again-set", "network.num_channels=8"])
    assert "--again-set: expected with --again" in capsys.readouterr().err


def test_every_search_can_be_named_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A comma parts the names; all of them are the default."""
    assert ",".join(found.SEARCHES).split(",") == list(found.SEARCHES)
    with pytest.raises(SystemExit):
        found.main(["table.json", "--out", str(tmp_path / "found.json"), "--searches", "spos,luck"])
    assert "--searches: luck: expected of fair, spos, cpnas" in capsys.readouterr().err


def test_a_run_of_a_table_says_where_it_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun on another machine: what was trained there stays as it is."""

    def threads(workers: int, *, mp_context: object) -> ThreadPoolExecutor:
        del mp_context
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(architecture_table, "ProcessPoolExecutor", threads)
    path = tmp_path / "table.json"
    words = ["--out", str(path), "--preset", "digits", "--held-out", "30", "--genotypes", "1"]
    words += [word for setting in TINY for word in ("--set", setting)]
    for seeds, torch_version in (("0", torch.__version__), ("0,1", "another")):
        monkeypatch.setattr(torch, "__version__", torch_version)
        monkeypatch.setattr(sys, "argv", ["architecture_table", *words, "--seeds", seeds])
        architecture_table.main()
    document = json.loads(path.read_text())
    (first, second) = document["genotypes"][0]["runs"]
    assert "environment" not in first
    assert second["environment"] == {**document["environment"], "torch": "another"}


def test_held_out_images_train_nothing() -> None:
    config = load_config("digits", overrides=TINY)
    dataset = held_out(config, 30)
    assert (len(dataset.train), len(dataset.test)) == (40, 30)
    train, test = (part.images.flatten(1) for part in (dataset.train, dataset.test))
    assert not torch.any(torch.all(train[:, None] == test[None], dim=2))
    with pytest.raises(SystemExit, match=r"expected a preset with data\.num_train"):
        held_out(load_config("digits"), 30)


def test_the_rates_of_a_plain_cnn_are_each_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [word for setting in TINY for word in ("--set", setting)]
    out = tmp_path / "rates.json"
    words = ["--preset", "digits", "--out", str(out), "--width", "3", "--held-out", "30", "--seeds", "0", *settings]
    baseline_rates.main([*words, "--rates", "0.003,0.03"])
    runs = json.loads(out.read_text())["runs"]
    assert [(run["learning_rate"], run["seed"]) for run in runs] == [(0.003, 0), (0.03, 0)]
    assert all(0 <= run["accuracy"] <= 1 for run in runs)
    monkeypatch.setattr(baseline_rates, "accuracy_of", lambda *_, **__: 0.5)
    baseline_rates.main([*words, "--rates", "0.003,0.01"])
    again = json.loads(out.read_text())["runs"]
    assert again == [*runs, {"learning_rate": 0.01, "seed": 0, "accuracy": 0.5}]
    rows = baseline_rates.rows_of(again)
    assert [row["learning rate"] for row in rows] == ["0.003", "0.01", "0.03"]
    assert rows[1]["accuracy %"] == 50
