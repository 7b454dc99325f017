"""ONNX: a trained network as one file that other runtimes read, and its int8 form.

The graph takes images as they are and gives class scores:

  images  uint8 (batch, C, S, S), pixels 0..255; normalized inside the graph
  logits  float32 (batch, classes)

What is constant is computed before the export. A filter of the Child is stored as its signs, +1 and -1,
followed by one multiplication and one addition, which hold alpha and the batch norm; a real
convolution holds its batch norm in weights and bias. Latent weights are not stored.

Differs from evaluation with PyTorch: ONNX Runtime has no convolution in float64, so the real
convolutions of the Child (the stem) are summed in float32, and it multiplies scales into filters. Sums
within one rounding error of 0 can so get the other sign. That moves the scores of a few images in a
hundred, hardly ever a class.
"""

import contextlib
import copy
import importlib.util
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli import __version__
from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.errors import CpnasError
from cpnas_cli.networks.modules.batch_norm import BatchNorm, folded_scale
from cpnas_cli.networks.modules.classifier import Classifier
from cpnas_cli.networks.modules.ending import Ending
from cpnas_cli.networks.modules.plain_cnn import PlainCnn
from cpnas_cli.networks.modules.pointwise import PointwiseConv
from cpnas_cli.networks.modules.pooling import Pool
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.modules.reduction import FactorizedReduction
from cpnas_cli.networks.modules.residual import ResidualConv
from cpnas_cli.networks.modules.separable import SeparableConv
from cpnas_cli.networks.network import Network
from cpnas_cli.storage.documents import replacing
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork

if TYPE_CHECKING:
    import onnx

ONNX_SCHEMA = "cpnas.onnx/1"
INPUT, OUTPUT = "images", "logits"

# The newest operator set in which all that is used here has its present form; ONNX Runtime 1.17 reads it.
_OPSET = 20
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def check_onnx() -> None:
    """
    Raises:
      CpnasError: the extra is not installed.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise CpnasError(
            f"ONNX needs {', '.join(missing)} of the onnx extra, not installed; type: pip install 'cpnas[onnx]'"
        )


def write_onnx(trained: TrainedNetwork, path: Path) -> None:
    """Write a trained Child or Parent, with what it takes to use it in the model's metadata.

    Metadata, JSON but for the texts: schema ("cpnas.onnx/1"), cpnas (the version), network ("child" or
    "parent"), classes (in the order of the scores), image_size, num_image_channels, mean, std, genotype.

    Raises:
      CpnasError: the extra is not installed. RunError: the file cannot be written; an old one is as it was.
    """
    described = {
        "image_size": trained.image_size,
        "classes": trained.classes,
        "num_image_channels": trained.num_image_channels,
        "mean": trained.normalization.mean,
        "std": trained.normalization.std,
        "genotype": trained.genotype_document(),
    }
    metadata = {
        "schema": ONNX_SCHEMA,
        "cpnas": __version__,
        "network": trained.name,
        **{key: json.dumps(value) for key, value in described.items()},
    }
    model = onnx_bytes(
        trained.network, image_size=trained.image_size, normalization=trained.normalization, metadata=metadata
    )
    with replacing(path, advice="choose another --out") as temporary:
        temporary.write_bytes(model)


def onnx_bytes(
    network: Network | PlainCnn,
    *,
    image_size: int,
    normalization: Normalization | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The ONNX model of the network of a genotype or of a plain CNN, in evaluation mode; for any number of images.

    Args:
      network: stays as it is.
      image_size: S, pixels.
      normalization: with it the input is uint8 pixels; without it float32, normalized already.

    Raises:
      CpnasError: the extra is not installed.
    """
    check_onnx()
    deployed = _Deployed(folded(network), normalization).eval()
    first = next(module for module in network.modules() if isinstance(module, RealConv2d))
    dtype = torch.float32 if normalization is None else torch.uint8
    example = torch.zeros(2, first.weight.shape[1], image_size, image_size, dtype=dtype)
    with silent(), torch.no_grad():
        program = torch.onnx.export(
            deployed,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString(deterministic=True)


class _Deployed(nn.Module):
    """Images as they come in -> class scores, the model's only output."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: Network | PlainCnn, normalization: Normalization | None) -> None:
        super().__init__()
        self.network = network
        self.normalizes = normalization is not None
        if normalization is not None:
            self.register_buffer("mean", torch.tensor(normalization.mean).view(1, -1, 1, 1))
            self.register_buffer("scale", 1 / torch.tensor(normalization.std).view(1, -1, 1, 1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if self.normalizes:  # as in `batches.Pipeline.normalize`
            images_BCHW = (images_BCHW.float() / 255 - self.mean) * self.scale
        return self.network(images_BCHW).logits


# ---------------------------------------------------------------- what is constant, computed beforehand


class _Convolution(nn.Module):
    """A convolution with constant filters."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, like: BinaryConv2d | RealConv2d, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = like.stride, like.padding, like.dilation, like.groups
        self.register_buffer("weight", weight.detach().contiguous())
        self.register_buffer("bias", bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(x_BCHW, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _Affine(nn.Module):
    """x * scale + shift per channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale_C: Tensor, shift_C: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale_C.view(-1, 1, 1))
        self.register_buffer("shift", shift_C.view(-1, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.scale + self.shift


_Folded = TypeVar("_Folded", bound=Network | PlainCnn)


@torch.no_grad()
def folded(network: _Folded) -> _Folded:
    """A copy on the CPU, for inference only, in which filters, alpha and batch norms are constants."""
    network = copy.deepcopy(network).cpu().eval()
    for module in list(network.modules()):
        match module:
            case SeparableConv():
                if module.between is not None:
                    _fold(module, ["depthwise"], "between")
                _fold(module, ["pointwise"], "norm")
            case PointwiseConv():
                _fold(module, ["pointwise"], "norm")
            case FactorizedReduction():
                _fold(module, ["even", "odd"], "norm")
            case ResidualConv():
                _fold(module, ["convolution"], "norm")
            case Pool():
                setattr(module, "norm", _Affine(*module.norm.stored()))  # noqa: B010
            case Ending() | Classifier():
                module.keep_as_stored()
    pairs = network.stem if isinstance(network, Network) else network.convolutions
    for index in range(0, len(pairs), 2):
        _fold(pairs, [str(index)], str(index + 1))
    for module in list(network.modules()):  # those without a batch norm: depthwise, in the Parent
        for name, child in module.named_children():
            if isinstance(child, RealConv2d):
                setattr(module, name, _Convolution(child, child.weight))
    return network.requires_grad_(False)


def _fold(parent: nn.Module, names: Sequence[str], norm_name: str) -> None:
    """Replace convolutions side by side and the batch norm behind them."""
    convolutions = [parent.get_submodule(name) for name in names]
    norm = parent.get_submodule(norm_name)
    assert isinstance(norm, BatchNorm)
    binary = [convolution for convolution in convolutions if isinstance(convolution, BinaryConv2d)]
    if binary:
        for name, convolution in zip(names, binary, strict=True):
            setattr(parent, name, _Convolution(convolution, convolution.signs()))
        setattr(parent, norm_name, _Affine(*folded_scale(binary, norm)))
        return
    if norm.exact_evaluation:
        _fold_as_stored(parent, names, norm_name)
        return
    real = [convolution for convolution in convolutions if isinstance(convolution, RealConv2d)]
    sizes = [len(convolution.weight) for convolution in real]
    parts = zip(names, real, *(values_C.split(sizes) for values_C in norm.folded()), strict=True)
    for name, convolution, scale_C, shift_C in parts:
        setattr(parent, name, _Convolution(convolution, convolution.weight * scale_C.view(-1, 1, 1, 1), shift_C))
    setattr(parent, norm_name, nn.Identity())


def _fold_as_stored(parent: nn.Module, names: Sequence[str], norm_name: str) -> None:
    """Real convolutions of a Child: filters, scale and shift are those that are stored."""
    real = [parent.get_submodule(name) for name in names]
    norm = parent.get_submodule(norm_name)
    assert isinstance(norm, BatchNorm)
    convolutions = [convolution for convolution in real if isinstance(convolution, RealConv2d)]
    if any(convolution.input_steps > 1 for convolution in convolutions):  # of whole numbers: kept as such
        for name, convolution in zip(names, convolutions, strict=True):
            setattr(parent, name, _Convolution(convolution, convolution.stored_filters()))
        setattr(parent, norm_name, _Affine(*folded_scale(convolutions, norm)))
        return
    sizes = [len(convolution.weight) for convolution in convolutions]
    parts = zip(names, convolutions, *(part.split(sizes) for part in folded_scale(convolutions, norm)), strict=True)
    for name, convolution, scale_C, shift_C in parts:
        filters = convolution.stored_filters() * scale_C.view(-1, 1, 1, 1)
        setattr(parent, name, _Convolution(convolution, filters, shift_C))
    setattr(parent, norm_name, nn.Identity())


# ---------------------------------------------------------------- the libraries


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Standard output is the caller's; warnings and log lines of the libraries are about their own insides."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _strip(model: "onnx.ModelProto") -> None:
    """Remove what the exporter notes of itself: source paths of this machine, stack traces, rules applied."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def int8_bytes(model_bytes: bytes, calibration_batches: Iterable[Tensor]) -> bytes:
    """The model in 8 bits: static quantization by ONNX Runtime.

    QuantizeLinear and DequantizeLinear around every operator; int8 weights with a scale per output channel,
    uint8 activations with one from the smallest and largest value that the calibration images give. With
    int8 activations, the library's default, ONNX Runtime leaves half of the convolutions in float32.

    Args:
      model_bytes: a float model, from `onnx_bytes`.
      calibration_batches: real images, as the model takes them.

    Raises:
      CpnasError: the extra is not installed.
    """
    check_onnx()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(calibration_batches)

        def get_next(self) -> dict[str, Any] | None:  # type: ignore[override]
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.contiguous().numpy()}

    with tempfile.TemporaryDirectory(prefix="cpnas-int8-") as folder, silent():
        source, prepared, result = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(model_bytes)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
        return result.read_bytes()
