"""What a frontier consists of: the values typed, the members they become, and what tells two plans apart."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from played_experiments import genotype

from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.experiments.frontier.growth import difference
from cpnas_cli.experiments.frontier.plan import (
    FrontierPlan,
    make_plan,
    parse_sizes,
    parse_widths,
    plan_of,
    scaled_channels,
)
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.settings import load_config
from cpnas_cli.storage.genotype_file import genotype_document

SHAPE = Surroundings(8, 1, 10)
FOUND = genotype_document(genotype(3), provenance={"seed": 7})


def plan(
    *overrides: str,
    widths: Sequence[float] = (0.5, 1, 2),
    sizes: Sequence[int] = (4096, 8192),
    seeds: Sequence[int] = (0, 1),
    found: Any = None,
) -> FrontierPlan:
    config = load_config(overrides=overrides)
    return make_plan(config, genotype=found, widths=widths, baseline_bytes=sizes, seeds=seeds, shape=SHAPE)


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parse_widths, "0.5,1,2", (0.5, 1.0, 2.0)),
        (parse_widths, " 2 , .25", (2.0, 0.25)),
        (parse_sizes, "16KiB, 1MiB,512", (16384, 1048576, 512)),
        (parse_sizes, "1.5KiB,7B", (1536, 7)),
    ],
)
def test_what_is_typed(parse: Callable[[str], object], text: str, expected: object) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1,,2", "two", "1e9"])
def test_widths_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"^--widths expects numbers above 0, got '.*'; for example --widths 0\.5,1,2$"
    ):
        parse_widths(text)


@pytest.mark.parametrize("text", ["", "0", "-1KiB", "16kB", "KiB", "16 GiB", "nanKiB", "16KiB,", "9999MiB"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--baseline-bytes expects sizes up to 1024MiB, got"):
        parse_sizes(text)


def test_a_value_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--widths names 1\.0 twice"):
        parse_widths("1,2,1.0")
    with pytest.raises(UsageError, match="--baseline-bytes names 1024 twice"):
        parse_sizes("1KiB,1024")


def test_the_members() -> None:
    """16 channels: 8, 16 and 32; int8 sizes of the plain CNNs by hand, of widths 3 and 5 (see test_plain_cnn)."""
    members = plan().members
    assert [(member.name, member.config.network.num_channels, member.seed) for member in members] == [
        ("search", 16, 0),
        ("width-0.5-seed-0", 8, 0),
        ("width-1-seed-0", 16, 0),
        ("width-2-seed-0", 32, 0),
        ("cnn-3-seed-0", 16, 0),
        ("cnn-5-seed-0", 16, 0),
        ("width-0.5-seed-1", 8, 1),
        ("width-1-seed-1", 16, 1),
        ("width-2-seed-1", 32, 1),
        ("cnn-3-seed-1", 16, 1),
        ("cnn-5-seed-1", 16, 1),
    ]
    assert [member.name for member in plan(found=FOUND, widths=[1], sizes=[4096], seeds=[3]).members] == [
        "width-1-seed-3",
        "cnn-3-seed-3",
    ]


@pytest.mark.parametrize(
    ("width", "block", "expected"),
    [
        (0.5, "separable", 8),
        (0.3, "separable", 4),  # 4.8
        (0.01, "separable", 2),
        (1.1, "separable", 18),  # 17.6
        # 16 channels in groups of 8, or in one group below 8
        (0.5, "residual", 8),
        (1.3, "residual", 24),  # 20.8
        (1.5, "residual", 24),
        (0.65, "residual", 8),  # 10.4
        (0.1, "residual", 2),
    ],
)
def test_channels_are_the_nearest_that_the_settings_allow(width: float, block: str, expected: int) -> None:
    config = load_config(overrides=[f"network.block={block}", "network.group_width=8", "network.num_channels=16"])
    assert scaled_channels(config, width) == expected


def test_widths_that_give_the_same_or_too_many_channels_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"--widths 1 and 1\.01 both give 16 channels, the nearest that network\.block=residual"
    ):
        plan(widths=[1, 1.01])
    with pytest.raises(UsageError, match="--widths 100 gives 1600 channels, at most 1024"):
        plan(widths=[1, 100])


@pytest.mark.parametrize("found", [None, FOUND])
def test_a_plan_is_read_back_from_its_document(found: Any) -> None:
    there = plan("data.num_train=100", found=found)
    again = plan_of(json.loads(json.dumps(there.document())))
    assert again == there
    assert difference(there, again) is None
    assert [member.config for member in again.members] == [member.config for member in there.members]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (plan(widths=[1]), None),  # what is varied can grow, see test_frontier_growth
        (plan(sizes=[4096]), None),
        (plan(seeds=[2]), None),
        (plan("train.num_epochs=2"), "train.num_epochs: 30 there, 2 now"),
        (plan(found=FOUND), "another genotype, or a search instead of one"),
    ],
)
def test_what_tells_two_plans_apart(now: FrontierPlan, words: str | None) -> None:
    assert difference(plan(), now) == words


@pytest.mark.parametrize(
    "change", [{"widths": None}, {"seeds": []}, {"config": {}, "cnn_widths": ["x"]}, {"asked_genotype": {"schema": 1}}]
)
def test_a_damaged_document_is_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="the frontier's document is damaged"):
        plan_of(plan().document() | change)
