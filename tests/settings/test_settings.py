"""Presets, overrides, refusals and the round trip of the settings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cpnas_cli.errors import CpnasError, UsageError
from cpnas_cli.registry import DATASETS, STRATEGIES
from cpnas_cli.settings import (
    DEFAULT_PRESET,
    Config,
    SearchConfig,
    change_config,
    config_from_document,
    config_yaml,
    differing_settings,
    flat_settings,
    load_config,
    preset_names,
    preset_summary,
    preset_text,
    presets_folder,
)

LEARNING = ("search", "pcdarts", "train")
"""The sections with a learning rate that falls along a cosine."""

FEW = settings(max_examples=30, deadline=None, derandomize=True)

# The names that users, papers and other programs rely on.
FIXED_NAMES = {
    *("seed", "data.name", "data.image_size", "search.strategy", "search.beta_p", "search.num_passes"),
    *("network.num_cells", "network.num_channels", "train.num_epochs", "train.batch_size"),
    *("train.lambda_compactness", "train.kernel_weight"),
}


def leaves(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def refusal(*overrides: str) -> str:
    """The message with which these changes to the default preset are refused: one line, exit code 2."""
    with pytest.raises(UsageError) as caught:
        load_config(overrides=overrides)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, CpnasError)
    assert "\n" not in message
    return message


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---------------------------------------------------------------- presets


def test_there_are_presets() -> None:
    assert DEFAULT_PRESET == "digits"
    assert DEFAULT_PRESET in preset_names()
    assert {path.name for path in presets_folder().iterdir()} == {f"{name}.yaml" for name in preset_names()}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_what_its_file_says(name: str) -> None:
    written = dict(leaves(yaml.safe_load(preset_text(name))))
    assert written
    chosen = {"network.stem_stride": 4} if name == "folder" else {}  # null there: by the size of the images
    assert flat_settings(load_config(name)) == flat_settings(Config()) | written | chosen


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_holds_only_what_differs_each_with_its_reason(name: str) -> None:
    defaults = flat_settings(Config())
    assert {key for key, value in leaves(yaml.safe_load(preset_text(name))) if defaults[key] == value} == set()
    for line in preset_text(name).splitlines():
        if line.startswith("  "):
            comment = line.partition(" # ")[2]
            assert comment not in ("", "ours"), line
            assert not comment.startswith("ours") or re.match("ours: .{5}", comment), line


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_survives_writing_and_reading(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert load_config(write(tmp_path, config_yaml(config))) == config


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_what_it_is(name: str) -> None:
    summary = preset_summary(name)
    assert summary.count("\n") == 0
    assert len(summary.split()) >= 2
    assert preset_text(name).startswith(f"# {summary.split()[0]}")


def test_the_default_preset_is_a_search_by_cp_nas() -> None:
    config = load_config()
    assert (config.search.strategy, config.search.beta_p, config.seed) == ("cpnas", 0.25, 0)
    assert (config.data.name, config.data.image_size) == ("digits", 8)
    assert config.network.real_parts == ()


def test_an_unknown_preset_lists_the_presets() -> None:
    with pytest.raises(UsageError) as caught:
        load_config("digit")
    message = str(caught.value)
    assert "unknown preset 'digit'; did you mean 'digits'?" in message
    assert all(name in message for name in preset_names())
    with pytest.raises(UsageError, match="unknown preset 'zzzz'; choose from"):
        preset_text("zzzz")
    with pytest.raises(UsageError, match=r"unknown preset '\.\./presets/digits'"):
        preset_text("../presets/digits")


def test_the_fixed_names_are_there() -> None:
    assert flat_settings(Config()).keys() >= FIXED_NAMES


# ---------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.learning_rate=1e-3", "train.learning_rate", 0.001),  # which YAML 1.1 reads as a text
        ("train.learning_rate=1.0e-3", "train.learning_rate", 0.001),
        ("train.lambda_compactness=2E-05", "train.lambda_compactness", 0.00002),
        ("train.num_epochs=1e2", "train.num_epochs", 100),
        ("search.beta_p=3", "search.beta_p", 3.0),
        ("search.beta_p=0", "search.beta_p", 0.0),
        (" seed = 7", "seed", 7),
        ("data.flip=true", "data.flip", True),
        ("data.dir=/data/x=y", "data.dir", "/data/x=y"),
        ("data.dir=null", "data.dir", None),
        ("data.num_channels=3", "data.num_channels", 3),
        ("network.real_parts=[preprocessing]", "network.real_parts", ["preprocessing"]),
        ("network.estimator=polynomial", "network.estimator", "polynomial"),
    ],
)
def test_an_override_changes_its_setting_and_no_other(text: str, key: str, value: Any) -> None:
    base = ["data.name=folder", "data.dir=there"]
    before, after = flat_settings(load_config(overrides=base)), flat_settings(load_config(overrides=[*base, text]))
    assert after[key] == value
    assert type(after[key]) is type(value)
    assert {k: v for k, v in after.items() if k != key} == {k: v for k, v in before.items() if k != key}


def test_later_changes_win_and_values_come_last() -> None:
    overrides = ["seed=1", "seed=2", "search.num_passes=3"]
    assert load_config(overrides=overrides).seed == 2
    config = load_config(overrides=overrides, values={"seed": 4, "search.num_passes": None, "search.beta_p": 0.5})
    assert (config.seed, config.search.num_passes, config.search.beta_p) == (4, 3, 0.5)
    assert load_config().seed == 0  # nothing is left behind


@pytest.mark.parametrize("text", ["seed", "=3", "", " =3"])
def test_an_override_has_a_key_and_a_value(text: str) -> None:
    assert "--set expects section.key=value" in refusal(text)


def test_an_override_that_is_no_yaml() -> None:
    assert "--set seed: '[1' is not a YAML value" in refusal("seed=[1")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("search.num_pases", "search.num_passes"),
        ("train.lambda", "train.lambda_compactness"),
        ("network.num_chanels", "network.num_channels"),
        ("beta_p", "search.beta_p"),
        ("image_size", "data.image_size"),
        ("sede", "seed"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    assert f"unknown setting {key!r}; did you mean {nearest!r}?" in refusal(f"{key}=1")


@pytest.mark.parametrize("key", ["zzz", "zzz.zzz.zzz", "search.", ".seed", "search.beta_p.value"])
def test_an_unknown_key_without_a_neighbour(key: str) -> None:
    assert "unknown setting" in refusal(f"{key}=1")


@pytest.mark.parametrize("value", ["1", "[]", "null", "text"])
def test_a_section_is_no_value(value: str) -> None:
    assert "search is a section" in refusal(f"search={value}")


@pytest.mark.parametrize(
    ("text", "key", "came"),
    [
        ("search.beta_p=two", "search.beta_p", "'two'"),
        ("search.beta_p=-0.1", "search.beta_p", "-0.1"),
        ("search.beta_p=.inf", "search.beta_p", "inf"),
        ("search.beta_p=nan", "search.beta_p", "nan"),
        ("search.beta_p=", "search.beta_p", "None"),
        ("search.num_passes=0", "search.num_passes", "0"),
        ("search.num_passes=1.5", "search.num_passes", "1.5"),
        ("seed=-1", "seed", "-1"),
        ("seed={x: 1}", "seed", "{'x': 1}"),
        ("network.num_cells=2", "network.num_cells", "2"),
        ("network.num_channels=0", "network.num_channels", "0"),
        ("network.estimator=tanh", "network.estimator", "'tanh'"),
        ("network.clip_bound=0", "network.clip_bound", "0"),
        ("network.clip_bound=10.5", "network.clip_bound", "10.5"),
        ("network.latents=centred", "network.latents", "'centred'"),
        ("network.scale=max", "network.scale", "'max'"),
        ("network.recu=2", "network.recu", "2"),
        ("network.real_parts=[stem]", "network.real_parts", "'stem'"),
        ("network.stem_stride=3", "network.stem_stride", "3"),
        ("data.name=imagenet", "data.name", "'imagenet'"),
        ("data.image_size=0", "data.image_size", "0"),
        ("data.num_channels=2", "data.num_channels", "2"),
        ("data.crop_padding=-1", "data.crop_padding", "-1"),
        ("train.num_epochs=0", "train.num_epochs", "0"),
        ("train.batch_size=1", "train.batch_size", "1"),
        ("train.learning_rate=0", "train.learning_rate", "0"),
        ("train.lambda_compactness=-1e-6", "train.lambda_compactness", "-1e-06"),
        ("train.kernel_weight=-1", "train.kernel_weight", "-1"),
        ("search.validation_fraction=1", "search.validation_fraction", "1"),
    ],
)
def test_a_value_out_of_range_names_key_and_value(text: str, key: str, came: str) -> None:
    message = refusal(text)
    assert message.startswith(f"{key}: ")
    assert f", got {came}; " in message


@pytest.mark.parametrize(("image_size", "stem_stride", "factor"), [(9, 1, 4), (7, 1, 4), (10, 1, 4), (12, 2, 8)])
def test_an_image_that_cannot_be_halved_twice(image_size: int, stem_stride: int, factor: int) -> None:
    message = refusal(f"data.image_size={image_size}", f"network.stem_stride={stem_stride}")
    assert f"data.image_size must be a multiple of {factor}" in message
    assert f"got {image_size}" in message


@pytest.mark.parametrize(("image_size", "stem_stride"), [(4, 1), (12, 1), (8, 2), (224, 4)])
def test_an_image_that_can(image_size: int, stem_stride: int) -> None:
    config = load_config(overrides=[f"data.image_size={image_size}", f"network.stem_stride={stem_stride}"])
    assert config.data.image_size == image_size


@pytest.mark.parametrize("num_channels", [3, 15])
def test_odd_channels_are_refused(num_channels: int) -> None:
    message = refusal(f"network.num_channels={num_channels}")
    assert message.startswith("network.num_channels: input should be a multiple of 2")
    assert f"got {num_channels}" in message
    assert "search.num_channels" in refusal(f"search.num_channels={num_channels}")
    assert load_config(overrides=["network.num_channels=2"]).network.num_channels == 2


def test_a_folder_for_digits_is_refused() -> None:
    """It would be ignored, and the numbers taken for those of one's own images."""
    assert refusal("data.dir=images").startswith("data.name=digits reads no folder")


@pytest.mark.parametrize(
    ("text", "table", "nearest"),
    [
        ("search.strategy=cp-nas", STRATEGIES, "'cpnas'"),
        ("search.strategy=rnadom", STRATEGIES, "'random'"),
        ("data.name=fodler", DATASETS, "'folder'"),
        ("data.name=cifar", DATASETS, "'cifar10'"),
    ],
)
def test_an_unknown_name_lists_the_choices_and_the_nearest(text: str, table: dict[str, str], nearest: str) -> None:
    message = refusal(text)
    assert all(f"'{name}'" in message for name in table)
    assert f"got {text.partition('=')[2]!r}; did you mean {nearest}?" in message


@pytest.mark.parametrize("value", ["3", "null", "[cpnas]", "{cpnas: 1}", "zzzz", "''"])
def test_what_resembles_no_name_is_refused_without_a_guess(value: str) -> None:
    for key in ("search.strategy", "data.name"):
        message = refusal(f"{key}={value}")
        assert message.startswith(f"{key}: input should be '")
        assert "did you mean" not in message


def test_a_name_is_allowed_as_soon_as_the_registry_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line there adds a strategy or a data set; the settings hold no list of their own."""
    monkeypatch.setitem(STRATEGIES, "toy", "cpnas_cli.strategies.random:RANDOM")
    monkeypatch.setitem(DATASETS, "blocks", "cpnas_cli.data.folder:FOLDER")
    config = load_config(overrides=["search.strategy=toy", "data.name=blocks", "data.dir=there"])
    assert (config.search.strategy, config.data.name, config.search.beta_p) == ("toy", "blocks", 0.25)
    monkeypatch.undo()
    assert "'toy'" in refusal("search.strategy=toy")


# ---------------------------------------------------------------- what an older version did not ask


RULES = {"indicator": "printed", "evaluation": "after_draw", "credit": "draw", "performance": "accuracy"}
PUBLISHED = {**RULES, "warmup_epochs": 0, "scored_passes": 0, "beta_p": 2.0}
NEW = (*RULES, "warmup_epochs", "scored_passes")


def older(tmp_path: Path, *overrides: str) -> Path:
    """The settings of a run as a version without these settings wrote them."""
    document = load_config(overrides=list(overrides or ["search.beta_p=2"])).model_dump(mode="json")
    for key in NEW:
        del document["search"][key]
    for section in ("halving", "fair", "spos"):
        del document[section]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.mark.parametrize("stored", [True, False])
def test_a_run_from_before_is_as_it_was(tmp_path: Path, stored: bool) -> None:
    """Whether it is gone on with or run again: its rule was the published one."""
    search = load_config(older(tmp_path), stored=stored).search
    assert {key: getattr(search, key) for key in PUBLISHED} == PUBLISHED
    document = yaml.safe_load(older(tmp_path, "search.strategy=bnas").read_text())
    assert config_from_document(document, stored=True).search.indicator == "printed"


def test_what_is_asked_for_holds_also_for_a_run_from_before(tmp_path: Path) -> None:
    file = older(tmp_path)
    assert load_config(file, overrides=["search.indicator=penalized"], stored=True).search.indicator == "penalized"
    document = yaml.safe_load(file.read_text())
    document["search"]["indicator"] = "penalized"
    assert config_from_document(document, stored=True).search.indicator == "penalized"


def test_a_preset_has_todays_defaults_also_beside_a_run(tmp_path: Path) -> None:
    """A preset is not complete, even with a seed and every section: with --resume it is today's that is compared."""

    def rules(config: Config) -> dict[str, object]:
        return {key: getattr(config.search, key) for key in NEW}

    typed = {"seed": 1, "pcdarts.num_epochs": 3, "data.num_train": 50, "train.num_epochs": 3}
    config = load_config(
        "fashion-mnist-small", values={**typed, "search.num_passes": 2, "search.beta_p": 1}, stored=True
    )
    assert rules(config) == rules(load_config("fashion-mnist-small"))
    (tmp_path / "mine.yaml").write_text("search: {beta_p: 3, num_passes: 2, strategy: cpnas}")
    assert rules(load_config(tmp_path / "mine.yaml", stored=True)) == rules(Config())


def test_the_preset_of_the_paper_has_the_published_rule() -> None:
    search = load_config("paper").search
    assert {key: getattr(search, key) for key in PUBLISHED} == PUBLISHED


# ---------------------------------------------------------------- beta_P of a strategy that fixes it


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_bnas_is_cpnas_at_beta_zero(strategy: str) -> None:
    expected = 0.0 if strategy == "bnas" else 0.25
    for preset in preset_names():
        others = 2.0 if preset == "paper" and strategy != "bnas" else expected  # the paper's own
        assert load_config(preset, values={"search.strategy": strategy}).search.beta_p == others
    assert Config(search=SearchConfig(strategy=strategy)).search.beta_p == expected
    assert config_from_document({"search": {"strategy": strategy}}).search.beta_p == expected
    if strategy != "bnas":
        assert load_config(values={"search.strategy": strategy, "search.beta_p": 3.0}).search.beta_p == 3.0


def test_bnas_at_another_beta_is_refused_however_it_is_asked_for() -> None:
    expected = "search.strategy=bnas is cpnas at beta_P = 0, got search.beta_p=2; use --strategy cpnas"
    assert refusal("search.strategy=bnas", "search.beta_p=2").startswith(expected)
    assert refusal("search.beta_p=2", "search.strategy=bnas").startswith(expected)
    for overrides, values in (
        (["search.beta_p=2"], {"search.strategy": "bnas"}),  # --strategy bnas --set search.beta_p=2
        ([], {"search.strategy": "bnas", "search.beta_p": "2"}),  # --strategy bnas --beta-p 2
    ):
        with pytest.raises(UsageError, match=re.escape(expected)):
            load_config(overrides=overrides, values=values)
    with pytest.raises(ValidationError, match="bnas is cpnas at beta_P = 0"):
        SearchConfig(strategy="bnas", beta_p=2)
    assert load_config(values={"search.strategy": "bnas", "search.beta_p": "0"}).search.beta_p == 0
    assert SearchConfig(strategy="bnas", beta_p=0).beta_p == 0


@pytest.mark.parametrize(
    ("text", "strategy", "beta_p"),
    [
        ("search: {strategy: bnas}", None, 0.0),
        ("search: {strategy: bnas, beta_p: 0}", None, 0.0),  # as a run's config.yaml holds it
        ("search: {strategy: cpnas, beta_p: 2}", "bnas", 0.0),
        ("search: {strategy: cpnas, beta_p: 3.5}", "bnas", 0.0),
        ("search: {beta_p: 3.5}", "bnas", 0.0),
        ("search: {strategy: cpnas, beta_p: 3.5}", "random", 3.5),
        ("search: {strategy: cpnas, beta_p: 3.5}", "cpnas", 3.5),
        ("search: {strategy: cpnas, beta_p: 3.5}", None, 3.5),
        ("search: {strategy: bnas, beta_p: 0}", "cpnas", 0.25),  # that 0 was bnas's
        ("search: {strategy: random, beta_p: 0}", "cpnas", 0.0),
        ("search: {strategy: bnas, beta_p: 2}", None, 0.0),
        ("seed: 1", "bnas", 0.0),
    ],
)
def test_a_beta_that_merely_stands_in_a_file_gives_way_to_the_strategy(
    text: str, strategy: str | None, beta_p: float, tmp_path: Path
) -> None:
    config = load_config(write(tmp_path, text), values={"search.strategy": strategy})
    assert config.search.beta_p == beta_p
    if strategy is not None:
        assert load_config(write(tmp_path, text), overrides=[f"search.strategy={strategy}"]) == config
        assert change_config(load_config(write(tmp_path, text)), {"search.strategy": strategy}) == config


@pytest.mark.parametrize("value", ["two", "-1", "[0]", "yes", ".nan", "null"])
def test_a_file_of_bnas_hides_no_bad_value(value: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^search\.beta_p: "):
        load_config(write(tmp_path, f"search: {{strategy: bnas, beta_p: {value}}}"))


def test_changed_settings_are_those_and_no_others() -> None:
    config = load_config("cifar10", overrides=["search.beta_p=3.5"])
    changed = change_config(config, {"seed": 4, "search.strategy": "random", "search.random_draw": 2})
    expected = {"seed": 4, "search.strategy": "random", "search.random_draw": 2}
    assert flat_settings(changed) == flat_settings(config) | expected
    assert config == load_config("cifar10", overrides=["search.beta_p=3.5"])
    with pytest.raises(UsageError, match=r"unknown setting 'search\.sede'"):
        change_config(config, {"search.sede": 4})


# ---------------------------------------------------------------- what must fit together


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["pcdarts.num_epochs=2"],
            "pcdarts.frozen_epochs=15 must be below pcdarts.num_epochs=2, or the architecture never learns; "
            "add --set pcdarts.frozen_epochs=1;",
        ),
        (
            ["pcdarts.num_epochs=1"],
            "pcdarts.frozen_epochs=15 must be below pcdarts.num_epochs=1, or the architecture never learns; "
            "add --set pcdarts.frozen_epochs=0;",
        ),
        (
            ["halving.num_rounds=5"],
            "halving.num_genotypes=8 cannot be halved after each of halving.num_rounds=5 rounds but the last; "
            "add --set halving.num_genotypes=16, or --set halving.num_rounds=4;",
        ),
        (
            ["halving.num_genotypes=2"],  # fewer genotypes than rounds
            "halving.num_genotypes=2 cannot be halved after each of halving.num_rounds=3 rounds but the last; "
            "add --set halving.num_genotypes=4, or --set halving.num_rounds=2;",
        ),
        (
            ["train.warmup_epochs=5", "train.num_epochs=5"],
            "train.warmup_epochs=5 must be below train.num_epochs=5, or the learning rate never falls; "
            "add --set train.warmup_epochs=2;",
        ),
        (
            ["search.learning_rate=0.004"],
            "search.learning_rate_min=0.005, where the cosine ends, is above search.learning_rate=0.004, "
            "where it begins; add --set search.learning_rate_min=0.004, or less;",
        ),
        (
            ["pcdarts.learning_rate_min=0.10000001"],
            "pcdarts.learning_rate_min=0.10000001, where the cosine ends, is above pcdarts.learning_rate=0.1, "
            "where it begins; add --set pcdarts.learning_rate_min=0.1, or less;",
        ),
        (
            ["train.learning_rate=1e-7", "train.learning_rate_min=1.5e-7"],
            "train.learning_rate_min=1.5e-07, where the cosine ends, is above train.learning_rate=1e-07, "
            "where it begins; add --set train.learning_rate_min=1e-07, or less;",
        ),
        (
            ["network.recu=true", "network.latents=centered"],
            "network.recu needs standardized weights, got network.latents=centered; "
            "add --set network.latents=standardized;",
        ),
        (
            ["train.compile=true", "network.estimator=error_decay"],
            "train.compile cannot have a gradient that changes at every step, got network.estimator=error_decay; "
            "add --set train.compile=false;",
        ),
        (
            ["train.compile=true", "network.latents=standardized", "network.recu=true"],
            "train.compile cannot have a gradient that changes at every step, got network.recu=true; "
            "add --set train.compile=false;",
        ),
    ],
)
def test_what_does_not_fit_together_says_what_to_type(overrides: list[str], message: str) -> None:
    """And what it says is accepted."""
    assert refusal(*overrides).startswith(message)
    typed = re.search("add --set ([^,;]*)", message)
    assert typed is not None
    load_config(overrides=[*overrides, typed[1]])


def test_a_preset_with_a_warmup_says_so_when_the_epochs_are_few() -> None:
    with pytest.raises(
        UsageError, match=r"^train.warmup_epochs=5 must be below train.num_epochs=3, .*warmup_epochs=1;"
    ):
        load_config("cifar10-large", overrides=["train.num_epochs=3"])
    for number in (5, 1):
        with pytest.raises(UsageError, match=f"below train.num_epochs={number}"):
            load_config("cifar10-large", overrides=[f"train.num_epochs={number}"])
    assert load_config("cifar10-large", overrides=["train.num_epochs=6"]).train.warmup_epochs == 5


@pytest.mark.parametrize(
    "overrides",
    [
        ["pcdarts.num_epochs=16"],
        ["pcdarts.num_epochs=1", "pcdarts.frozen_epochs=0"],
        ["train.num_epochs=2", "train.warmup_epochs=1"],
        ["halving.num_genotypes=4"],
        ["halving.num_genotypes=7", "halving.num_rounds=3"],
        ["halving.num_genotypes=1", "halving.num_rounds=1"],
        *([f"{section}.learning_rate=0.3", f"{section}.learning_rate_min=0.3"] for section in LEARNING),
        *([f"{section}.learning_rate=1e-300", f"{section}.learning_rate_min=0"] for section in LEARNING),
    ],
)
def test_the_boundary_is_allowed(overrides: list[str]) -> None:
    load_config(overrides=overrides)


# ---------------------------------------------------------------- files


def test_a_file_of_some_settings_leaves_the_others(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "seed: 3\nsearch: {num_passes: 2}\n"))
    assert flat_settings(config) == flat_settings(Config()) | {"seed": 3, "search.num_passes": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: [1", "is not valid YAML"),
        ("a: b: c", "is not valid YAML"),
        ("\tseed: 1", "is not valid YAML"),
        ("seed: !!python/object:os.system 1", "is not valid YAML"),
        ("", "holds no settings"),
        ("- seed", "holds no settings"),
        ("seed", "holds no settings"),
        ("# nothing\n", "holds no settings"),
        (b"seed: \xff", "cannot read the settings file"),
        ("seed: 1\nsaerch: {}\n", "unknown setting 'saerch'"),
        ("1: 2", "unknown setting '1'"),
        ("search:", "search is a section"),
        ("search: {strategy: nothing}", "search.strategy: input should be"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_config(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path / "folder.yml"):
        if path.suffix == ".yml":
            path.mkdir()
        with pytest.raises(UsageError, match=re.escape(str(path))):
            load_config(path)


def test_a_document_may_come_from_elsewhere() -> None:
    assert config_from_document(Config(seed=5).model_dump(mode="json")) == Config(seed=5)
    with pytest.raises(UsageError, match="unknown setting 'sead'"):
        config_from_document({"sead": 1})


# ---------------------------------------------------------------- the settings themselves


@FEW
@given(
    seed=st.integers(0, 2**70),
    rates=st.tuples(*[st.floats(1e-300, 1e300)] * 2),
    weights=st.tuples(*[st.floats(0, 1e30)] * 3),
    directory=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    num_channels=st.sampled_from([None, 1, 3]),
    real_parts=st.lists(st.sampled_from(["preprocessing", "factorized_reduction"]), unique=True),
)
def test_any_settings_survive_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    rates: tuple[float, float],
    weights: tuple[float, float, float],
    directory: str | None,
    num_channels: int | None,
    real_parts: list[str],
) -> None:
    """Through the file, as a resumed run reads them; also 1e-05, and folders named 'null' or '1e3'."""
    config = config_from_document(
        {
            "seed": seed,
            "data": {"name": "folder", "dir": directory, "num_channels": num_channels},
            "network": {"real_parts": real_parts},
            "search": {"learning_rate": rates[0], "learning_rate_min": 0, "beta_p": weights[0]},
            "train": {"learning_rate": rates[1], "kernel_weight": weights[1], "lambda_compactness": weights[2]},
        }
    )
    path = write(tmp_path_factory.getbasetemp(), config_yaml(config))
    assert load_config(path) == config
    assert load_config(path).data.dir == directory


@pytest.mark.parametrize("directory", ["null", "1e3", "true", "2024-01-01", "010", "~", "a: b", " x ", "é", "#"])
def test_a_folder_with_a_name_that_means_something_in_yaml(directory: str, tmp_path: Path) -> None:
    config = load_config(values={"data.name": "folder", "data.dir": directory})
    assert config.data.dir == directory
    assert load_config(write(tmp_path, config_yaml(config))).data.dir == directory


def test_settings_are_frozen() -> None:
    config = load_config()
    with pytest.raises(ValidationError):
        config.seed = 1
    with pytest.raises(ValidationError):
        config.search.beta_p = 1.0


def test_flat_settings_are_the_leaves() -> None:
    config = load_config()
    assert flat_settings(config) == dict(leaves(yaml.safe_load(config_yaml(config))))


def test_differing_settings_name_key_and_both_values() -> None:
    old = load_config()
    new = load_config(overrides=["search.beta_p=3", "seed=1", "data.num_train=100"])
    assert differing_settings(old, old) == []
    assert differing_settings(old, new) == [
        "seed: 0 there, 1 now",
        "data.num_train: None there, 100 now",
        "search.beta_p: 0.25 there, 3.0 now",
    ]


def test_the_network_of_a_search() -> None:
    """Its own cells and channels where they are given, otherwise those of the final network."""
    config = load_config(overrides=["search.num_channels=null"])
    assert config.search_network() == config.network
    small = load_config(overrides=["search.num_cells=5", "search.num_channels=4", "network.num_cells=20"])
    assert (small.search_network().num_cells, small.search_network().num_channels) == (5, 4)
    assert small.search_network().model_copy(update={"num_cells": 20, "num_channels": 16}) == small.network


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train.beta_p=1", "search.beta_p"),
        ("search.num_epochs=1", "train.num_epochs"),
        ("trian.num_epochs=3", "train.num_epochs"),
        ("beta_p=1", "search.beta_p"),
        ("search.num_pases=1", "search.num_passes"),
    ],
)
def test_the_right_name_in_the_wrong_section_is_found(typed: str, meant: str) -> None:
    assert re.search(f"did you mean [^?]*'{meant}'[^?]*\\?", refusal(typed))


@pytest.mark.parametrize("typed", ["data.dir=2024-99-99", "seed=0x_"])
def test_what_yaml_cannot_read_is_an_error_of_usage(typed: str) -> None:
    assert typed.partition("=")[2] in refusal(typed)


def test_a_quoted_text_stays_a_text() -> None:
    assert load_config(overrides=["data.name=folder", "data.dir='2024'"]).data.dir == "2024"


def test_bnas_hides_no_bad_value() -> None:
    assert "search.beta_p" in refusal("search.strategy=bnas", "search.beta_p=two")


UNFIT = {
    "train": {"num_epochs": 3, "warmup_epochs": 3},
    "pcdarts": {"num_epochs": 10, "frozen_epochs": 15},
    "halving": {"num_genotypes": 3, "num_rounds": 3},
    "network": {"recu": True},
    "search": {"learning_rate": 0.001, "learning_rate_min": 0.01},
}


@pytest.mark.parametrize("section", UNFIT)
def test_only_what_starts_something_must_fit_together(section: str, tmp_path: Path) -> None:
    """What an older version wrote is read as it stands."""
    document = {section: UNFIT[section]}
    file = write(tmp_path, yaml.safe_dump(document))
    for refused in (lambda: load_config(file), lambda: config_from_document(document)):
        with pytest.raises(UsageError, match="add --set "):
            refused()
    with pytest.raises(ValidationError, match="add --set "):
        Config.model_validate(document)
    for config in (load_config(file, stored=True), config_from_document(document, stored=True)):
        assert {key: flat_settings(config)[f"{section}.{key}"] for key in UNFIT[section]} == UNFIT[section]
        assert change_config(config, {"seed": 3}, stored=True).seed == 3
        with pytest.raises(UsageError, match="add --set "):
            change_config(config, {"seed": 3})


@pytest.mark.parametrize("overrides", ["train.warmup_epochs=-1", "pcdarts.num_epochs=0", "search.learning_rate=0"])
def test_a_range_holds_for_what_is_stored_too(overrides: str) -> None:
    with pytest.raises(UsageError, match=overrides.partition("=")[0]):
        load_config(overrides=[overrides], stored=True)
    with pytest.raises(UsageError, match="use --strategy cpnas"):
        config_from_document({"search": {"strategy": "bnas", "beta_p": 3.0}}, stored=True)
