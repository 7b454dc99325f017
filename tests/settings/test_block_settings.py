"""Blocks, stems and formats that cannot work: one line each, before anything is built."""

from typing import Any

import pytest

from cpnas_cli.errors import UsageError
from cpnas_cli.registry import BLOCKS
from cpnas_cli.settings import Config, NetworkConfig, change_config, load_config

NO_MORE = "; `cpnas presets show digits` lists the settings"


def refused(*overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(overrides=list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(NO_MORE)
    return message.removesuffix(NO_MORE)


WIDTH = "network.group_width={} does not divide {} channels; choose a network.group_width that does, or other channels"


@pytest.mark.parametrize(
    ("channels", "width", "refused_channels"),
    [(12, 8, 12), (6, 4, 6), (10, 4, 10), (6, 5, 6), (4, 3, 4), (4, 7, 8), (4, 12, 16), (16, 24, 32)],
)
def test_a_group_width_that_does_not_divide_the_channels(channels: int, width: int, refused_channels: int) -> None:
    """Of any of the three widths of cells: the first C channels, then 2 C and 4 C; fewer than a group are one group."""
    overrides = ("network.block=residual", f"network.num_channels={channels}", f"network.group_width={width}")
    assert refused(*overrides) == WIDTH.format(width, refused_channels)
    other = load_config(overrides=["network.block=separable", *overrides[1:]])
    assert other.network.group_width == width  # of the other block it says nothing


def test_a_group_width_that_does_not_divide_the_channels_of_the_search() -> None:
    """It stops the search and nothing else: a training has no such network."""
    overrides = ("network.block=residual", "network.group_width=8", "network.num_channels=16", "search.num_channels=12")
    with pytest.raises(UsageError) as caught:
        load_config(overrides=list(overrides)).check_search_network()
    said = "the network that the search trains has search.num_channels=12: "
    assert str(caught.value) == said + WIDTH.format(8, 12) + "; --set search.num_channels=8 does"
    load_config(overrides=[*overrides[:-1], "search.num_channels=24"]).check_search_network()


def test_the_error_names_the_preset_in_use() -> None:
    for override in ("network.group_width=3", "network.group_with=3"):
        with pytest.raises(UsageError, match=r"; `cpnas presets show cifar10-small` lists the settings$"):
            load_config("cifar10-small", overrides=[override])


@pytest.mark.parametrize(("channels", "width"), [(16, 8), (2, 8), (4, 1024), (12, 6), (12, 1), (6, 2)])
def test_a_group_width_that_divides(channels: int, width: int) -> None:
    load_config(
        overrides=["network.block=residual", f"network.num_channels={channels}", f"network.group_width={width}"]
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("network.block=resnet", "network.block: input should be 'separable' or 'residual', got 'resnet'"),
        ("network.group_width=0", "network.group_width: input should be greater than or equal to 1, got 0"),
        ("network.group_width=1025", "network.group_width: input should be less than or equal to 1024, got 1025"),
        ("network.activation=relu", "network.activation: input should be 'none', 'prelu' or 'rprelu', got 'relu'"),
        ("network.stem_convolutions=0", "network.stem_convolutions: input should be 1, 2 or 3, got 0"),
        ("network.stem_convolutions=4", "network.stem_convolutions: input should be 1, 2 or 3, got 4"),
        ("network.stem_stride=3", "network.stem_stride: input should be 1, 2, 4 or 8, got 3"),
        ("network.real_format=int8", "network.real_format: input should be 'float32' or 'float16', got 'int8'"),
        (
            "network.weight_format=int4",
            "network.weight_format: input should be 'float32', 'float16' or 'int8', got 'int4'",
        ),
    ],
)
def test_a_value_that_is_none_lists_the_choices(setting: str, said: str) -> None:
    assert refused(setting) == said


@pytest.mark.parametrize("convolutions", [1, 2, 3])
@pytest.mark.parametrize(
    ("stride", "size", "works"), [(1, 4, True), (2, 8, True), (2, 4, False), (4, 16, True), (4, 8, False)]
)
def test_an_image_that_stem_and_cells_cannot_halve(convolutions: int, stride: int, size: int, works: bool) -> None:
    """However many convolutions share the stride."""
    overrides = (f"network.stem_convolutions={convolutions}", f"network.stem_stride={stride}")
    if works:
        load_config(overrides=[*overrides, f"data.image_size={size}"])
        return
    assert refused(*overrides, f"data.image_size={size}") == (
        f"data.image_size must be a multiple of {4 * stride} to survive two reductions at "
        f"network.stem_stride={stride}, got {size}"
    )


@pytest.mark.parametrize(
    ("size", "stride"),
    [(8, 1), (28, 1), (32, 2), (48, 2), (64, 4), (96, 4), (112, 4), (128, 8), (160, 8), (224, 8), (256, 8)],
)
def test_a_stride_that_the_images_choose(size: int, stride: int) -> None:
    """Cells of 16 pixels and more, as few as there can be; what a run keeps is the number."""
    config = load_config("folder", overrides=[f"data.image_size={size}"])
    assert config.network.stem_stride == stride
    assert change_config(config, {"seed": 1}).network.stem_stride == stride
    overrides = (f"data.image_size={size}", "network.stem_convolutions=3")
    assert load_config(overrides=[*overrides, "network.stem_stride=null"]).network.stem_stride == stride
    assert load_config("folder", overrides=[*overrides, "network.stem_stride=1"]).network.stem_stride == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["data.image_size=100", "network.stem_convolutions=3"],
            "data.image_size must be a multiple of 16 to survive two reductions at network.stem_stride=4, got 100",
        ),
        (
            ["data.image_size=128"],
            "network.stem_stride=8 needs three convolutions of stride 2, got network.stem_convolutions=1; "
            "add --set network.stem_convolutions=3",
        ),
        (
            ["data.image_size=large"],
            "data.image_size: input should be a valid integer, unable to parse string as an integer, got 'large'",
        ),
    ],
)
def test_images_that_no_stride_suits(overrides: list[str], said: str) -> None:
    assert refused("network.stem_stride=null", *overrides).startswith(said)


def test_without_a_word_the_network_is_the_published_one() -> None:
    network = Config().network
    found = (network.block, network.stem_convolutions, network.real_format, network.weight_format)
    assert found == ("separable", 1, "float32", "float32")


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_says_what_it_is(name: str) -> None:
    """Without torch: names for the lists of what is 1-bit and real."""
    from cpnas_cli.networks.blocks.base import block_of

    values: dict[str, Any] = {"block": name}
    block = block_of(NetworkConfig(**values))
    assert block.convolutions
    assert all(isinstance(part, str) and part for part in block.real_parts)
