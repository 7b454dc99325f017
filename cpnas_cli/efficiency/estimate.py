"""What 1-bit inference would save, counted: operations, bits, and the ratio to a full-precision network.

Conventions, for one image: a multiply-accumulate counts as 1, in full precision (FLOPs) as in 1 bit (BOPs);
taps on the padding count; sizes are in bits. Every figure is a count, none is a time.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import reduce
from operator import add
from typing import Any

from cpnas_cli.efficiency.baselines import DESCRIPTIONS
from cpnas_cli.efficiency.named_network import NamedNetwork
from cpnas_cli.networks.dataflow import (
    BITS_PER_SIGN,
    Dataflow,
    Elementwise,
    Peak,
    Step,
    elementwise_of,
    peak_memory,
    stored_bits_per_element,
)
from cpnas_cli.networks.layer import BITS_PER_REAL, BITS_PER_THRESHOLD
from cpnas_cli.storage.documents import EFFICIENCY_SCHEMA

WORD_BITS = 64

CONVENTIONS = {
    "macs": "multiply-accumulates of the full-precision version; each counts as 1, taps on the padding too",
    "bops": "1-bit multiply-accumulates; each counts as 1",
    "flops": "full-precision multiply-accumulates that remain; each counts as 1",
    "ops": "flops + bops / 64",
    "elementwise": (
        "1 per output element of a batch norm, bias, threshold, sum, sign, ReLU or learned value of an ending; 9 per "
        "output element of a 3x3 pooling, 4 of a 2x2 mean; 1 per output element of the mean over edges; 1 per input "
        "element of another mean"
    ),
    "xnor_cost": "flops + bops / 64 + output elements of the 1-bit layers",
    "size_bits": (
        "1 per 1-bit weight, 8 per threshold, 32 per real value (fewer where the settings say so); a batch norm is a "
        "scale and a shift"
    ),
    "peak_activation_bits": (
        "largest sum of the values held at once at batch 1: 32 per element that a real operation still reads, "
        "1 per sign that a 1-bit layer still reads"
    ),
}


def xnor_speedup(inputs_per_filter: int, num_taps: int) -> float:
    """The speed-up of one 1-bit convolution.

        S = c N_W N_I / (c N_W N_I / 64 + N_I) = 64 c N_W / (c N_W + 64)

    where
      c: `inputs_per_filter`, the input channels that one filter reads (1 in a depthwise convolution),
      N_W: `num_taps` of a filter, N_I: output positions.

    XNOR-Net, Rastegari et al. 2016 (arXiv 1603.05279), section 3.3. At most 64; 62.27 for 256 channels and 3x3,
    7.89 for a depthwise 3x3.
    """
    per_output = inputs_per_filter * num_taps
    return WORD_BITS * per_output / (per_output + WORD_BITS)


@dataclass(frozen=True)
class LayerEstimate:
    """One layer or skip connection; what a skip connection has no value for is None.

    Attributes:
      precision: "1-bit", "real", or "none" where nothing is multiplied (pooling, skip).
      elementwise: see `dataflow.Elementwise`; of the sums, shortcuts and activations those that this layer
        completes.
      xnor_speedup: of a 1-bit layer.
      affine_bits: scales and shifts (a folded batch norm), biases, the values of an ending.
      activation_bits_in: of all that it reads, each value once as float32 and once as signs.
      activation_bits_out: of what is held of its result, see `dataflow.held_values`.
    """

    name: str
    kind: str
    precision: str
    in_channels: int | None
    out_channels: int | None
    kernel_size: int | None
    stride: int | None
    dilation: int | None
    groups: int | None
    in_size: int | None
    out_size: int | None
    num_outputs: int
    macs: int
    bops: int
    flops: int
    ops: float
    elementwise: int
    xnor_speedup: float | None
    weight_bits: int
    threshold_bits: int
    affine_bits: int
    activation_bits_in: int
    activation_bits_out: int

    @property
    def size_bits(self) -> int:
        return self.weight_bits + self.threshold_bits + self.affine_bits


@dataclass(frozen=True)
class Storage:
    """Bits by what they are for; stem and classifier with their own batch norm and bias."""

    binary_weights: int
    real_weights: int
    thresholds: int
    scales_and_shifts: int
    stem: int
    classifier: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class NetworkEstimate:
    """A whole network; every count is for one image."""

    layers: tuple[LayerEstimate, ...]
    elementwise: Elementwise
    peak: Peak

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def bops(self) -> int:
        return sum(layer.bops for layer in self.layers)

    @property
    def flops(self) -> int:
        return sum(layer.flops for layer in self.layers)

    @property
    def ops(self) -> float:
        """OPs = FLOPs + BOPs / 64 (Bi-Real Net, Liu et al. 2018, arXiv 1808.00278, section 4.3)."""
        return self.flops + self.bops / WORD_BITS

    @property
    def ops_with_elementwise(self) -> float:
        return self.ops + self.elementwise.total

    @property
    def xnor_cost(self) -> float:
        """As XNOR-Net counts: OPs, and one real operation for each output of a 1-bit layer."""
        return self.ops + sum(layer.num_outputs for layer in self.layers if layer.bops)

    @property
    def storage(self) -> Storage:
        stem = [layer for layer in self.layers if layer.name.startswith("stem")]
        (classifier,) = (layer for layer in self.layers if layer.name == "classifier")
        inner = [layer for layer in self.layers if layer not in stem and layer is not classifier]
        return Storage(
            binary_weights=sum(layer.weight_bits for layer in inner if layer.precision == "1-bit"),
            real_weights=sum(layer.weight_bits for layer in inner if layer.precision == "real"),
            thresholds=sum(layer.threshold_bits for layer in inner),
            scales_and_shifts=sum(layer.affine_bits for layer in inner),
            stem=sum(layer.size_bits for layer in stem),
            classifier=classifier.size_bits,
        )


@dataclass(frozen=True)
class Savings:
    """Ratios of a full-precision network to the Child: how many times less.

    Attributes:
      memory: bits stored. activation_memory: the peaks.
      macs: of the multiply-accumulates in whatever precision: what a smaller network saves, not 1 bit.
      speedup: MACs of the baseline / OPs of the Child.
      speedup_xnor: the same with the one real operation per output of XNOR-Net's estimate.
      speedup_with_elementwise: with the element-wise operations of both.
    """

    memory: float
    activation_memory: float
    macs: float
    speedup: float
    speedup_xnor: float
    speedup_with_elementwise: float


def estimate(flow: Dataflow) -> NetworkEstimate:
    counts, stored = elementwise_of(flow), stored_bits_per_element(flow)
    layers = tuple(
        _estimate_layer(step, count.total, flow, stored) for step, count in zip(flow.steps, counts, strict=True)
    )
    return NetworkEstimate(layers, reduce(add, counts, Elementwise()), peak_memory(flow))


def compare(child: NetworkEstimate, baseline: NetworkEstimate) -> Savings:
    return Savings(
        memory=baseline.storage.total / child.storage.total,
        activation_memory=baseline.peak.bits / child.peak.bits,
        macs=baseline.macs / child.macs,
        speedup=baseline.ops / child.ops,
        speedup_xnor=baseline.xnor_cost / child.xnor_cost,
        speedup_with_elementwise=baseline.ops_with_elementwise / child.ops_with_elementwise,
    )


def efficiency_document(
    named: NamedNetwork, child: NetworkEstimate, baseline: NetworkEstimate, *, baseline_name: str
) -> dict[str, Any]:
    """`cpnas.efficiency/1`: the layers and totals of the Child, the totals of the baseline, and their ratios."""
    return {
        "schema": EFFICIENCY_SCHEMA,
        "genotype": str(named.path),
        "image_size": named.shape.image_size,
        "num_image_channels": named.shape.num_image_channels,
        "num_classes": named.shape.num_classes,
        "network": named.network.model_dump(mode="json"),
        "conventions": CONVENTIONS,
        "layers": [{**asdict(layer), "size_bits": layer.size_bits} for layer in child.layers],
        "totals": _totals(child),
        "baseline": {"name": baseline_name, "description": DESCRIPTIONS[baseline_name], "totals": _totals(baseline)},
        "savings": asdict(compare(child, baseline)),
    }


def _totals(network: NetworkEstimate) -> dict[str, Any]:
    return {
        "macs": network.macs,
        "bops": network.bops,
        "flops": network.flops,
        "ops": network.ops,
        "elementwise": network.elementwise.total,
        "elementwise_parts": asdict(network.elementwise),
        "ops_with_elementwise": network.ops_with_elementwise,
        "xnor_cost": network.xnor_cost,
        "size_bits": network.storage.total,
        "size_bits_parts": asdict(network.storage),
        "peak_activation_bits": network.peak.bits,
        "peak_activation_step": network.peak.step,
    }


def layers_csv(document: Mapping[str, Any]) -> str:
    """The layers of a `cpnas.efficiency/1` document, one a line under a line of names; an absent value is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(document["layers"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(document["layers"])
    return text.getvalue()


def _estimate_layer(step: Step, elementwise: int, flow: Dataflow, stored: dict[str, int]) -> LayerEstimate:
    layer = step.layer
    binary = layer is not None and layer.binary
    bops = layer.macs if layer is not None and binary else 0
    flops = layer.macs if layer is not None and not binary else 0
    reads = {(read.value, BITS_PER_SIGN if read.form == "sign" else BITS_PER_REAL) for read in step.reads}
    shape = ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups", "in_size", "out_size")
    real_weights = layer.num_real_weights if layer is not None else 0
    return LayerEstimate(
        name=step.name,
        kind=layer.kind if layer is not None else "skip",
        precision="1-bit" if binary else "real" if real_weights else "none",
        **{name: getattr(layer, name) if layer is not None else None for name in shape},
        num_outputs=step.num_outputs,
        macs=bops + flops,
        bops=bops,
        flops=flops,
        ops=flops + bops / WORD_BITS,
        elementwise=elementwise,
        xnor_speedup=xnor_speedup(layer.inputs_per_filter, layer.kernel_size**2) if layer and binary else None,
        weight_bits=layer.num_binary_weights + layer.weight_bits * real_weights if layer is not None else 0,
        threshold_bits=BITS_PER_THRESHOLD * layer.num_thresholds if layer is not None else 0,
        affine_bits=layer.value_bits * layer.num_affine_values if layer is not None else 0,
        activation_bits_in=sum(bits * flow.num_elements[value] for value, bits in reads),
        activation_bits_out=step.num_outputs * stored[step.writes],
    )
