"""Tensors and state on disk, as one safetensors file; nothing is ever unpickled.

The state (plain JSON values) travels in the header, so that both are replaced by one rename; a checksum of both is
verified before anything of the file is used.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cpnas_cli.errors import CheckpointError
from cpnas_cli.storage.checksum import CHECKSUM_KEY, METADATA_KEY, Content, checksum, verify
from cpnas_cli.storage.documents import replacing


def save_tensors(path: Path, tensors: Mapping[str, Tensor], *, schema: str, state: Mapping[str, Any]) -> None:
    """Replace the file by these tensors and this state.

    Raises:
      RunError: it cannot be written; the old file is as it was.
    """
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    document = {"schema": schema, "state": state}
    document[CHECKSUM_KEY] = checksum(document, _contents(plain))
    with replacing(path) as temporary:
        try:
            # one entry: safetensors writes several in a random order, and equal runs must be equal files
            save_file(plain, temporary, metadata={METADATA_KEY: json.dumps(document)})
        except SafetensorError as error:  # wraps "No space left on device (os error 28)", for one
            number = re.search(r"\(os error (\d+)\)", str(error))
            raise OSError(int(number[1]) if number else None, str(error)) from error


def load_tensors(path: Path, *, schema: str, keys: Sequence[str] = ()) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and state of a file that `save_tensors` wrote.

    Args:
      keys: what the state must hold.

    Raises:
      CheckpointError: missing, truncated, not a safetensors file, of another schema, without these keys, or changed
        since it was written.
    """
    try:
        path.open("rb").close()  # safe_open calls one that may not be read missing
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            found = header.get("schema") if isinstance(header, dict) else None
            if found != schema:
                raise CheckpointError(f"{path} has schema {found!r}; expected {schema!r}")
            if unknown := header.keys() - {"schema", "state", CHECKSUM_KEY}:
                raise ValueError(f"unknown entries {sorted(unknown)!r:.100}")
            if not isinstance(header.get("state"), dict):
                raise CheckpointError(f"{path} has no state; start again in another --out, or restore the file")
            if missing := set(keys) - header["state"].keys():
                raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}; start a new run")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"no file {path}") from None
    except PermissionError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; get the permission to read it") from None
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is truncated or not ours ({error}); start again in another --out, or restore the file"
        ) from None
    verify(path, header, _contents(tensors), advice="start again in another --out, or restore the file")
    return tensors, header["state"]


def _contents(tensors: Mapping[str, Tensor]) -> Iterator[Content]:
    """Of contiguous tensors on the CPU."""
    for name, tensor in tensors.items():
        values = tensor.reshape(-1).view(torch.uint8).numpy()
        yield Content(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), values)


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with the prefix, under their own names again."""
    start = prefix + "."
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


def as_vector(tensors: Sequence[Tensor]) -> Tensor:
    """All values, one tensor after the other: some 2,000 small tensors take a fifth of a second to write."""
    with torch.no_grad():
        return torch.cat([tensor.reshape(-1) for tensor in tensors])


def copy_from_vector(
    vectors: Mapping[str, Tensor], name: str, tensors: Sequence[Tensor], *, path: Path, called: str | None = None
) -> None:
    """The reverse of `as_vector`, in place: a tensor keeps its memory layout, on which the rounding of kernels depends.

    Args:
      called: what the values are in a message; without it "values of NAME".

    Raises:
      CheckpointError: there is no vector of this name, or it has another number of values.
    """
    sizes = [tensor.numel() for tensor in tensors]
    found = vectors[name].numel() if name in vectors else 0
    if found != sum(sizes):
        raise CheckpointError(f"{path} is of another search: {found} {called or f'values of {name}'}, not {sum(sizes)}")
    with torch.no_grad():
        for tensor, values in zip(tensors, vectors[name].split(sizes), strict=True):
            tensor.copy_(values.view_as(tensor))


def load_into(module: torch.nn.Module, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Copy the tensors into a module; names, shapes and types must be the module's own.

    Raises:
      CheckpointError: they belong to another network.
    """
    own = module.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise CheckpointError(f"{path} belongs to another network: {name} is only in one of the two")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise CheckpointError(
                f"{path} belongs to another network: {name} is {tuple(tensors[name].shape)} there, "
                f"expected {tuple(tensor.shape)}"
            )
        if tensor.dtype != tensors[name].dtype:
            types = (str(each.dtype).removeprefix("torch.") for each in (tensors[name], tensor))
            raise CheckpointError(f"{path} belongs to another network: {name} is {' there, expected '.join(types)}")
    module.load_state_dict(dict(tensors))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, one tensor per (parameter, quantity)."""
    states = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, quantities in states.items()
        for name, value in quantities.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`; learning rate and the like stay the optimizer's own.

    What has a parameter's shape gets its memory layout too: the fused kernels walk both side by side.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, quantity = name.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        states.setdefault(int(index), {})[quantity] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
