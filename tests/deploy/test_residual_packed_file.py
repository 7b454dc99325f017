"""The packed file of residual blocks and of small formats: what it holds, its size by hand, and damaged ones."""

import dataclasses
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import Child, every_operation, make_child, said_by
from safetensors.numpy import load, save

from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.packed_file import PACKED_NAME, PackedModel, header_bytes, load_packed, save_packed, unpack_layers
from cpnas_cli.deploy.packing import pack
from cpnas_cli.errors import CheckpointError, RunError
from cpnas_cli.search_space import Genotype

# Node 2 is the sum of a grouped convolution and a pooling; of a reduction cell one edge, of stride 2, is left.
BY_HAND = Genotype(("sep_conv_3x3", "max_pool_3x3", *["none"] * 12), ("dil_conv_5x5", *["none"] * 13))
ITEM_SIZES = {"float32": 4, "float16": 2, "int8": 1}
FORMATS = [(real, weight) for real in ("float32", "float16") for weight in ("float32", "float16", "int8")]


def small(real_format: str = "float16", weight_format: str = "int8", **network: Any) -> Child:
    formats = {"real_format": real_format, "weight_format": weight_format}
    return make_child(BY_HAND, block="residual", group_width=2, stem_convolutions=2, **formats, **network)


def refused(path: Path) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_packed(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert len(message) - len(str(path)) < 400
    return message


# ---------------------------------------------------------------- what is stored


@pytest.mark.parametrize(("real_format", "weight_format"), FORMATS)
def test_what_is_saved_is_loaded(real_format: str, weight_format: str, tmp_path: Path) -> None:
    model = small(real_format, weight_format).model
    save_packed(model, tmp_path / PACKED_NAME)
    loaded = load_packed(tmp_path / PACKED_NAME)
    assert loaded.arrays().keys() == model.arrays().keys()
    for name, array in model.arrays().items():
        assert loaded.arrays()[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.arrays()[name], array)
    names = {field.name for field in dataclasses.fields(PackedModel)} - {"bits", "thresholds", "values", "weights"}
    assert all(getattr(loaded, name) == getattr(model, name) for name in names)


@pytest.mark.parametrize("activation", ["none", "prelu", "rprelu"])
@pytest.mark.parametrize("sign_shift", [False, True])
@pytest.mark.parametrize(("real_format", "weight_format"), FORMATS)
def test_the_size_of_a_network_by_hand(
    real_format: str, weight_format: str, sign_shift: bool, activation: str, tmp_path: Path
) -> None:
    """Colour, 4 channels, a stem of 2 and 4, 3 classes; a normal cell and two reductions with 4, 8, 16 channels."""
    bits = (16 + 16) + (4 * 8 + 16 * 8) + (16 * 16 + 32 * 16)  # preprocessings; one is two halves
    bits += 2 * 9 * 4 + 2 * 25 * 8 + 2 * 25 * 16  # grouped: 2 inputs a filter
    weights = 27 * 2 + 9 * 2 * 4 + 64 * 3
    values = 2 * (2 + 4) + 2 * (4 + 4) + 2 * (8 + 8) + 2 * (16 + 16)  # scales and shifts: stem, preprocessings
    values += 2 * (4 + 4) + 2 * 8 + 2 * 16 + 3  # of the edges; a bias per class
    values += 3 if weight_format == "int8" else 0  # a scale per class
    per_channel = {"none": 0, "prelu": 1, "rprelu": 3}[activation] + sign_shift
    values += per_channel * (4 + 3 * 4 + 3 * 8 + 3 * 16)  # stem, two inputs and one node of each cell
    child = small(real_format, weight_format, activation=activation, sign_shift=sign_shift)
    save_packed(child.model, tmp_path / PACKED_NAME)
    num_bytes = math.ceil(bits / 8) + values * ITEM_SIZES[real_format] + weights * ITEM_SIZES[weight_format]
    path = tmp_path / PACKED_NAME
    assert path.stat().st_size == header_bytes(path) + num_bytes
    layers = child.model.layers()
    assert sum(layer.num_binary_weights for layer in layers) == bits
    assert sum(layer.size_bits for layer in layers) == bits + 8 * (num_bytes - math.ceil(bits / 8))


def test_the_stored_values_are_those_of_the_modules_rounded() -> None:
    """float16 of numpy; a filter in whole steps of 1/127 of its largest weight, and its scale in that of its norm."""
    child = small()
    arrays, modules = unpack_layers(child.model), dict(child.network.named_modules())
    ending: Any = modules["cells.0.endings.2"]
    expected = np.stack([values.detach().numpy().astype(np.float16) for values in ending.values])
    np.testing.assert_array_equal(arrays["cells.0.endings.2"].ending, expected)
    for index, steps in ((0, 64), (1, 32)):
        convolution, norm = child.network.stem.pairs()[index]
        own, weight = arrays[f"stem.{index}"], convolution.weight.detach().numpy().astype(np.float64)
        step = np.abs(weight).max(axis=(1, 2, 3)) / 127
        np.testing.assert_allclose(own.weights, weight / step[:, None, None, None], rtol=0, atol=0.5001)
        assert (np.abs(own.weights).max(axis=(1, 2, 3)) == 127).all()
        scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double().numpy()
        np.testing.assert_allclose(own.scale, scale * step / steps, rtol=2**-10, atol=2**-24)
    signs = arrays["cells.0.edges.0.sep_conv_3x3.convolution"].signs
    latent: Any = modules["cells.0.edges.0.sep_conv_3x3.convolution"]
    np.testing.assert_array_equal(signs, latent.weight.detach().numpy() >= 0)
    assert signs.shape == (4, 2, 3, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("real_format", "weight_format"), [("float16", "float16"), ("float16", "int8")])
@pytest.mark.parametrize(
    "name",
    [
        "stem.0.weight",
        "stem.3.bias",
        "stem_ending.values.0",
        "cells.0.endings.2.values.1",
        "classifier.weight",
        "classifier.bias",
        "cells.0.edges.0.sep_conv_3x3.norm.bias",
        "cells.0.edges.1.max_pool_3x3.norm.weight",
    ],
)
def test_a_value_that_is_not_finite_is_refused(name: str, real_format: str, weight_format: str, value: float) -> None:
    """Also where the format has a largest value that it would be cut off to."""
    child = small(real_format, weight_format)
    tensor = child.network.state_dict()[name]
    tensor[(-1,) * tensor.dim()] = value
    with pytest.raises(RunError, match="finite"):
        pack(child.trained)


def test_values_that_float16_cannot_hold_are_cut_off() -> None:
    child = small()
    child.network.stem.pairs()[0][1].bias.data.fill_(1e9)
    arrays = unpack_layers(child.model)
    np.testing.assert_array_equal(arrays["stem.0"].shift, np.float32(65504))
    images = child.draw_images(1)
    assert np.isfinite(child.logits(images)).all()
    np.testing.assert_allclose(Engine(child.model, num_threads=1).logits(images), child.logits(images), rtol=1e-5)


# ---------------------------------------------------------------- damaged files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_packed(small().model, tmp_path / PACKED_NAME)
    return tmp_path / PACKED_NAME


def test_a_truncated_file_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for cut in {*range(0, len(data), 97), len(data) - 1}:
        path.write_bytes(data[:cut])
        refused(path)


def test_a_changed_byte_is_refused_or_changes_nothing(path: Path) -> None:
    """A group width, a format or an activation in the description, or a value."""
    whole = load_packed(path)
    data, generator = path.read_bytes(), random.Random(0)
    places = generator.choices(range(8, header_bytes(path)), k=250)
    places += generator.choices(range(header_bytes(path), len(data)), k=60)
    num_loaded = 0
    for place in places:
        changed = bytearray(data)
        changed[place] = generator.choice([changed[place] ^ 1 << generator.randrange(8), generator.randrange(256)])
        path.write_bytes(changed)
        try:
            model = load_packed(path)
        except CheckpointError:
            refused(path)
        else:
            num_loaded += 1
            assert changed == data or place < header_bytes(path)  # a blank of the header, say
            assert said_by(model) == said_by(whole)
    assert num_loaded < len(places) / 20


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("block", "separable", "has bits"),
        ("block", "x\ny", "'network.block': "),
        ("group_width", 4, "has bits"),
        ("group_width", 3, "network.group_width=3 does not divide 4 channels"),
        ("group_width", 0, "'network.group_width': "),
        ("activation", "rprelu", "has values"),
        ("activation", "relu", "'network.activation': "),
        ("sign_shift", False, "has values"),
        ("sign_shift", None, "'network.sign_shift': "),
        ("stem_convolutions", 3, "its genotype needs"),
        ("stem_convolutions", 4, "'network.stem_convolutions': "),
        ("real_format", "float32", "has values"),
        ("real_format", "int8", "'network.real_format': "),
        ("weight_format", "float32", "has values"),
        ("weight_format", "float16", "holds ['bits', 'thresholds', 'values', 'weights'], expected ['bits', "),
        ("weight_format", "int4", "'network.weight_format': "),
    ],
)
def test_other_settings_are_refused(key: str, value: Any, said: str, path: Path) -> None:
    data = path.read_bytes()
    header = json.loads(data[8 : header_bytes(path)])
    document = json.loads(header["__metadata__"]["cpnas"])
    document["network"][key] = value
    header["__metadata__"]["cpnas"] = json.dumps(document)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[header_bytes(path) :])
    assert said in refused(path)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("values", lambda array: array.astype(np.float32), "has values ('F32', "),
        ("values", lambda array: array.view(np.int16), "has values ('I16', "),
        ("values", lambda array: np.append(array[:-1], np.float16(np.nan)), "not finite"),
        ("values", lambda array: np.append(array[:-1], np.float16(np.inf)), "not finite"),
        ("values", lambda array: array[:-1], "has values ('F16', "),
        ("weights", lambda array: array.view(np.uint8), "has weights ('U8', "),
        ("weights", lambda array: array.astype(np.float16), "has weights ('F16', "),
        ("weights", lambda array: np.append(array, array[:1]), "has weights ('I8', "),
        ("weights", lambda array: array[:, None], "has weights ('I8', "),
        ("weights", None, "expected ['bits', 'thresholds', 'values', 'weights']"),
        ("thresholds", lambda _: np.zeros(1, np.int8), "has thresholds ('I8', [1])"),
    ],
)
def test_other_arrays_are_refused(name: str, change: Any, said: str, path: Path) -> None:
    data = path.read_bytes()
    arrays, metadata = load(data), json.loads(data[8 : header_bytes(path)])["__metadata__"]
    if change is None:
        del arrays[name]
    else:
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
    path.write_bytes(save(arrays, metadata=metadata))
    assert said in refused(path)


def test_an_array_of_weights_where_there_is_none_is_refused(tmp_path: Path) -> None:
    """Both in float16: one array holds all."""
    save_packed(small("float16", "float16").model, tmp_path / PACKED_NAME)
    path = tmp_path / PACKED_NAME
    arrays, metadata = load(path.read_bytes()), json.loads(path.read_bytes()[8 : header_bytes(path)])["__metadata__"]
    path.write_bytes(save({**arrays, "weights": np.zeros(0, np.float16)}, metadata=metadata))
    assert "holds ['bits', 'thresholds', 'values', 'weights']" in refused(path)


def test_a_filter_of_minus_128_is_refused(path: Path) -> None:
    """No filter is stored so, and the sums of the stem are exact for [-127, 127] alone."""
    data = path.read_bytes()
    arrays, metadata = load(data), json.loads(data[8 : header_bytes(path)])["__metadata__"]
    arrays["weights"][0] = -128
    path.write_bytes(save(arrays, metadata=metadata))
    assert "has weights of -128" in refused(path)


def test_seventy_percent_of_a_file_of_64_kib_are_bits() -> None:
    """What small formats and one ending per value are for."""
    formats: dict[str, Any] = {"real_format": "float16", "weight_format": "int8"}
    child = make_child(
        every_operation(), block="residual", num_channels=20, group_width=20, stem_multiplier=1, image_size=16,
        num_classes=10, **formats,
    )  # fmt: skip
    arrays = child.model.arrays()
    total = sum(array.nbytes for array in arrays.values())
    assert 60 << 10 < total < 66 << 10
    assert arrays["bits"].nbytes > 0.7 * total
