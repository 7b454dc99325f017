"""One grouped convolution with a real residual around it, and an activation and a shift for every value of a cell.

Source: the residual of Bi-Real Net (Liu et al. 2018, arXiv 1808.00278), the one grouped convolution of EBNAS, the
shift before the sign and the activation of ReActNet (Liu et al. 2020, arXiv 2003.03488). Ours: both belong to the
value and not to each convolution that reads or makes it, so that a cell has few real parameters beside its bits; and a
node is the mean over its edges, whose residuals would else add up from node to node.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpnas_cli.networks.blocks.base import Block, EdgeShape, Kernel
from cpnas_cli.networks.layer import Layer

if TYPE_CHECKING:
    from torch import nn

    from cpnas_cli.networks.modules.ending import Ending
    from cpnas_cli.settings import NetworkConfig

# Learned real values per channel: of the activation.
_NUM_OF_ACTIVATION = {"none": 0, "prelu": 1, "rprelu": 3}


@dataclass(frozen=True)
class Residual(Block):
    """See the module's text.

    Attributes:
      group_width: input channels of a filter; all of them where there are fewer.
      activation: "none", "prelu" or "rprelu". sign_shift: of the Child.
    """

    group_width: int = 8
    activation: str = "prelu"
    sign_shift: bool = True

    @staticmethod
    def of(settings: "NetworkConfig") -> "Residual":
        return Residual(settings.group_width, settings.activation, settings.sign_shift)

    @property
    def convolutions(self) -> str:
        return "grouped convolutions"

    @property
    def real_parts(self) -> list[str]:
        shifts = ["shifts before signs"] if self.sign_shift else []
        activations = [] if self.activation == "none" else [f"{self.activation} of the values"]
        return ["residuals around the convolutions", *activations, *shifts]

    @property
    def rectifies(self) -> bool:
        return False

    def check(self, num_channels: int) -> None:
        if num_channels % min(self.group_width, num_channels):
            raise ValueError(
                f"network.group_width={self.group_width} does not divide {num_channels} channels; choose a "
                "network.group_width that does, or other channels"
            )

    @property
    def averages(self) -> bool:
        return True

    def num_groups(self, num_channels: int) -> int:
        """Of a convolution from so many channels to as many."""
        return num_channels // min(self.group_width, num_channels)

    def build_convolution(self, edge: EdgeShape, kernel: Kernel) -> "nn.Module":
        from cpnas_cli.networks.modules.residual import ResidualConv

        shape = {"stride": edge.stride, "dilation": kernel.dilation, "groups": self.num_groups(edge.num_channels)}
        return ResidualConv(edge.num_channels, kernel.size, **shape, arithmetic=edge.arithmetic)

    def convolution_layers(self, path: str, edge: EdgeShape, kernel: Kernel, size: int) -> tuple[Layer, ...]:
        layer = Layer(
            f"{path}.convolution",
            "convolution",
            edge.num_channels,
            edge.num_channels,
            size,
            size // edge.stride,
            kernel_size=kernel.size,
            stride=edge.stride,
            dilation=kernel.dilation,
            groups=self.num_groups(edge.num_channels),
            binary=edge.arithmetic.is_binary,
            residual=True,
        )
        return (layer,)

    def build_reduction(self, edge: EdgeShape) -> "nn.Module":
        from cpnas_cli.networks.modules.residual import Halving

        assert edge.stride == 2
        return Halving()

    def reduction_layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        channels = edge.num_channels
        shape = {"kernel_size": 2, "stride": 2, "pooling": "halving", "ending": "nothing"}
        return (Layer(path, "pool", channels, channels, size, size // 2, **shape),)  # pyright: ignore

    def build_ending(self, num_channels: int, *, binary: bool) -> "Ending | None":
        from cpnas_cli.networks.modules.ending import Ending

        sign_shift = binary and self.sign_shift
        if self.activation == "none" and not sign_shift:
            return None
        return Ending(num_channels, activation=self.activation, sign_shift=sign_shift)

    def ending_layers(self, path: str, num_channels: int, size: int, *, binary: bool) -> tuple[Layer, ...]:
        num_values = _NUM_OF_ACTIVATION[self.activation] + (binary and self.sign_shift)
        if not num_values:
            return ()
        layer = Layer(
            path, "ending", num_channels, num_channels, size, size, ending="nothing", num_channel_values=num_values
        )
        return (layer,)


RESIDUAL = Residual()
