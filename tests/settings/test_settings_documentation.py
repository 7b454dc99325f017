"""What the settings say about themselves: each field's record, `presets show`, completion, docs/settings.md."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from cpnas_cli.cli.options import _setting_keys
from cpnas_cli.registry import DATASETS, STRATEGIES
from cpnas_cli.settings import (
    Config,
    config_from_document,
    documented_settings,
    documented_yaml,
    flat_settings,
    load_config,
    preset_names,
    settings_markdown,
)
from cpnas_cli.settings.documentation import REGENERATE

ROOT = Path(__file__).parents[2]
RECORDS = {entry.key: entry for entry in documented_settings()}


def test_every_setting_is_documented_in_the_order_of_the_files() -> None:
    assert list(RECORDS) == list(flat_settings(Config()))
    assert {key: entry.default for key, entry in RECORDS.items()} == flat_settings(Config())


@pytest.mark.parametrize("key", RECORDS)
def test_a_setting_says_what_it_decides_and_where_its_default_comes_from(key: str) -> None:
    entry = RECORDS[key]
    assert len(entry.description.split()) >= 2
    assert entry.allowed
    assert re.match(r"ours: .|published(?:$|[,:] .)|DARTS$|PC-DARTS\b", entry.origin), entry.origin
    assert "\n" not in entry.description + entry.origin


@pytest.mark.parametrize(
    ("key", "allowed", "unit", "origin"),
    [
        ("seed", "whole number of 0 or more", "", "ours: "),
        ("data.name", "digits, mnist, fashion-mnist, cifar10, cifar100 or folder", "", "ours: "),
        ("data.dir", "text, or null", "", "ours: "),
        ("data.image_size", "whole number from 4 to 1024", "pixels", "ours: "),
        ("data.num_channels", "1 or 3, or null", "", "ours: "),
        ("data.num_train", "whole number of 2 or more, or null", "images", "ours: "),
        ("network.num_channels", "whole number from 2 to 1024, a multiple of 2", "channels", "PC-DARTS"),
        ("network.real_parts", "list of preprocessing or factorized_reduction", "", "ours: "),
        ("search.strategy", "cpnas, bnas, random, pcdarts, halving, fair or spos", "", "published"),
        ("search.beta_p", "number of 0 or more", "", "ours: a small one ranks best"),
        ("search.validation_fraction", "number above 0, below 1", "", "published"),
        ("pcdarts.frozen_epochs", "whole number of 0 or more", "epochs", "PC-DARTS"),
        ("halving.num_rounds", "whole number from 1 to 16", "rounds", "ours: "),
        ("fair.num_scored_images", "whole number of 1 or more, or null", "images", "ours: "),
        ("spos.mutation_probability", "number above 0, up to 1", "", "ours: that of SPOS"),
        ("train.class_mean_rate", "number above 0, up to 1", "", "ours: "),
        ("train.compile", "true or false", "", "ours: "),
    ],
)
def test_range_unit_and_origin_in_words(key: str, allowed: str, unit: str, origin: str) -> None:
    entry = RECORDS[key]
    assert (entry.allowed, entry.unit) == (allowed, unit)
    assert entry.origin.startswith(origin)


@pytest.mark.parametrize("key", [key for key in RECORDS if "number" in RECORDS[key].allowed])
def test_the_range_in_words_is_the_range(key: str) -> None:
    """The bound itself and the next number beyond it."""
    allowed = RECORDS[key].allowed
    step = 1 if "whole" in allowed else 1e-6

    def is_allowed(value: float) -> bool:
        section, _, name = key.rpartition(".")
        try:
            Config.model_validate({section: {name: value}} if section else {name: value})
        except ValidationError as error:  # what must fit together is tested elsewhere
            return not any(".".join(map(str, one["loc"])) == key for one in error.errors())
        return True

    numbers = {
        word: float(number) for word, number in re.findall(r"\b(of(?= \d+ or)|from|above|to|below) ([\d.]+)", allowed)
    }
    multiple = int((re.findall("multiple of ([0-9]+)", allowed) or [1])[0])
    assert numbers
    for word, inside, outside in (
        ("of", 0, -step),
        ("from", 0, -step * multiple),
        ("to", 0, step * multiple),
        ("above", step, 0),
        ("below", -step, 0),
    ):
        if word in numbers:
            assert is_allowed(numbers[word] + inside), word
            assert not is_allowed(numbers[word] + outside), word


def test_names_are_those_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "toy", "toys:TOY")
    monkeypatch.setitem(DATASETS, "blocks", "toys:BLOCKS")
    records = {entry.key: entry for entry in documented_settings()}
    assert records["search.strategy"].allowed.endswith("spos or toy")
    assert records["data.name"].allowed.endswith("folder or blocks")


# ---------------------------------------------------------------- presets show


@pytest.mark.parametrize("name", preset_names())
def test_what_is_shown_of_a_preset_loads_to_the_preset(name: str, tmp_path: Path) -> None:
    text = documented_yaml(name)
    assert config_from_document(yaml.safe_load(text)) == load_config(name)
    path = tmp_path / "shown.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path) == load_config(name)


@pytest.mark.parametrize("name", preset_names())
def test_what_is_shown_is_whole_and_says_what_and_why(name: str) -> None:
    """Above each value what it decides, behind it the preset's reason or else the default's origin."""
    lines = documented_yaml(name).splitlines()
    own = (ROOT / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    assert lines[0] == own.splitlines()[0]
    section, found = "", []
    for above, line in itertools.pairwise(lines):
        if re.fullmatch(r"\w+:", line):
            section = line[:-1]
        elif match := re.fullmatch(r"( *)(\w+): (.+?)  # (.+)", line):
            key = f"{section}.{match[2]}" if match[1] else match[2]
            found.append(key)
            assert above.startswith(f"{match[1]}# {RECORDS[key].description} [")
            in_preset = re.search(rf"^{section}:\n(?:  .*\n)*?  {match[2]}: .*? # (.+)$", own, re.MULTILINE)
            assert match[4] == (in_preset[1] if in_preset and section else RECORDS[key].origin)
        else:
            assert line == "" or line.lstrip().startswith("#"), line
    assert found == list(RECORDS)


# ---------------------------------------------------------------- completion and docs


def test_completion_gives_every_key_with_its_help() -> None:
    assert [value for value, _ in _setting_keys("")] == [f"{key}=" for key in RECORDS]
    assert _setting_keys("data.im") == [
        ("data.image_size=", f"{RECORDS['data.image_size'].description} [pixels, whole number from 4 to 1024]")
    ]
    assert _setting_keys("nothing") == []


def test_the_page_of_the_settings_is_current() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert text == settings_markdown(), f"docs/settings.md is out of date; run: {REGENERATE}"
    assert REGENERATE in text


def test_the_command_that_makes_the_page_makes_it() -> None:
    command = REGENERATE.partition(" > ")[0].split()
    assert command[0] == "python"
    made = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, encoding="utf-8", check=True)
    assert (made.stdout, made.stderr) == (settings_markdown(), "")


def test_the_page_has_every_setting_and_every_preset() -> None:
    page = settings_markdown()
    for key, entry in RECORDS.items():
        (row,) = re.findall(
            rf"^\| `{re.escape(key)}` \| `.*` \| .* \| {re.escape(entry.unit)} \|.*$", page, re.MULTILINE
        )[:1]
        assert entry.origin in row
        assert row.replace("\\|", "").count("|") == 7
    for name in preset_names():
        assert f"\n### {name}\n" in page
    assert "](docs/settings.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
