"""What a network holds: parameters, bits, and which of its parts are 1-bit."""

from dataclasses import dataclass

from cpnas_cli.networks.blocks.base import block_of
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import Surroundings, layers_of
from cpnas_cli.networks.modules.plain_cnn import PlainCnn
from cpnas_cli.networks.network import Network
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.settings import NetworkConfig


@dataclass(frozen=True)
class NetworkSize:
    """Storage that inference needs.

    Convention: 1 bit per weight of a binary convolution; 32 bits per real value, or what `network.real_format` and
    `network.weight_format` say for those of a Child; 8 per threshold. A batch
    norm is folded into 2 real values per channel (a scale and a shift), and the scale alpha of a binary
    convolution, learned or not, into the scale of the batch norm behind it; a batch norm between two binary
    convolutions, of which only the sign is wanted, into one threshold per channel. `num_parameters`
    counts what is trained: latent weights, learned scales, batch norm weights and biases, stem, classifier.
    """

    num_parameters: int
    num_binary_weights: int
    num_real_values: int
    num_thresholds: int
    size_bits: int


def network_size(network: Network | PlainCnn) -> NetworkSize:
    """Of the network of a genotype, or of a plain CNN.

    Raises:
      ValueError: it is a shared network, which has no size of its own.
    """
    layers = network.layers() if isinstance(network, PlainCnn) else _layers(network)
    return NetworkSize(
        num_parameters=sum(p.numel() for p in network.parameters()),
        num_binary_weights=sum(layer.num_binary_weights for layer in layers),
        num_real_values=sum(layer.num_real_values for layer in layers),
        num_thresholds=sum(layer.num_thresholds for layer in layers),
        size_bits=sum(layer.size_bits for layer in layers),
    )


def _layers(network: Network) -> list[Layer]:
    if network.genotype is None:
        raise ValueError("a shared network has no size of its own")
    (stem, _), *_ = network.stem.pairs()
    # sizes of images decide nothing that is stored: the smallest that the network takes
    surroundings = Surroundings(4 * network.settings.stem_stride, stem.weight.shape[1], network.classifier.out_features)
    return layers_of(network.settings, network.genotype, surroundings, precision=network.precision)


def precision_parts(settings: NetworkConfig, precision: Precision) -> dict[str, list[str]]:
    """Which parts of the network are 1-bit and which are real, for people and for results."""
    always_real = ["stem", "classifier", "batch norm", "pooling", "sums of edges"]
    always_real += block_of(settings).real_parts
    if settings.shortcut:
        always_real.append("shortcut around the preprocessing")
    convolutions = [block_of(settings).convolutions, "preprocessing", "factorized_reduction"]
    if precision == "full":
        return {"binary": [], "real": convolutions + always_real}
    return {
        "binary": [part for part in convolutions if part not in settings.real_parts],
        "real": [part for part in convolutions if part in settings.real_parts] + always_real,
    }
