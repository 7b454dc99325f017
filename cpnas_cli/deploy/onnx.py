"""ONNX: a trained network as one file that other runtimes read, and its int8 form.

The graph takes images as they are and gives class scores:

  images  uint8 (batch, C, S, S), pixels 0..255; normalized inside the graph
  logits  float32 (batch, classes)

What is constant is computed before the export, see `folding`; latent weights are not stored. What differs from
evaluation with PyTorch stands in `EXACTNESS`, and in the file.
"""

import contextlib
import importlib.util
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cpnas_cli import __version__
from cpnas_cli.deploy.folding import folded
from cpnas_cli.errors import CpnasError
from cpnas_cli.networks.modules.plain_cnn import PlainCnn
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.network import Network
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.storage.documents import replacing
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork

if TYPE_CHECKING:
    import onnx

ONNX_SCHEMA = "cpnas.onnx/1"
EXACTNESS: Mapping[NetworkName, str] = {
    "child": "With ONNX Runtime on a CPU every value up to the last layer has the bits of PyTorch in evaluation mode, "
    "and so of the packed engine. The means and sums of the last layer are taken in another order: scores differ by "
    "rounding. A runtime that computes with less precision than the graph asks for, or multiplies scales into filters, "
    "can give a value next to a threshold the other sign, which changes the scores of that image.",
    "parent": "Batch norms are multiplied into the filters, and the runtime has its own order of sums: scores differ "
    "from those of PyTorch by rounding.",
}
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
    "parent"), exactness (what differs from PyTorch), classes (in the order of the scores), image_size,
    num_image_channels, mean, std, genotype; and fit, how images that are not square are made so, unless they are
    squashed.

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
    if trained.config.data.fit != "squash":
        described["fit"] = trained.config.data.fit
    metadata = {
        "schema": ONNX_SCHEMA,
        "cpnas": __version__,
        "network": trained.name,
        "exactness": EXACTNESS[trained.name],
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
