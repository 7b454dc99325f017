"""The environment of a run: versions, device, threads, command."""

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from cpnas_cli import __version__
from cpnas_cli.storage.documents import ENVIRONMENT_SCHEMA

_LIBRARIES = (
    "torch", "torchvision", "lightning-fabric", "numpy", "scipy", "pillow", "numba", "llvmlite", "pydantic",
    "safetensors", "scikit-learn", "onnx", "onnxruntime",
)  # fmt: skip


def describe_environment(fabric: Fabric, *, command: Sequence[str] | None = None) -> dict[str, Any]:
    """`cpnas.environment/1`: versions, device, threads, commit of a source checkout, command line.

    Args:
      command: what was typed; without it that of this process.
    """
    return {
        "schema": ENVIRONMENT_SCHEMA,
        "cpnas": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "device": str(fabric.device),
        "device_name": torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else processor(),
        "num_threads": torch.get_num_threads(),
        "num_processes": fabric.world_size,
        "command": list(command or sys.argv),
    }


def differences(started: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on what changes the bits of a run that goes on in another environment than the one it was started in.

    What one of the two does not name is not compared: older runs name less. One that does not name its processes had
    one.
    """
    started = {"num_processes": 1, **started}
    return tuple(
        f"{key} differs from the start of the run, so the bits will too ({started[key]})"
        for key in ("device_name", "num_threads", "num_processes", "libraries")
        if key in started and not _are_alike(started[key], now[key])
    )


def _are_alike(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(one[name] == other[name] for name in one.keys() & other.keys())
    return one == other


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that the package runs from; None for an installed one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
