"""The device of a run, by Lightning Fabric."""

import atexit
import logging
import os
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from cpnas_cli.distributed.collectives import all_present
from cpnas_cli.distributed.processes import World, this_world
from cpnas_cli.errors import DeviceError, ProcessLostError, UsageError
from cpnas_cli.settings import DtypeName

_FABRIC_PRECISIONS: dict[DtypeName, Literal["32-true", "bf16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
}
DEVICES = ("auto", "cpu", "cuda", "mps")


def open_device(name: str = "auto", *, dtype: DtypeName = "float32", num_processes: int = 1) -> Fabric:
    """Fabric on one device, or on one for each of the processes; "auto" is the accelerator that is there, else the CPU.

    Args:
      dtype: of activations and convolutions within `fabric.autocast()`; weights are float32 always.
      num_processes: those that the caller is made for. With more than one it returns when all are there.

    Raises:
      UsageError: unknown name; or this process is one of more or fewer than these. DeviceError: the device is not
        there, or the processes do not find each other.
    """
    world = this_world()
    if num_processes == 1 and world.size > 1:
        raise UsageError(
            f"only `cpnas train` runs on several processes, and this is one of {world.size} of {world.launcher}; "
            "start this command by itself"
        )
    if num_processes != world.size:
        raise UsageError(f"this is one of {world.size} processes, and {num_processes} are expected")
    if name not in DEVICES:
        raise UsageError(f"unknown device {name!r}; choose from {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: this machine has no CUDA device that torch can use; try --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: this machine has no Apple GPU that torch can use; try --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces types and processes
    if num_processes > 1:
        return _open_devices(name, dtype, world)
    # the environment is named: under SLURM Fabric would take the job's for that of this process
    return Fabric(accelerator=name, devices=1, precision=_FABRIC_PRECISIONS[dtype], plugins=[LightningEnvironment()])


def _open_devices(name: str, dtype: DtypeName, world: World) -> Fabric:
    if name == "mps":
        raise UsageError("an Apple GPU trains with one process; leave out --devices, or add --device cpu")
    if world.local_size == 0 or world.size % world.local_size:
        raise UsageError(
            f"srun started {world.size} processes without saying how many on each machine; "
            "start them with srun --ntasks-per-node=N"
        )
    if name == "cuda" and torch.cuda.device_count() < world.local_size:
        raise DeviceError(
            f"{world.local_size} processes need {world.local_size} GPUs on this machine, and torch sees "
            f"{torch.cuda.device_count()}; use fewer processes, or --device cpu"
        )
    environment: ClusterEnvironment = (
        SLURMEnvironment(auto_requeue=False) if world.launcher == "srun" else TorchElasticEnvironment()
    )
    fabric = Fabric(
        accelerator=name,
        devices=world.local_size,
        num_nodes=world.size // world.local_size,
        strategy="ddp",  # for its process group: what is exchanged is in `collectives`
        precision=_FABRIC_PRECISIONS[dtype],
        plugins=[environment],
    )
    try:
        with all_present():
            fabric.launch()
    except (ProcessLostError, torch.distributed.DistError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(
            f"the processes do not find each other at {environment.main_address}:{environment.main_port}: {reason}"
        ) from error
    # a group that is still open when the interpreter ends can take the process with it (SIGABRT)
    atexit.register(_leave)
    return fabric


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def visible_gpus() -> tuple[str, ...]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(word.strip() for word in named.split(",") if word.strip())
    return tuple(map(str, range(torch.cuda.device_count())))
