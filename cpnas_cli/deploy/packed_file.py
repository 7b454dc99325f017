"""The packed model: a trained Child in one file, 1 bit per binary weight and every real value once.

A safetensors file of arrays, in which the layers of `layers.layers_of` follow one another:

  bits        uint8    the signs of all binary weights (C_out, C / groups, k, k), 1 for +1, eight to a byte, the first
                       in the lowest bit; only the last byte is padded, with zeros
  thresholds  int8     per channel of a depthwise convolution: the least sum of signs that gives +1
  values      float32 or float16 (`network.real_format`)  per layer: real weights (of the stem as (C_out, C, k, k)),
                       then scale and shift, or bias; of an ending its values, one row of channels after the other
  weights     int8 or float16 (`network.weight_format`)  the real weights, where their format is another one; then there
                       are none in `values`

and of one metadata entry: genotype, network settings, classes, image size and normalization, and a checksum of all.
This module needs no torch; `packing` makes the arrays from a trained network.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.numpy import load, save, save_file

from cpnas_cli.errors import CheckpointError, CpnasError, RunError
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import Surroundings, layers_of
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import FitName, NetworkConfig
from cpnas_cli.storage.checksum import CHECKSUM_KEY, Content, checksum, verify
from cpnas_cli.storage.documents import replacing
from cpnas_cli.storage.genotype_file import genotype_document, parse_genotype

PACKED_SCHEMA = "cpnas.packed/1"
PACKED_NAME = "model.packed.safetensors"

_METADATA_KEY = "cpnas"
_MAX_HEADER_BYTES = 1 << 23
_MAX_CLASSES = 1 << 16
_TYPE_NAMES = {"uint8": "U8", "int8": "I8", "float16": "F16", "float32": "F32"}  # in the header of the file
_FIELDS = (
    "classes",
    "image_size",
    "num_image_channels",
    "mean",
    "std",
    "fit",
)  # as they are in the model and in the file
_MAX_SHOWN, _MAX_REASON = 200, 300  # characters in an error's line: of a value of the file; of all that is wrong


class _Description(BaseModel):
    """The metadata of the file; everything is checked before any array is looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=False)

    network: NetworkConfig
    genotype: dict[str, Any]
    classes: tuple[str, ...] = Field(min_length=1, max_length=_MAX_CLASSES)
    image_size: int = Field(ge=4, le=1024)
    num_image_channels: Literal[1, 3]
    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    std: tuple[Annotated[float, Field(ge=1e-6, le=1)], ...]  # so that 1 / std is finite in float32
    fit: FitName = "squash"

    @field_validator("classes")
    @classmethod
    def _are_distinct_texts(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("two classes have the same name")
        "".join(classes).encode()  # a lone surrogate is a ValueError too
        return classes


@dataclass(frozen=True)
class PackedModel:
    """A Child as it is stored; arrays as in the module's text.

    Attributes:
      mean, std: of the training images' channels, of pixels in [0, 1].
      weights: None where the real weights stand in `values`.
      fit: how images that are not square are made so; squash in a file that says nothing, as older ones do.
    """

    settings: NetworkConfig
    genotype: Genotype
    classes: tuple[str, ...]
    image_size: int
    num_image_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bits: np.ndarray
    thresholds: np.ndarray
    values: np.ndarray
    weights: np.ndarray | None = None
    fit: FitName = "squash"

    def arrays(self) -> dict[str, np.ndarray]:
        """Those that the file holds."""
        found = {"bits": self.bits, "thresholds": self.thresholds, "values": self.values, "weights": self.weights}
        return {name: array for name, array in found.items() if array is not None}

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.image_size, self.num_image_channels, len(self.classes))

    def layers(self) -> list[Layer]:
        return layers_of(self.settings, self.genotype, self.surroundings, precision="binary")


@dataclass(frozen=True)
class LayerArrays:
    """What one layer stores; what it does not have is empty.

    Attributes:
      signs: bool, (C_out, C / groups, k, k), True for +1.
      thresholds: int8, (C_out,).
      weights: float32, (C_out, C / groups, k, k); whole numbers where they are stored as such.
      scale, shift: float32, (C_out,); a bias is a shift.
      ending: float32, (n, C): the values of an ending.
    """

    signs: np.ndarray
    thresholds: np.ndarray
    weights: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    ending: np.ndarray


def unpack_layers(model: PackedModel) -> dict[str, LayerArrays]:
    """The arrays of every layer, by its name."""
    layers = model.layers()
    signs = np.unpackbits(model.bits, count=sum(layer.num_binary_weights for layer in layers), bitorder="little")
    bit = threshold = 0
    arrays = dict[str, LayerArrays]()
    values = _Reader(model.values)
    real_weights = values if model.weights is None else _Reader(model.weights)
    for layer in layers:
        shape = (layer.out_channels, layer.inputs_per_filter, layer.kernel_size, layer.kernel_size)
        num_real = layer.num_real_weights
        weights = real_weights.take(num_real)
        scale = values.take(layer.out_channels if layer.ending == "affine" else 0)
        shift = values.take(layer.out_channels if layer.ending in ("affine", "bias") else 0)
        ending = values.take(layer.num_channel_values * layer.out_channels)
        arrays[layer.name] = LayerArrays(
            signs[bit : bit + layer.num_binary_weights].astype(bool).reshape(shape if layer.binary else (0,)),
            model.thresholds[threshold : threshold + layer.num_thresholds],
            weights.reshape(shape if num_real else (0,)),
            scale,
            shift,
            ending.reshape(layer.num_channel_values, layer.out_channels),
        )
        bit += layer.num_binary_weights
        threshold += layer.num_thresholds
    return arrays


class _Reader:
    """Takes one part of an array after the other, as float32."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self._place = array, 0

    def take(self, count: int) -> np.ndarray:
        self._place += count
        return self._array[self._place - count : self._place].astype(np.float32)


def array_types(settings: NetworkConfig) -> dict[str, np.dtype]:
    """The arrays of the file and their types."""
    types = {"bits": "uint8", "thresholds": "int8", "values": settings.real_format}
    if settings.weight_format != settings.real_format:
        types["weights"] = settings.weight_format
    return {name: np.dtype(text) for name, text in types.items()}


def array_sizes(settings: NetworkConfig, layers: list[Layer]) -> dict[str, int]:
    """The length that each array of the file must have."""
    num_weights = sum(layer.num_real_weights for layer in layers)
    sizes = {
        "bits": math.ceil(sum(layer.num_binary_weights for layer in layers) / 8),
        "thresholds": sum(layer.num_thresholds for layer in layers),
        "values": sum(layer.num_affine_values for layer in layers),
    }
    if "weights" in array_types(settings):
        return {**sizes, "weights": num_weights}
    return {**sizes, "values": sizes["values"] + num_weights}


def header_bytes(path: Path) -> int:
    """How many bytes of a safetensors file are not its arrays."""
    with path.open("rb") as file:
        return 8 + struct.unpack("<Q", file.read(8))[0]


def save_packed(model: PackedModel, path: Path) -> None:
    """Write the file, or leave the old one as it was.

    Raises:
      RunError: it cannot be written, or the format does not allow its classes or other settings.
    """
    arrays, metadata = _content(model)
    with replacing(path, advice="choose another --out") as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:  # wraps "No space left on device", for one
            raise OSError(None, str(error)) from error


def packed_file_bytes(model: PackedModel) -> int:
    """How many bytes `save_packed` would write.

    Raises:
      RunError: the format does not allow its classes or other settings.
    """
    arrays, metadata = _content(model)
    return len(save(arrays, metadata=metadata))


def _content(model: PackedModel) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of the file; raises RunError as `save_packed` does."""
    fields = {name: getattr(model, name) for name in _FIELDS}
    genotype = genotype_document(model.genotype, provenance={})
    try:
        description = _Description.model_validate({"network": model.settings, "genotype": genotype, **fields})
    except ValidationError as error:
        raise RunError(f"the network cannot be packed: {_first_of(error)}; type --format onnx") from None
    document = {"schema": PACKED_SCHEMA, **description.model_dump(mode="json")}
    if description.fit == "squash":  # as older versions, which know no other, read it
        del document["fit"]
    arrays = {name: np.ascontiguousarray(array) for name, array in model.arrays().items()}
    document[CHECKSUM_KEY] = checksum(document, _contents(arrays))
    return arrays, {_METADATA_KEY: json.dumps(document, separators=(",", ":"))}


def _contents(arrays: Mapping[str, np.ndarray]) -> Iterator[Content]:
    for name, array in arrays.items():
        yield Content(name, array.dtype.name, array.shape, array.view(np.uint8).reshape(-1))


def load_packed(path: Path) -> PackedModel:
    """The model of a file, every part of it checked.

    Raises:
      CheckpointError: there is no such file, or it is truncated, of another version, changed since it was written, or
        its arrays do not fit its genotype.
    """
    try:
        header = _read_header(path)
        document = _check_schema(path, header.get("__metadata__"))
        model_of = _check_description(path, document)
        expected = _check_sizes(path, header, model_of)
        arrays: dict[str, Any] = load(path.read_bytes())
        found = {name: _type_and_shape(array) for name, array in arrays.items()}
        _check_types(path, found, expected)  # by another parser
    except FileNotFoundError:
        raise CheckpointError(f"no file {path}; `cpnas export RUN` makes a packed model") from None
    except PermissionError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; get the permission to read it") from None
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise _refusal(path, f"is truncated or not a packed model ({_shown(error)})") from None
    model = PackedModel(**model_of, **arrays)
    _check_content(path, model)
    verify(path, document, _contents(model.arrays()), advice="export or copy it again")
    return model


def _refusal(path: Path, reason: str, advice: str = "export it again") -> CheckpointError:
    """The error of a file, whose line stays short whatever the file holds."""
    return CheckpointError(f"{path} {_cut(reason, _MAX_REASON)}; {advice}")


def _shown(value: Any) -> str:
    """What comes from a file, to be shown in an error's line."""
    return _cut(str(value) if isinstance(value, Exception) else repr(value), _MAX_SHOWN)


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 3]}..."


def _first_of(error: ValidationError) -> str:
    """Where a description is wrong first, and why."""
    first = error.errors()[0]
    return f"{_shown('.'.join(str(part) for part in first['loc']))}: {first['msg']}"


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON header, without reading (or allocating) more than a header may have."""
    with path.open("rb") as file:
        start = file.read(8)
        num_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < num_bytes <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError("it has no safetensors header")
        header = json.loads(file.read(num_bytes))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header


def _check_schema(path: Path, metadata: Any) -> dict[str, Any]:
    """What the file says of itself."""
    text = metadata.get(_METADATA_KEY) if isinstance(metadata, dict) else None
    document = json.loads(text) if isinstance(text, str) else None
    found = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(document, dict) or found != PACKED_SCHEMA:
        reason = f"has schema {_shown(found)}; expected {PACKED_SCHEMA!r}"
        raise _refusal(path, reason, "export it with this version")
    return document


def _check_description(path: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the `PackedModel` but its arrays."""
    fields = {key: value for key, value in document.items() if key not in ("schema", CHECKSUM_KEY)}
    try:
        description = _Description(**fields)
        genotype = parse_genotype(description.genotype)
    except ValidationError as error:
        raise _refusal(path, f"has a damaged description: {_first_of(error)}") from None
    except CpnasError as error:
        raise _refusal(path, f"has a damaged description: {_shown(error)}") from None
    num_channels = description.num_image_channels
    if not len(description.mean) == len(description.std) == num_channels:
        raise _refusal(path, f"has no mean and deviation for each of {num_channels} channels")
    if description.image_size % (4 * description.network.stem_stride):
        raise _refusal(path, f"has images of {description.image_size} pixels, which its cells cannot halve")
    return {
        "settings": description.network,
        "genotype": genotype,
        **{name: getattr(description, name) for name in _FIELDS},
    }


def _check_sizes(path: Path, header: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, tuple[str, list[int]]]:
    """The arrays are those that the genotype needs, and the file holds them: known before anything is allocated.

    Returns:
      {name: (type as the file names it, shape)} of the arrays.
    """
    settings: NetworkConfig = fields["settings"]
    surroundings = Surroundings(fields["image_size"], fields["num_image_channels"], len(fields["classes"]))
    sizes = array_sizes(settings, layers_of(settings, fields["genotype"], surroundings, precision="binary"))
    types = array_types(settings)
    expected = {name: (_TYPE_NAMES[types[name].name], [size]) for name, size in sizes.items()}
    entries = {name: entry if isinstance(entry, dict) else {} for name, entry in header.items()}
    del entries["__metadata__"]
    _check_types(path, {name: (entry.get("dtype"), entry.get("shape")) for name, entry in entries.items()}, expected)
    num_bytes = sum(size * types[name].itemsize for name, size in sizes.items())
    if path.stat().st_size != header_bytes(path) + num_bytes:
        reason = f"has {path.stat().st_size} bytes, its genotype needs {header_bytes(path) + num_bytes}"
        raise _refusal(path, reason, "export or copy it again")
    return expected


def _check_types(
    path: Path, found: Mapping[str, tuple[Any, Any]], expected: Mapping[str, tuple[str, list[int]]]
) -> None:
    """
    Args:
      found, expected: {name: (type as the file names it, shape)} of all arrays.
    """
    if found.keys() != expected.keys():
        raise _refusal(path, f"holds {_shown(sorted(found))}, expected {sorted(expected)}")
    for name, needed in expected.items():
        if found[name] != needed:
            raise _refusal(path, f"has {name} {_shown(found[name])}, its genotype needs {needed!r}")


def _type_and_shape(array: np.ndarray) -> tuple[str, list[int]]:
    return _TYPE_NAMES.get(array.dtype.name, str(array.dtype)), list(array.shape)


def _check_content(path: Path, model: PackedModel) -> None:
    layers = model.layers()
    spare = -sum(layer.num_binary_weights for layer in layers) % 8
    if spare and model.bits[-1] >> (8 - spare):
        raise _refusal(path, "has set bits behind its last weight")
    if not all(np.isfinite(array).all() for array in model.arrays().values()):
        raise _refusal(path, "has values that are not finite")
    if model.weights is not None and model.weights.dtype == np.int8 and (model.weights == -128).any():
        raise _refusal(path, "has weights of -128, which no filter has")  # the stem's sums are exact for 127 and less
    limits = np.concatenate([_limits(layer) for layer in layers if layer.num_thresholds] or [np.zeros(0, np.int8)])
    if (model.thresholds < -limits).any() or (model.thresholds > limits + 1).any():
        raise _refusal(path, "has thresholds that no sum of signs can meet")


def _limits(layer: Layer) -> np.ndarray:
    """The largest sum of signs of every channel."""
    return np.full(layer.num_thresholds, layer.kernel_size**2, np.int8)
