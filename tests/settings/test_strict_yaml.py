"""YAML written by hand: what YAML would silently read as something else is one line, in files and in --set."""

import re
from pathlib import Path

import pytest

from cpnas_cli.errors import UsageError
from cpnas_cli.settings import Config, config_yaml, load_config


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*overrides: str, source: str | Path = "digits") -> str:
    with pytest.raises(UsageError) as caught:
        load_config(source, overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


NESTED = "[" * 5000 + "]" * 5000

BOMB = """\
network:
  shortcut: &a [x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x]
  real_parts: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]
  estimator: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]
"""


# ---------------------------------------------------------------- given twice


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("seed: 1\nseed: 2\n", "seed", "lines 1 and 2"),
        ("seed: 1\n'seed': 1\n", "seed", "lines 1 and 2"),  # the same value, too
        (
            "data:\n  name: folder\nnetwork:\n  num_cells: 3\nseed: 1\nnetwork:\n  num_cells: 4\n",
            "network",
            "lines 3 and 6",
        ),
        ("search:\n  batch_size: 8\n  # half\n  batch_size: 16\n", "search.batch_size", "lines 2 and 4"),
        ("search: {batch_size: 8, batch_size: 16}", "search.batch_size", "line 1"),
        ("search: {num_passes: 1}\nsearch: 3", "search", "lines 1 and 2"),
        ("data: {name: [{x: 1, x: 2}]}", "data.name.x", "line 1"),
    ],
)
def test_a_key_that_is_given_twice_is_named_with_its_lines(text: str, key: str, lines: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    assert refusal(source=path) == f"{path}: {key} is given twice, in {lines}; leave one of them"


def test_the_same_name_in_two_sections_is_not_twice(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "search: {batch_size: 8}\ntrain: {batch_size: 16}\n"))
    assert (config.search.batch_size, config.train.batch_size) == (8, 16)


def test_given_twice_within_one_value_of_an_option() -> None:
    assert refusal("network={num_cells: 3, num_cells: 4}").startswith("--set network: num_cells is given twice")


# ---------------------------------------------------------------- aliases and depth


def test_an_alias_is_refused_and_a_bomb_of_them_is_not_built(tmp_path: Path) -> None:
    path = write(tmp_path, BOMB)
    assert refusal(source=path) == f"{path}: *a in line 3 stands for another value; write the value itself there"
    path = write(tmp_path, "train: &train {batch_size: 8}\nsearch: *train\n")
    assert "*train in line 2" in refusal(source=path)
    path = write(tmp_path, "seed: &itself [*itself]")
    assert "*itself in line 1" in refusal(source=path)
    assert "*nothing in line 1" in refusal("seed=*nothing")


def test_a_name_for_a_value_that_nobody_uses_is_harmless(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "seed: &seed 3")).seed == 3


def test_what_is_nested_too_deeply_is_no_traceback(tmp_path: Path) -> None:
    path = write(tmp_path, f"seed: {NESTED}")
    assert refusal(source=path) == f"{path} is not valid YAML: it is nested too deeply"
    with pytest.raises(UsageError, match="is not a YAML value"):
        load_config(overrides=[f"seed={NESTED}"])


# ---------------------------------------------------------------- numbers that are others


@pytest.mark.parametrize(
    ("typed", "meant"), [("010", "10"), ("0777", "777"), ("00", "0"), ("-010", "-10"), ("+010", "10"), ("0_1", "1")]
)
def test_a_number_that_yaml_reads_as_octal_is_refused(typed: str, meant: str, tmp_path: Path) -> None:
    expected = f"a number that begins with 0 is octal in YAML, got {typed}; write {meant}, or '{typed}' for a text"
    assert refusal(f"seed={typed}") == f"--set seed: {expected}"
    path = write(tmp_path, f"search:\n  num_passes: {typed}\n")
    assert refusal(source=path) == f"{path}: search.num_passes: {expected}"
    path = write(tmp_path, f"network: {{real_parts: [{typed}]}}\n")
    assert refusal(source=path) == f"{path}: network.real_parts: {expected}"


@pytest.mark.parametrize("typed", ["1:30", "190:20:30", "1:30.5"])
def test_a_number_that_yaml_reads_to_the_base_60_is_refused(typed: str) -> None:
    assert f"YAML reads {typed} to the base 60" in refusal(f"seed={typed}")


@pytest.mark.parametrize(
    ("typed", "read"), [("0", 0), ("10", 10), ("1_000", 1000), ("0x10", 16), ("0b11", 3), ("1e2", 100), ("0.0", 0)]
)
def test_numbers_that_mean_what_they_look_like(typed: str, read: int, tmp_path: Path) -> None:
    assert load_config(overrides=[f"seed={typed}"]).seed == read
    if typed != "1e2":  # which is a text in a file, as in YAML 1.1
        assert load_config(write(tmp_path, f"seed: {typed}")).seed == read


def test_a_number_by_its_tag_is_as_surprising(tmp_path: Path) -> None:
    assert "octal in YAML, got 010" in refusal(source=write(tmp_path, "seed: !!int '010'"))


def test_a_quoted_number_is_a_text(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "data: {name: folder, dir: '010'}")).data.dir == "010"
    assert load_config(overrides=["data.name=folder", "data.dir='1:30'"]).data.dir == "1:30"


# ---------------------------------------------------------------- true and false


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "true", "false", "True"])
@pytest.mark.parametrize(
    "key", ["seed", "train.num_epochs", "search.beta_p", "data.num_channels", "data.num_train", "network.stem_stride"]
)
def test_true_is_not_one(key: str, word: str) -> None:
    value = word.lower() in ("yes", "on", "true")
    assert refusal(f"{key}={word}").startswith(f"{key}: expected a number, got {value}; YAML reads yes and on as true")


@pytest.mark.parametrize(("word", "flip"), [("yes", True), ("off", False), ("true", True), ("false", False)])
def test_true_is_true_where_it_is_asked_for(word: str, flip: bool) -> None:
    assert load_config(overrides=[f"data.flip={word}"]).data.flip is flip


# ---------------------------------------------------------------- what a run wrote


def test_a_stored_file_is_read_as_strictly(tmp_path: Path) -> None:
    text = config_yaml(Config(seed=3))
    assert load_config(write(tmp_path, text)) == Config(seed=3)
    assert re.search("train is given twice", refusal(source=write(tmp_path, f"{text}train:\n  num_epochs: 3\n")))
