"""What a network holds: parameters, bits, and which of its parts are 1-bit."""

from dataclasses import dataclass

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.networks.layer import BITS_PER_REAL, BITS_PER_THRESHOLD
from cpnas_cli.networks.modules.separable import SeparableConv
from cpnas_cli.networks.network import Network
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.settings import NetworkConfig


@dataclass(frozen=True)
class NetworkSize:
    """Storage that inference needs.

    Convention: 1 bit per weight of a binary convolution; 32 bits per real value; 8 per threshold. A batch
    norm is folded into 2 real values per channel (a scale and a shift), and the scale alpha of a binary
    convolution, learned or not, into the scale of the batch norm behind it; a batch norm between two binary
    convolutions, of which only the sign is wanted, into one threshold per channel. `num_parameters`
    counts what is trained: latent weights, learned scales, batch norm weights and biases, stem, classifier.
    """

    num_parameters: int
    num_binary_weights: int
    num_real_values: int
    num_thresholds: int

    @property
    def size_bits(self) -> int:
        return self.num_binary_weights + BITS_PER_REAL * self.num_real_values + BITS_PER_THRESHOLD * self.num_thresholds


def network_size(network: Network) -> NetworkSize:
    convolutions = [m for m in network.modules() if isinstance(m, BinaryConv2d)]
    num_binary = sum(convolution.weight.numel() for convolution in convolutions)
    num_learned_scales = sum(m.alpha.numel() for m in convolutions if m.alpha is not None)
    between = [m.between for m in network.modules() if isinstance(m, SeparableConv) and m.between is not None]
    num_thresholds = sum(norm.weight.numel() for norm in between)
    num_parameters = sum(p.numel() for p in network.parameters())
    num_real = num_parameters - num_binary - num_learned_scales - 2 * num_thresholds
    return NetworkSize(num_parameters, num_binary, num_real, num_thresholds)


def precision_parts(settings: NetworkConfig, precision: Precision) -> dict[str, list[str]]:
    """Which parts of the network are 1-bit and which are real, for people and for results."""
    always_real = ["stem", "classifier", "batch norm", "pooling", "sums of edges"]
    if settings.shortcut:
        always_real.append("shortcut around the preprocessing")
    convolutions = ["separable convolutions (depthwise, dilated and 1x1)", "preprocessing", "factorized_reduction"]
    if precision == "full":
        return {"binary": [], "real": convolutions + always_real}
    return {
        "binary": [part for part in convolutions if part not in settings.real_parts],
        "real": [part for part in convolutions if part in settings.real_parts] + always_real,
    }
