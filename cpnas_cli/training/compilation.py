"""`torch.compile` of a network's training, tried before it is relied on."""

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.networks.network import Network, Output


def compile_network(
    network: Network, x_BCHW: Tensor, *kept_BE: Tensor, fabric: Fabric, backend: str = "inductor"
) -> tuple[Callable[..., Output], str | None]:
    """The network compiled for training on batches like this one, and None; or the network itself, and why.

    The batch goes through once, forward and backward, which is when everything is compiled: minutes on a CPU. The
    network is as it was afterwards.

    Args:
      x_BCHW: images as a training step has them.
      kept_BE: with drop-path what it keeps, see `Network`.
      backend: of torch.compile.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        compiled = torch.compile(network, backend=backend, dynamic=False)
        with fabric.autocast():
            output = compiled(x_BCHW, None, *kept_BE) if kept_BE else compiled(x_BCHW)
        # all outputs, as the losses use them
        parts = [tensor.float().square().sum() for tensor in output if tensor is not None]
        fabric.backward(torch.stack(parts).sum())
    except Exception as error:  # no C++ compiler, code that it cannot compile, a defect: each has its own type
        return network, _first_line(error)
    finally:
        network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])
    return compiled, None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
