"""What an experiment consists of: the values typed, the members they become, and what tells two plans apart."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.experiments import growth
from cpnas_cli.experiments.growth import difference
from cpnas_cli.experiments.plan import (
    ExperimentKind,
    Member,
    Plan,
    parse_betas,
    parse_indicators,
    parse_seeds,
    parse_strategies,
    plan_of,
)
from cpnas_cli.settings import Config, flat_settings, load_config

STRATEGIES = ("cpnas", "bnas", "random", "pcdarts")


def refusal(call: Callable[[], object]) -> str:
    """The message of the refusal; one line."""
    with pytest.raises(UsageError) as caught:
        call()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- what was typed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", ("2",)),
        ("0,1,2,3,4,5", ("0", "1", "2", "3", "4", "5")),
        ("3,0,1", ("3", "0", "1")),  # the order given
        ("2.50", ("2.5",)),
        (" 1 , 2.0 ", ("1", "2")),
        ("1e1,.5,5.", ("10", "0.5", "5")),
        ("0.1,0.30000000000000004", ("0.1", "0.30000000000000004")),
    ],
)
def test_betas(text: str, expected: tuple[str, ...]) -> None:
    betas = parse_betas(text)
    assert [float(beta) for beta in betas] == [float(word) for word in text.split(",")]
    assert betas == expected
    assert parse_betas(",".join(betas)) == betas


@pytest.mark.parametrize("text", ["1234567", "1e22", "1e-7", "123456.789", "5e-324", "0.1234567890123"])
def test_a_beta_keeps_its_value(text: str) -> None:
    (beta,) = parse_betas(text)
    assert float(beta) == float(text)
    assert parse_betas(beta) == (beta,)


@pytest.mark.parametrize("text", ["", " ", ",", "1,", ",1", "1,,2", "1, ,2"])
@pytest.mark.parametrize(
    ("parse", "option"),
    [
        (parse_betas, "--betas"),
        (parse_seeds, "--seeds"),
        (parse_strategies, "--strategies"),
        (parse_indicators, "--indicators"),
    ],
)
def test_a_missing_value_is_refused(parse: Callable[[str], object], option: str, text: str) -> None:
    names = {"--strategies": ("cpnas", "bnas"), "--indicators": ("printed", "penalized")}.get(option, ("1", "2"))
    text = text.replace("1", names[0]).replace("2", names[1])
    message = refusal(lambda: parse(text))
    assert message.startswith(f"{option} expects values with commas between them, got {text!r}")
    # the example it gives is a good one
    assert parse(message.rpartition(f"{option} ")[2])


@pytest.mark.parametrize("word", ["-1", "-0.5", "nan", "inf", "-inf", "1e400", "two", "1 2", "0x1", "1;2"])
@pytest.mark.parametrize("before", ["", "1,"])
def test_a_beta_that_is_none_is_refused(word: str, before: str) -> None:
    message = refusal(lambda: parse_betas(before + word))
    assert f"numbers from 0 up, got {word!r}" in message
    assert parse_betas(message.rpartition("--betas ")[2]) == ("0", "1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("text", "twice"), [("1,1", "1"), ("0,0.0", "0"), ("0,2,2.50,2.5", "2.5"), ("1,2,1e0", "1"), ("0.5,.5,.5", "0.5")]
)
def test_a_beta_given_twice_is_refused(text: str, twice: str) -> None:
    assert f"--betas names {twice} twice" in refusal(lambda: parse_betas(text))


def test_minus_zero_is_zero() -> None:
    assert parse_betas("-0") == ("0",)
    assert "twice" in refusal(lambda: parse_betas("0,-0.0"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", (0,)), ("5,0,3", (5, 0, 3)), (" 7 ,8", (7, 8)), ("007", (7,)), ("9" * 20, (10**20 - 1,))],
)
def test_seeds(text: str, expected: tuple[int, ...]) -> None:
    assert parse_seeds(text) == expected


@pytest.mark.parametrize("word", ["-1", "+1", "1.0", "1e3", "1_0", "one", "nan", "inf", "²", "\uff12", "0x1", "1 2"])
@pytest.mark.parametrize("before", ["", "1,"])
def test_a_seed_that_is_none_is_refused(word: str, before: str) -> None:
    message = refusal(lambda: parse_seeds(before + word))
    assert f"whole numbers from 0 up, got {word!r}" in message


def test_a_seed_of_thousands_of_digits_is_refused_or_read() -> None:
    try:
        (seed,) = parse_seeds("9" * 5000)
    except UsageError:
        return
    assert seed == 10**5000 - 1


@pytest.mark.parametrize(("text", "twice"), [("1,1", "1"), ("0,1,2,0", "0"), ("1,01", "1")])
def test_a_seed_given_twice_is_refused(text: str, twice: str) -> None:
    assert f"--seeds names {twice} twice" in refusal(lambda: parse_seeds(text))


@pytest.mark.parametrize("text", ["cpnas", "random,cpnas", "pcdarts,bnas,random,cpnas"])
def test_strategies(text: str) -> None:
    assert parse_strategies(text) == tuple(text.split(","))
    assert parse_strategies(text.replace(",", " , ")) == tuple(text.split(","))


@pytest.mark.parametrize("word", ["darts", "CPNAS", "cp-nas", "0"])
def test_an_unknown_strategy_lists_the_choices(word: str) -> None:
    message = refusal(lambda: parse_strategies(f"cpnas,{word}"))
    assert repr(word) in message
    assert all(name in message for name in STRATEGIES)


def test_a_strategy_given_twice_is_refused() -> None:
    assert "--strategies names bnas twice" in refusal(lambda: parse_strategies("bnas,cpnas,bnas"))


# ---------------------------------------------------------------- members


def plan(
    kind: ExperimentKind = "ablation",
    groups: tuple[str, ...] = ("0", "2.5"),
    seeds: tuple[int, ...] = (0, 1),
    *overrides: str,
    random_draws: int = 1,
) -> Plan:
    return Plan(kind, groups, seeds, load_config(overrides=overrides), random_draws)


def changed(member: Member) -> dict[str, Any]:
    """The member's settings that are not those of the preset."""
    shared = flat_settings(load_config())
    return {key: value for key, value in flat_settings(member.config).items() if value != shared[key]}


def shares(member: Member) -> bool:
    return member.strategy.sharing_key(member.config) is not None


def test_the_members_of_an_ablation() -> None:
    """Seed by seed; each differs from the preset in seed and beta_P (0 and 2) alone."""
    members = plan("ablation", ("3", "0", "2.5"), (7, 0)).members
    assert [(member.name, member.group, member.seed) for member in members] == [
        ("beta-3-seed-7", "3", 7),
        ("beta-0-seed-7", "0", 7),
        ("beta-2.5-seed-7", "2.5", 7),
        ("beta-3-seed-0", "3", 0),
        ("beta-0-seed-0", "0", 0),
        ("beta-2.5-seed-0", "2.5", 0),
    ]
    assert [changed(member) for member in members] == [
        {"seed": 7, "search.beta_p": 3.0},
        {"seed": 7, "search.beta_p": 0.0},
        {"seed": 7, "search.beta_p": 2.5},
        {"search.beta_p": 3.0},
        {"search.beta_p": 0.0},
        {"search.beta_p": 2.5},
    ]
    assert all(shares(member) for member in members)


def test_indicators() -> None:
    for text in ("printed", "penalized,printed", "printed,penalized"):
        assert parse_indicators(text.replace(",", " , ")) == tuple(text.split(","))
    for word in ("rewarded", "Printed", "printed;penalized"):
        message = refusal(lambda word=word: parse_indicators(f"printed,{word}"))
        assert message == f"unknown indicator {word!r} in --indicators; choose from penalized, printed"
    assert "--indicators names printed twice" in refusal(lambda: parse_indicators("printed,penalized,printed"))


def test_the_members_of_an_ablation_of_both_indicators() -> None:
    """Each with its own indicator, whatever the settings say; those of one seed share, whatever their indicator."""
    both = plan("ablation", ("penalized 0", "printed 0", "printed 2.5"), (7,), "search.indicator=printed")
    assert [(member.name, member.group) for member in both.members] == [
        ("penalized-beta-0-seed-7", "penalized 0"),
        ("printed-beta-0-seed-7", "printed 0"),
        ("printed-beta-2.5-seed-7", "printed 2.5"),
    ]
    assert [changed(member) for member in both.members] == [
        {"seed": 7, "search.beta_p": 0.0},
        {"seed": 7, "search.beta_p": 0.0, "search.indicator": "printed"},
        {"seed": 7, "search.beta_p": 2.5, "search.indicator": "printed"},
    ]
    assert len({member.search_key for member in both.members}) == 1
    # equal plans are equal, whatever the settings said of what every member has of its own
    other = plan("ablation", ("penalized 0", "printed 0", "printed 2.5"), (7,), "search.indicator=penalized")
    assert difference(both, other) is None
    assert plan_of(json.loads(json.dumps(both.document()))) == both
    one = plan("ablation", ("0",), (7,))
    printed = plan("ablation", ("0",), (7,), "search.indicator=printed")
    assert difference(one, printed) is None  # one can become an ablation of both


def test_an_experiment_from_before_is_of_the_printed_indicator() -> None:
    document = json.loads(json.dumps(plan("ablation", ("0", "2"), (0,), "search.indicator=printed").document()))
    for key in ("indicator", "evaluation", "credit", "performance", "warmup_epochs", "scored_passes"):
        del document["config"]["search"][key]
    assert {member.config.search.indicator for member in plan_of(document).members} == {"printed"}


def test_an_ablation_is_of_cpnas_whatever_the_settings_say() -> None:
    (member,) = plan("ablation", ("4",), (1,), "search.strategy=random", "search.beta_p=9", "seed=5").members
    assert changed(member) == {"seed": 1, "search.beta_p": 4.0}


def test_the_members_of_a_comparison() -> None:
    members = plan("comparison", ("random", "pcdarts", "bnas", "cpnas"), (0, 3), random_draws=2).members
    expected = [
        ("random-seed-{}-draw-0", "random", {"search.strategy": "random"}),
        ("random-seed-{}-draw-1", "random", {"search.strategy": "random", "search.random_draw": 1}),
        ("pcdarts-seed-{}", "pcdarts", {"search.strategy": "pcdarts"}),
        ("bnas-seed-{}", "bnas", {"search.strategy": "bnas", "search.beta_p": 0.0}),
        ("cpnas-seed-{}", "cpnas", {}),
    ]
    assert [(member.name, member.group, member.seed, changed(member)) for member in members] == [
        (name.format(seed), group, seed, {"seed": seed, **values} if seed else values)
        for seed in (0, 3)
        for name, group, values in expected
    ]
    assert [shares(member) for member in members] == [False, False, False, True, True] * 2
    assert len({member.name for member in members}) == len(members)


def test_a_comparison_keeps_the_beta_of_the_settings() -> None:
    members = plan("comparison", ("bnas", "cpnas"), (0,), "search.beta_p=3.5").members
    assert [member.config.search.beta_p for member in members] == [0.0, 3.5]


@pytest.mark.parametrize("typed", [("search.strategy=bnas",), ("search.strategy=bnas", "search.beta_p=0")])
def test_the_beta_of_a_strategy_that_fixes_it_is_not_that_of_the_others(typed: tuple[str, ...]) -> None:
    there = plan("comparison", ("bnas", "cpnas"), (0,), *typed)
    assert [member.config.search.beta_p for member in there.members] == [0.0, 0.25]
    assert there == plan("comparison", ("bnas", "cpnas"), (0,))


def test_one_member_and_none() -> None:
    assert [member.name for member in plan("comparison", ("random",), (4,)).members] == ["random-seed-4-draw-0"]
    assert plan("comparison", ("random",), (4,), random_draws=0).members == ()
    assert plan("ablation", (), (0,)).members == ()


def test_the_seed_of_the_settings_is_none_of_the_members() -> None:
    """It is not what tells two plans apart, and the document has the first that runs."""
    there, now = (plan("ablation", ("1",), (4, 2), f"seed={seed}") for seed in (0, 9))
    assert [member.seed for member in there.members] == [4, 2]
    assert there == now
    assert difference(there, now) is None
    assert there.document()["config"]["seed"] == 4


def test_a_beta_that_the_settings_refuse_is_refused() -> None:
    with pytest.raises(UsageError, match=r"search\.beta_p"):
        _ = plan("ablation", ("-1",), (0,)).members


# ---------------------------------------------------------------- what members share


def keys_of(key: str, members: list[Member]) -> list[str]:
    return [getattr(member, key) for member in members]


def test_searches_that_differ_in_beta_alone_share_their_key() -> None:
    """bnas and cpnas of a comparison, and every beta of an ablation; one key per seed."""
    members = [
        *plan("ablation", ("0", "2", "5"), (0, 1)).members,
        *plan("comparison", ("bnas", "cpnas"), (0, 1)).members,
    ]
    by_seed = {seed: {member.search_key for member in members if member.seed == seed} for seed in (0, 1)}
    assert [len(keys) for keys in by_seed.values()] == [1, 1]
    assert not by_seed[0] & by_seed[1]


def test_random_and_pcdarts_share_their_search_with_nobody() -> None:
    members = [*plan("comparison", STRATEGIES, (0, 1), random_draws=3).members]
    own = [member.search_key for member in members if not shares(member)]
    assert len(own) == 2 * (3 + 1)
    assert len({*own, *(member.search_key for member in members)}) == len(own) + 2


# Every setting outside search and pcdarts, and those of Algorithm 9; each with another value.
OTHER_SETTINGS = {
    "data.num_train": "100",
    "data.num_test": "50",
    "data.crop_padding": "1",
    "data.flip": "true",
    "data.image_size": "16",
    "network.block": "separable",
    "network.group_width": "4",
    "network.num_cells": "4",
    "network.num_channels": "8",
    "network.stem_multiplier": "1",
    "network.estimator": "clipped",
    "network.clip_bound": "2",
    "network.latents": "centered",
    "network.scale": "learned",
    "network.real_parts": "[preprocessing]",
    "network.shortcut": "false",
    "train.num_epochs": "7",
    "train.batch_size": "16",
    "train.optimizer": "sgd",
    "train.learning_rate": "0.1",
    "train.kernel_weight": "0.1",
    "train.lambda_compactness": "0.1",
}
SEARCH_SETTINGS = {
    "search.num_passes": "2",
    "search.num_cells": "5",
    "search.num_channels": "4",
    "search.batch_size": "16",
    "search.optimizer": "sgd",
    "search.learning_rate": "0.2",
    "search.validation_fraction": "0.25",
    "search.num_calibration_batches": "1",
    "search.clip_norm": "1",
}
PCDARTS_SETTINGS = {"pcdarts.num_epochs": "20", "pcdarts.partial_channels": "2", "pcdarts.frozen_epochs": "0"}


def member_with(setting: str | None = None, *, seed: int = 0, **arguments: Any) -> Member:
    (member,) = plan("ablation", ("2",), (seed,), *([setting] if setting else []), **arguments).members
    return member


@pytest.mark.parametrize("setting", [f"{key}={value}" for key, value in SEARCH_SETTINGS.items()])
def test_another_search_has_another_search_key_and_the_same_training_key(setting: str) -> None:
    member, other = member_with(), member_with(setting)
    assert member.search_key != other.search_key
    assert member.training_key == other.training_key


@pytest.mark.parametrize("setting", [f"{key}={value}" for key, value in OTHER_SETTINGS.items()])
def test_data_network_and_training_are_in_the_training_key(setting: str) -> None:
    assert member_with().training_key != member_with(setting).training_key


@pytest.mark.parametrize(
    "setting", [f"{key}={value}" for key, value in OTHER_SETTINGS.items() if not key.startswith("train.")]
)
def test_data_and_network_are_in_the_search_key(setting: str) -> None:
    assert member_with().search_key != member_with(setting).search_key


@pytest.mark.parametrize("setting", [f"{key}={value}" for key, value in PCDARTS_SETTINGS.items()])
def test_pcdarts_is_not_in_the_training_key(setting: str) -> None:
    assert member_with().training_key == member_with(setting).training_key


def test_the_training_key_is_of_the_seed_and_not_of_the_strategy() -> None:
    members = [*plan("comparison", STRATEGIES, (0, 1), random_draws=2).members, *plan("ablation").members]
    by_seed = {seed: {member.training_key for member in members if member.seed == seed} for seed in (0, 1)}
    assert [len(keys) for keys in by_seed.values()] == [1, 1]
    assert not by_seed[0] & by_seed[1]


# ---------------------------------------------------------------- the document


PLANS = {
    "ablation": plan("ablation", ("0", "0.1", "5"), (2, 0), "network.real_parts=[preprocessing]"),
    "comparison": plan("comparison", ("random", "cpnas"), (0,), "data.num_train=100", random_draws=3),
    "without random": plan("comparison", ("pcdarts", "bnas"), (0, 1, 2)),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_read_back_from_its_document(name: str) -> None:
    there = PLANS[name]
    again = plan_of(json.loads(json.dumps(there.document(), allow_nan=False)))
    assert again == there
    assert difference(there, again) is None
    assert [member.config for member in again.members] == [member.config for member in there.members]
    assert [member.name for member in again.members] == [member.name for member in there.members]


def test_a_document_by_hand() -> None:
    assert PLANS["comparison"].document() == {
        "kind": "comparison",
        "groups": ["random", "cpnas"],
        "seeds": [0],
        "random_draws": 3,
        "config": load_config(overrides=["data.num_train=100"]).model_dump(mode="json"),
    }
    assert PLANS["ablation"].document()["random_draws"] is None
    assert PLANS["without random"].document()["random_draws"] is None


def test_draws_count_only_where_random_is_compared() -> None:
    there = plan("comparison", ("cpnas",), (0,), random_draws=4)
    assert plan_of(there.document()).random_draws == 1
    assert difference(there, plan_of(there.document())) is None


def without(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize("key", ["kind", "groups", "seeds", "random_draws", "config"])
def test_a_document_that_lacks_something_is_none(key: str) -> None:
    with pytest.raises(RunError, match=key):
        plan_of(without(PLANS["ablation"].document(), key))


@pytest.mark.parametrize("config", [{"sed": 1}, {"search": {"beta_p": -1}}, {"search": 3}])
def test_a_document_with_bad_settings_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="damaged"):
        plan_of({**PLANS["ablation"].document(), "config": config})


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 5},
        {"groups": None},
        {"seeds": []},
        {"config": 3},
    ],
)
def test_a_document_with_something_else_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="damaged"):
        plan_of({**PLANS["ablation"].document(), **change})


@pytest.mark.parametrize(
    ("there", "now", "expected"),
    [
        (plan(), plan(), None),
        (plan("comparison", STRATEGIES), plan("comparison", STRATEGIES), None),
        # kind before everything else
        (plan("ablation"), plan("comparison", ("cpnas",), (5,)), "kind: ablation there, comparison now"),
        (plan("comparison", ("cpnas",)), plan("ablation"), "kind: comparison there, ablation now"),
        # not what is varied: that can grow, see test_growth
        (plan("ablation", ("0", "1")), plan("ablation", ("1", "0")), None),
        (plan("comparison", ("cpnas",)), plan("comparison", ("cpnas", "bnas")), None),
        (plan(seeds=(0, 1)), plan("ablation", ("0", "2.5"), (0,), "seed=3"), None),
        (
            plan("comparison", ("random",), (0,), random_draws=2),
            plan("comparison", ("random",), (0,), "train.num_epochs=1", random_draws=5),
            "train.num_epochs: 30 there, 1 now",
        ),
        # then the first setting
        (
            plan("ablation", ("0",), (0,)),
            plan("ablation", ("0",), (0,), "train.num_epochs=1"),
            "train.num_epochs: 30 there, 1 now",
        ),
        (
            plan("ablation", ("0",), (0,), "data.num_train=30"),
            plan("ablation", ("0",), (0,), "data.num_train=50", "train.num_epochs=1"),
            "data.num_train: 30 there, 50 now",
        ),
    ],
)
def test_the_first_difference_is_named(there: Plan, now: Plan, expected: str | None) -> None:
    assert difference(there, now) == expected


def test_a_difference_is_seen_from_both_sides() -> None:
    plans = [
        plan(),
        plan("comparison", ("cpnas", "random")),
        plan(seeds=(1,)),
        plan("ablation", ("1",)),
        plan("comparison", ("cpnas", "random"), random_draws=2),
        Plan("ablation", ("0", "2.5"), (0, 1), Config()),
    ]
    for first, there in enumerate(plans):
        for second, now in enumerate(plans):
            both_go_on = growth.refusal(there, now) is None and growth.refusal(now, there) is None
            assert both_go_on == (first == second)
