"""What a run says of its environment, and what a run that goes on in another one is told."""

from importlib.metadata import version
from typing import Any

import PIL
import pytest
import scipy
import torch

from cpnas_cli.distributed.device import open_device
from cpnas_cli.runs.environment import describe_environment, differences

NOW: dict[str, Any] = {
    "device_name": "a processor",
    "num_threads": 2,
    "num_processes": 1,
    "libraries": {"torch": "2.11", "pillow": "12.0", "onnx": None},
}


def test_what_the_bits_depend_on_is_named() -> None:
    libraries = describe_environment(open_device("cpu"))["libraries"]
    assert libraries["pillow"] == PIL.__version__
    assert libraries["scipy"] == scipy.__version__
    assert libraries["torch"] == torch.__version__ or version("torch") == libraries["torch"]


@pytest.mark.parametrize(
    "started",
    [
        NOW,
        {**NOW, "libraries": {"torch": "2.11"}},  # by a version that named less
        {**NOW, "libraries": {**NOW["libraries"], "forgotten": "1.0"}},
        {},
        {"libraries": {}},
    ],
)
def test_what_is_not_named_is_not_another_environment(started: dict[str, Any]) -> None:
    assert differences(started, NOW) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device_name": "another"}, "device_name differs from the start of the run, so the bits will too (another)"),
        ({"num_threads": 8}, "num_threads differs from the start of the run, so the bits will too (8)"),
        ({"num_processes": 2}, "num_processes differs from the start of the run, so the bits will too (2)"),
        (
            {"libraries": {"torch": "2.10", "onnx": None}},
            "libraries differs from the start of the run, so the bits will too ({'torch': '2.10', 'onnx': None})",
        ),
        (
            {"libraries": {"torch": "2.11", "onnx": "1.0"}},
            "libraries differs from the start of the run, so the bits will too ({'torch': '2.11', 'onnx': '1.0'})",
        ),
        ({"libraries": 3}, "libraries differs from the start of the run, so the bits will too (3)"),
    ],
)
def test_what_differs_is_said_once(change: dict[str, Any], said: str) -> None:
    assert differences({**NOW, **change}, NOW) == (said,)


def test_a_run_that_does_not_name_its_processes_had_one() -> None:
    started = {key: value for key, value in NOW.items() if key != "num_processes"}
    said = "num_processes differs from the start of the run, so the bits will too (1)"
    assert differences(started, {**NOW, "num_processes": 2}) == (said,)
