"""The full-precision networks that a 1-bit network is compared with.

The hand-crafted ones are the CIFAR versions, described step by step, with 3x3 stems, no max pooling and
as many input channels and classes as the network that is compared.
"""

from collections.abc import Callable

from cpnas_cli.errors import UsageError
from cpnas_cli.networks.dataflow import IMAGE, Dataflow, Form, Read, Step, dataflow_of, num_outputs
from cpnas_cli.networks.layer import Ending, Layer
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import NetworkConfig

PARENT = "parent"


def _convolution(
    name: str,
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    ending: Ending = "affine",
) -> Layer:
    """With the padding that keeps the size at stride 1, and rounds the halves up at stride 2."""
    out_size = -(-size // stride)
    return Layer(
        name, "convolution", in_channels, out_channels, size, out_size, kernel_size, stride=stride, ending=ending
    )


class _Residual:
    """Collects the steps of a residual network; `value` is what the stem or the last block gave."""

    def __init__(self, shape: Surroundings, stem_channels: int) -> None:
        self.steps: list[Step] = []
        self.num_elements = {IMAGE: shape.num_image_channels * shape.image_size**2}
        stem = _convolution("stem", shape.num_image_channels, stem_channels, shape.image_size)
        self._add(stem, Read(IMAGE))
        self.value, self.channels, self.size = stem.name, stem_channels, shape.image_size

    def _add(self, layer: Layer, *reads: Read, writes: str | None = None, adds: bool = False) -> None:
        value, num_elements = writes or layer.name, num_outputs(layer)
        num_added = num_elements if adds else 0
        self.steps.append(Step(layer.name, reads, value, num_elements, layer, num_added=num_added))
        self.num_elements[value] = num_elements

    def block(self, name: str, out_channels: int, *, stride: int, shortcut_ending: Ending, shortcut_form: Form) -> None:
        """Two 3x3 convolutions and a shortcut: the identity, or a 1x1 convolution where the shape changes."""
        source = Read(self.value, "relu")
        projects = stride > 1 or out_channels != self.channels
        if projects:
            shortcut = _convolution(
                f"{name}.shortcut",
                self.channels,
                out_channels,
                self.size,
                kernel_size=1,
                stride=stride,
                ending=shortcut_ending,
            )
            self._add(shortcut, source, writes=name)
        first = _convolution(f"{name}.1", self.channels, out_channels, self.size, stride=stride)
        self._add(first, source)
        second = _convolution(f"{name}.2", out_channels, out_channels, first.out_size)
        identity = () if projects else (Read(self.value, shortcut_form),)
        self._add(second, Read(first.name, "relu"), *identity, writes=name, adds=True)
        self.value, self.channels, self.size = name, out_channels, first.out_size

    def finish(self, num_classes: int) -> Dataflow:
        layer = Layer("classifier", "linear", self.channels, num_classes, 1, 1, ending="bias")
        num_averaged = self.channels * self.size**2
        read = Read(self.value, "relu")
        self.steps.append(Step(layer.name, (read,), "scores", num_classes, layer, num_averaged=num_averaged))
        return Dataflow(tuple(self.steps), self.num_elements | {"scores": num_classes})


def resnet18(shape: Surroundings) -> Dataflow:
    """ResNet-18 for CIFAR: 64-128-256-512 channels, two blocks each, ReLU after each sum.

    He et al. 2016 (arXiv 1512.03385) with the usual changes for small images: 11,173,962 parameters and
    0.56 G multiply-accumulates for colour images of 32x32 pixels and 10 classes.
    """
    network = _Residual(shape, 64)
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            network.block(
                f"stages.{stage}.{block}", channels, stride=stride, shortcut_ending="affine", shortcut_form="relu"
            )
    return network.finish(shape.num_classes)


def wide_resnet(shape: Surroundings, *, depth: int, width: int) -> Dataflow:
    """WRN-depth-width: 16 channels, then 16, 32 and 64 times the width, (depth - 4) / 6 blocks each.

    Zagoruyko & Komodakis 2016 (arXiv 1605.07146), table 1. Batch norm and ReLU come before a convolution: a
    batch norm is listed as the ending of the layer whose result, or whose sum with the shortcut, it normalizes.
    """
    if depth % 6 != 4:
        raise ValueError(f"the depth of a Wide ResNet is 6 n + 4, got {depth}")
    network = _Residual(shape, 16)
    for stage, channels in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range((depth - 4) // 6):
            stride = 2 if stage > 0 and block == 0 else 1
            network.block(
                f"stages.{stage}.{block}", channels, stride=stride, shortcut_ending="nothing", shortcut_form="value"
            )
    return network.finish(shape.num_classes)


HAND_CRAFTED: dict[str, Callable[[Surroundings], Dataflow]] = {
    "resnet18": resnet18,
    "wrn22": lambda shape: wide_resnet(shape, depth=22, width=4),
}
DESCRIPTIONS = {
    PARENT: "the same genotype in full precision",
    "resnet18": "ResNet-18 for CIFAR in full precision",
    "wrn22": "WRN-22-4 in full precision",
}


def check_baseline(name: str) -> str:
    """The name.

    Raises:
      UsageError: it is none; the choices are listed.
    """
    if name not in DESCRIPTIONS:
        raise UsageError(f"unknown baseline {name!r}; --baseline expects one of {', '.join(DESCRIPTIONS)}")
    return name


def baseline_dataflow(name: str, settings: NetworkConfig, genotype: Genotype, shape: Surroundings) -> Dataflow:
    """The full-precision network of that name for the same images and classes.

    Raises:
      UsageError: an unknown name; the choices are listed.
    """
    if check_baseline(name) == PARENT:
        return dataflow_of(settings, genotype, shape, precision="full")
    return HAND_CRAFTED[name](shape)
