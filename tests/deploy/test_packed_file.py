"""The packed model: what is stored, to the bit; and that no damaged file is taken for a model."""

import dataclasses
import json
import math
import os
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from children import Child, every_operation, everywhere, make_child, said_by
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from cpnas_cli.deploy import packed_file as packed
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.packed_file import (
    PACKED_NAME,
    PackedModel,
    array_sizes,
    header_bytes,
    load_packed,
    save_packed,
    unpack_layers,
)
from cpnas_cli.deploy.packing import pack, sign_thresholds, write_packed
from cpnas_cli.errors import CheckpointError, RunError, UsageError
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.pooling import Pool
from cpnas_cli.networks.modules.separable import SeparableConv
from cpnas_cli.networks.network import build_network
from cpnas_cli.search_space import Genotype, draw_uniform

MANY = settings(max_examples=200, deadline=None, derandomize=True)
REAL_PARTS = ("preprocessing", "factorized_reduction")
# Node 2 is the sum of a separable convolution and a pooling; of a reduction cell one edge is left.
BY_HAND = Genotype(("sep_conv_3x3", "max_pool_3x3", *["none"] * 12), ("skip_connect", *["none"] * 13))
VARIANTS: dict[str, tuple[Genotype, dict[str, Any]]] = {
    "every operation": (every_operation(), {}),
    "by hand": (BY_HAND, {}),
    "grey, 2 channels": (draw_uniform(seed=0), {"num_channels": 2, "num_image_channels": 1, "num_classes": 1}),
    "strided stem": (draw_uniform(seed=1), {"stem_stride": 4, "stem_multiplier": 3, "image_size": 32}),
    "real parts": (draw_uniform(seed=2), {"real_parts": REAL_PARTS, "num_cells": 5, "shortcut": False}),
    "no binary depthwise": (everywhere("skip_connect"), {"num_channels": 6}),
}
_SMALLEST = make_child(BY_HAND)  # its file is a few kilobytes


def variant(name: str) -> Child:
    genotype, values = VARIANTS[name]
    return make_child(genotype, **values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the smallest child."""
    save_packed(_SMALLEST.model, tmp_path / PACKED_NAME)
    return tmp_path / PACKED_NAME


# ---------------------------------------------------------------- what is stored


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    child = variant(name)
    model = dataclasses.replace(child.model, classes=("ä b", "", "\n"), mean=tuple(1 / 3 for _ in child.model.mean))
    model = dataclasses.replace(model, values=fitting_values(model))
    save_packed(model, tmp_path / "new" / PACKED_NAME)
    loaded = load_packed(tmp_path / "new" / PACKED_NAME)
    for field in dataclasses.fields(PackedModel):
        if field.name in ("bits", "thresholds", "values"):
            continue
        assert getattr(loaded, field.name) == getattr(model, field.name)
    for own, other in zip(arrays_of(loaded), arrays_of(model), strict=True):
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other)
    assert loaded.genotype == VARIANTS[name][0]
    assert loaded.settings == child.network.settings


def fitting_values(model: PackedModel) -> np.ndarray:
    """Real values as many as the model needs with its present classes."""
    return np.linspace(-1, 1, array_sizes(model.settings, model.layers())["values"], dtype=np.float32)


def arrays_of(model: PackedModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return model.bits, model.thresholds, model.values


@pytest.mark.parametrize("name", VARIANTS)
def test_the_size_of_a_file_to_the_byte(name: str, tmp_path: Path) -> None:
    model = variant(name).model
    save_packed(model, tmp_path / PACKED_NAME)
    layers = model.layers()
    sizes = array_sizes(model.settings, layers)
    assert (sizes["bits"], sizes["thresholds"], sizes["values"]) == tuple(array.size for array in arrays_of(model))
    arrays = sizes["bits"] + sizes["thresholds"] + 4 * sizes["values"]
    assert arrays == math.ceil(sum(layer.size_bits for layer in layers) / 8)
    assert (tmp_path / PACKED_NAME).stat().st_size == header_bytes(tmp_path / PACKED_NAME) + arrays


@pytest.mark.parametrize("name", VARIANTS)
def test_every_trained_value_is_stored_once(name: str) -> None:
    """The network's own count: a bit per latent weight, and 2 values, or a threshold, per channel of a batch norm."""
    child = variant(name)
    between = [module.between for module in child.network.modules() if isinstance(module, SeparableConv)]
    thresholds = sum(norm.weight.numel() for norm in between if norm is not None)
    binary = sum(latent.numel() for latent in child.network.latent_filters())
    parameters = sum(parameter.numel() for parameter in child.network.parameters())
    bits, stored_thresholds, values = arrays_of(child.model)
    assert (bits.size, stored_thresholds.size) == (math.ceil(binary / 8), thresholds)
    assert values.size == parameters - binary - 2 * thresholds


def test_the_size_of_a_small_network_by_hand(path: Path) -> None:
    """Colour, 4 channels, a stem of 4, 3 classes; a normal cell and two reductions with 4, 8, 16 channels."""
    bits = (16 + 16 + 36 + 16) + (4 * 8 + 16 * 8 + 8 * 8) + (16 * 16 + 32 * 16 + 16 * 16)
    values = (108 + 8) + (8 + 8 + 8 + 8) + (16 + 16 + 16) + (32 + 32 + 32) + (64 * 3 + 3)
    model = load_packed(path)
    assert [array.shape for array in arrays_of(model)] == [(math.ceil(bits / 8),), (4,), (values,)]
    assert (bits, values) == (1332, 487)
    assert path.stat().st_size == header_bytes(path) + 167 + 4 + 4 * 487


def test_the_spare_bits_are_zero() -> None:
    assert _SMALLEST.model.bits[-1] >> 4 == 0  # 1332 = 8 * 166 + 4


def normed(norm: BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift in float64."""
    values = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, var = (tensor.detach().double().numpy() for tensor in values)
    scale = weight / np.sqrt(var + norm.eps)
    return scale, bias - mean * scale


@pytest.mark.parametrize("name", VARIANTS)
def test_the_stored_values_of_every_layer(name: str) -> None:
    """Signs of the latent weights, sign(0) = +1; scales with the mean |H| of a filter; real weights as they are."""
    child = variant(name)
    arrays = unpack_layers(child.model)
    modules = dict(child.network.named_modules())
    for layer in child.model.layers():
        own, parent = arrays[layer.name], modules[layer.name.rpartition(".")[0]]
        if layer.kind == "linear":
            linear = child.network.classifier
            np.testing.assert_array_equal(own.weights[..., 0, 0], linear.weight.detach().numpy())
            np.testing.assert_array_equal(own.shift, linear.bias.detach().numpy())
            continue
        module = modules[layer.name]
        if layer.ending == "threshold":
            continue  # see the tests of thresholds
        if isinstance(module, Pool):
            norm, latent = module.norm, None
        elif layer.name == "stem":
            norm, latent = modules["stem.1"], modules["stem.0"].weight
        else:
            norm, latent = parent.norm, module.weight
        assert isinstance(norm, BatchNorm)
        scale, shift = normed(norm)
        last = slice(layer.out_channels) if not layer.name.endswith(".odd") else slice(-layer.out_channels, None)
        scale, shift = scale[last], shift[last]
        if latent is not None:
            assert isinstance(latent, torch.Tensor)
            weight = latent.detach().numpy()
            if layer.binary:
                scale = scale * np.abs(weight.astype(np.float64)).mean(axis=(1, 2, 3))
                np.testing.assert_array_equal(own.signs, weight >= 0)
                assert (weight == 0).any() or weight.size < 50
            else:
                np.testing.assert_array_equal(own.weights, weight)
        np.testing.assert_allclose(own.scale, scale, rtol=1e-6)
        np.testing.assert_allclose(own.shift, shift, rtol=1e-5, atol=1e-6)


def test_two_files_of_a_network_are_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    for each in paths:
        write_packed(_SMALLEST.trained, each)
    save_packed(load_packed(paths[0]), paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_saving_replaces_a_file_or_says_why_not(path: Path) -> None:
    other = variant("grey, 2 channels").model
    save_packed(other, path)
    assert load_packed(path).num_image_channels == 1
    with pytest.raises(RunError, match=r"cannot write .*; choose another --out$"):
        save_packed(other, path / "below a file")
    assert load_packed(path).num_image_channels == 1
    assert [each.name for each in path.parent.iterdir()] == [PACKED_NAME]


# ---------------------------------------------------------------- thresholds

REALS = st.floats(-1e6, 1e6, width=32)
# also such that the sign changes exactly at a whole number, and never
LINES = st.one_of(
    st.tuples(REALS, REALS),
    st.tuples(REALS, st.sampled_from([0.0, -0.0])),
    st.tuples(st.sampled_from([0.0, -0.0]), REALS),
    st.tuples(st.sampled_from([0.1, -0.1, 1 / 3, -1 / 3, 2.0**-140]), st.integers(-26, 26)).map(
        lambda line: (line[0], float(np.float32(line[0]) * np.float32(line[1])))
    ),
)


@MANY
@given(lines=st.lists(LINES, min_size=1, max_size=6), kernel_size=st.sampled_from([3, 5]))
def test_a_threshold_is_the_sign_of_the_batch_norm(lines: list[tuple[float, float]], kernel_size: int) -> None:
    """For every whole number that a sum of signs, also at the border of the image, can be."""
    scale, shift = np.array(lines, np.float32).T
    largest = kernel_size**2
    thresholds, flipped = sign_thresholds(scale, shift, largest_sum=largest)
    assert thresholds.dtype == np.int8
    assert ((-largest <= thresholds) & (thresholds <= largest + 1)).all()
    for channel in range(len(lines)):
        for n in range(-largest, largest + 1):
            expected = np.float32(n) * scale[channel] + shift[channel] >= 0
            found = (-n if flipped[channel] else n) >= thresholds[channel]
            assert found == expected, (scale[channel], shift[channel], n)


@pytest.mark.parametrize("op", ["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"])
def test_packed_signs_and_thresholds_are_a_depthwise_convolution(op: str) -> None:
    """Patches of +1, -1 and zeros (the padding) against convolution, batch norm and sign of the network."""
    child = make_child(everywhere(op), num_channels=10)
    arrays = unpack_layers(child.model)
    num_flipped = 0
    for name, module in child.network.named_modules():
        if not isinstance(module, SeparableConv):
            continue
        own, norm, latent = arrays[f"{name}.depthwise"], module.between, module.depthwise.weight
        assert norm is not None
        assert isinstance(latent, torch.Tensor)
        patches = np.random.default_rng(0).integers(-1, 2, (500, *latent.shape[:1], *latent.shape[2:]))
        signs = torch.where(latent >= 0, 1.0, -1.0)
        sums = F.conv2d(torch.tensor(patches).float(), signs, groups=len(latent))[:, :, 0, 0]
        alpha = latent.detach().abs().mean(dim=(1, 2, 3))
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        expected = sums * (alpha * scale) + (norm.bias - norm.running_mean * scale) >= 0
        counts = np.einsum("nchw,chw->nc", patches, np.where(own.signs, 1, -1)[:, 0])
        np.testing.assert_array_equal(counts >= own.thresholds, expected.numpy())
        num_flipped += int((norm.weight < 0).sum())
        same = (own.signs == (latent >= 0).numpy()).all(axis=(1, 2, 3))
        np.testing.assert_array_equal(same, (norm.weight >= 0).numpy())
    assert num_flipped > 50


# ---------------------------------------------------------------- what is not packed


def test_a_parent_is_refused(tmp_path: Path) -> None:
    parent = build_network(
        _SMALLEST.network.settings,
        precision="full",
        num_image_channels=3,
        num_classes=3,
        seed=0,
        genotype=BY_HAND,
    )
    with pytest.raises(UsageError, match="onnx"):
        write_packed(dataclasses.replace(_SMALLEST.trained, network=parent), tmp_path / PACKED_NAME)
    assert not (tmp_path / PACKED_NAME).exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    [
        "stem.0.weight",
        "stem.1.bias",
        "classifier.weight",
        "classifier.bias",
        "cells.0.preprocessing.0.convolution.pointwise.weight",
        "cells.0.edges.0.sep_conv_3x3.depthwise.weight",
        "cells.0.edges.0.sep_conv_3x3.between.running_mean",
        "cells.0.edges.0.sep_conv_3x3.between.bias",
        "cells.0.edges.1.max_pool_3x3.norm.weight",
        "cells.2.preprocessing.0.convolution.norm.running_mean",
    ],
)
def test_a_value_that_is_not_finite_is_refused(name: str, value: float) -> None:
    child = make_child(BY_HAND)
    tensor = child.network.state_dict()[name]
    tensor[(-1,) * tensor.dim()] = value
    with pytest.raises(RunError, match="finite"):
        pack(child.trained)


@pytest.mark.parametrize("classes", [("a", "b", "a"), ("a", "b", "\udce9")])
def test_what_would_not_be_loaded_is_not_saved(classes: tuple[str, ...], tmp_path: Path) -> None:
    """The folder of a class may have a name that is no text."""
    model = dataclasses.replace(_SMALLEST.model, classes=classes)
    with pytest.raises(RunError, match=r"cannot be packed: 'classes': .*; type --format onnx"):
        save_packed(model, tmp_path / PACKED_NAME)
    assert not (tmp_path / PACKED_NAME).exists()


# ---------------------------------------------------------------- damaged files


def refused(path: Path) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_packed(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert len(message) - len(str(path)) < 400
    return message


def check_valid(model: PackedModel) -> None:
    """What `_SMALLEST` must be to run, whatever its numbers are."""
    harmless = {"estimator": "clipped", "group_width": 8, "activation": "prelu", "sign_shift": True}  # of another block
    assert model.settings.model_copy(update=harmless) == _SMALLEST.network.settings
    assert (model.image_size % 4, model.num_image_channels, len(model.classes)) == (0, 3, 3)
    assert [array.shape for array in arrays_of(model)] == [(167,), (4,), (487,)]
    assert [array.dtype for array in arrays_of(model)] == [np.uint8, np.int8, np.float32]
    assert model.bits[-1] < 16
    assert ((model.thresholds >= -9) & (model.thresholds <= 10)).all()
    assert np.isfinite(model.values).all()
    assert len(model.mean) == len(model.std) == 3
    assert np.isfinite(1 / np.array(model.std, np.float32)).all()
    assert np.isfinite(np.array(model.mean, np.float32)).all()
    assert Engine(model, num_threads=1).logits(np.zeros((1, 3, model.image_size, model.image_size), np.uint8)).any()


def test_a_truncated_file_is_refused(path: Path) -> None:
    data = path.read_bytes()
    cuts = {*range(0, len(data), 64), *random.Random(0).sample(range(len(data)), 60), len(data) - 1, 7, 8, 9}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        refused(path)


def test_a_file_with_more_behind_it_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path)


def test_a_changed_byte_is_refused_or_changes_nothing(path: Path) -> None:
    """Every byte of the length, and a few hundred of the rest, each changed in a random bit or altogether."""
    whole = load_packed(path)
    data, generator = path.read_bytes(), random.Random(0)
    places = [*range(8), *range(8, 300), *generator.choices(range(8, header_bytes(path)), k=300)]
    places += generator.choices(range(header_bytes(path), len(data)), k=100)
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
            assert changed == data or place < header_bytes(path)  # a blank of the header, say
            assert said_by(model) == said_by(whole)
            num_loaded += 1
    assert num_loaded < len(places) / 20


def test_random_bytes_are_refused(path: Path) -> None:
    generator = random.Random(0)
    for size in [0, 1, 7, 8, 9, 100, 5000]:
        for _ in range(5):
            path.write_bytes(generator.randbytes(size))
            refused(path)
            path.write_bytes(struct.pack("<Q", size) + generator.randbytes(size))
            refused(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "below a file"])
def test_a_file_that_cannot_be_read_is_refused(kind: str, path: Path) -> None:
    where = {"missing": path.with_name("no such file"), "folder": path.parent, "below a file": path / "file"}[kind]
    message = refused(where)
    assert ("cpnas export" in message) == (kind == "missing")


class Parts:
    """A packed file taken apart, to be written again with something changed; without a checksum, as of old."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        self.path, self.data = path, data[header_bytes(path) :]
        self.header: dict[str, Any] = json.loads(data[8 : header_bytes(path)])
        self.document: dict[str, Any] = json.loads(self.header["__metadata__"].pop("cpnas"))
        del self.document["blake2b"]

    def write(self) -> None:
        metadata = self.header["__metadata__"] | {"cpnas": json.dumps(self.document)}
        self.write_header(json.dumps(self.header | {"__metadata__": metadata}))

    def write_header(self, text: str, *, num_bytes: int | None = None) -> None:
        header = text.encode()
        length = struct.pack("<Q", len(header) if num_bytes is None else num_bytes)
        self.path.write_bytes(length + header + self.data)

    def array(self, name: str) -> np.ndarray:
        """A copy to change."""
        first, last = self.header[name]["data_offsets"]
        return np.frombuffer(self.data[first:last], {"bits": "u1", "thresholds": "i1", "values": "<f4"}[name]).copy()

    def replace(self, name: str, values: np.ndarray) -> None:
        first, last = self.header[name]["data_offsets"]
        assert values.nbytes == last - first
        self.data = self.data[:first] + values.tobytes() + self.data[last:]


@pytest.fixture
def parts(path: Path) -> Parts:
    return Parts(path)


def test_a_file_put_together_again_is_loaded(parts: Parts) -> None:
    """So that what the next tests change is all that is wrong."""
    parts.write()
    check_valid(load_packed(parts.path))
    parts.replace("bits", ~parts.array("bits") & np.array([255] * 166 + [15], np.uint8))
    parts.write()
    np.testing.assert_array_equal(load_packed(parts.path).bits[:-1], ~_SMALLEST.model.bits[:-1])


NESTED: Any = 0
for _ in range(500):
    NESTED = [NESTED]
DELETED = object()
LONG = "long" * 100_000

DESCRIPTIONS: dict[str, tuple[str, Any]] = {
    "another schema": ("schema", "cpnas.packed/2"),
    "no schema": ("schema", DELETED),
    "a schema that is a list": ("schema", NESTED),
    "no genotype": ("genotype", DELETED),
    "a genotype that is a text": ("genotype", "x"),
    "an empty genotype": ("genotype", {}),
    "no network": ("network", DELETED),
    "a network of another kind": ("network", []),
    "an unknown key": ("un\nknown", 1),
    "no classes": ("classes", DELETED),
    "empty classes": ("classes", []),
    "classes that are numbers": ("classes", [1, 2, 3]),
    "classes that are one text": ("classes", "abc"),
    "another number of classes": ("classes", ["a", "b"]),
    "too many classes": ("classes", ["a"] * 65537),
    "a class that is no text": ("classes", ["a", "b", None]),
    "a nested class": ("classes", ["a", "b", NESTED]),
    "a class twice": ("classes", ["a", "b", "a"]),
    "a class that is no Unicode": ("classes", ["a", "b", "\ud800"]),
    "a long schema": ("schema", LONG),
    "a long unknown key": (LONG, 1),
    "a long genotype": ("genotype", {"schema": LONG}),
    "no image size": ("image_size", DELETED),
    "an image size that cannot be halved twice": ("image_size", 10),
    "an image size of 0": ("image_size", 0),
    "a negative image size": ("image_size", -8),
    "a huge image size": ("image_size", 1 << 40),
    "an infinite image size": ("image_size", math.inf),
    "an image size with a fraction": ("image_size", 8.5),
    "no channels": ("num_image_channels", 0),
    "other channels": ("num_image_channels", 1),
    "too many channels": ("num_image_channels", 4),
    "a mean for fewer channels": ("mean", [0.5]),
    "no means": ("mean", []),
    "a mean that is not a number": ("mean", [0.5, math.nan, 0.5]),
    "a huge mean": ("mean", [0.5, 1e300, 0.5]),
    "a mean that is a text": ("mean", [0.5, "x", 0.5]),
    "a deviation for more channels": ("std", [0.2] * 4),
    "a deviation of 0": ("std", [0.2, 0, 0.2]),
    "a deviation that is 0 in float32": ("std", [0.2, 1e-300, 0.2]),
    "a negative deviation": ("std", [0.2, -0.2, 0.2]),
    "an infinite deviation": ("std", [0.2, math.inf, 0.2]),
    "a deviation that is not a number": ("std", [math.nan, 0.2, 0.2]),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_wrong_description_is_refused(name: str, parts: Parts) -> None:
    key, value = DESCRIPTIONS[name]
    if value is DELETED:
        del parts.document[key]
    else:
        parts.document[key] = value
    parts.write()
    refused(parts.path)


def test_images_of_two_channels_are_refused(parts: Parts) -> None:
    parts.document |= {"num_image_channels": 2, "mean": [0.5, 0.5], "std": [0.2, 0.2]}
    parts.write()
    assert "'num_image_channels': Input should be 1 or 3" in refused(parts.path)


NETWORKS: dict[str, tuple[str, Any]] = {
    "too few cells": ("num_cells", 2),
    "too many cells": ("num_cells", 101),
    "one cell more": ("num_cells", 4),
    "odd channels": ("num_channels", 5),
    "no channels": ("num_channels", 0),
    "more channels": ("num_channels", 6),
    "another stem": ("stem_multiplier", 2),
    "a stem that the image is too small for": ("stem_stride", 4),
    "a stem of no known stride": ("stem_stride", 3),
    "real parts": ("real_parts", ["preprocessing"]),
    "unknown parts": ("real_parts", ["stem"]),
    "another estimator": ("estimator", "x"),
    "an unknown key": ("un\nknown", 1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_settings_are_refused(name: str, parts: Parts) -> None:
    key, value = NETWORKS[name]
    parts.document["network"][key] = value
    parts.write()
    refused(parts.path)


def test_a_wrong_genotype_is_refused(parts: Parts) -> None:
    edges = parts.document["genotype"]["normal"]
    for change in (
        {"op": LONG},
        {"from": LONG},
        {"op": "x\ny"},
        {"op": None},
        {"op": "sep_conv_5x5"},
        {"from": 9},
        {"from": True},
        {"to": 0},
    ):
        parts.document["genotype"]["normal"] = [edges[0] | change, *edges[1:]]
        parts.write()
        refused(parts.path)
    for cell in (edges[1:], [*edges, edges[0]], [edge | {"op": "none"} for edge in edges], {}, None, NESTED):
        parts.document["genotype"]["normal"] = cell
        parts.write()
        refused(parts.path)


@pytest.mark.parametrize("text", ["", "null", "[]", '"x"', "{", "[" * 100_000, '{"schema":' * 50_000, "1" * 5000])
def test_metadata_that_is_no_document_is_refused(text: str, parts: Parts) -> None:
    parts.write_header(json.dumps(parts.header | {"__metadata__": {"cpnas": text}}))
    refused(parts.path)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        "{",
        '{"__metadata__":1}',
        '{"__metadata__":{}}',
        '{"__metadata__":{"cpnas":1}}',
        "[" * 500_000,
        '{"__metadata__":' * 50_000,
        "1" * 5000,
    ],
)
def test_a_header_that_is_none_is_refused(text: str, parts: Parts) -> None:
    parts.write_header(text)
    refused(parts.path)


def test_a_header_of_no_possible_length_is_refused(parts: Parts) -> None:
    parts.write()
    size = parts.path.stat().st_size
    data = parts.path.read_bytes()
    for length in (0, 1, size - 8, size - 7, size, 2**20, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        parts.path.write_bytes(struct.pack("<Q", length) + data[8:])
        assert peak_bytes(parts.path) < 5_000_000


TYPES = [
    "BOOL",
    "U8",
    "I8",
    "F8_E5M2",
    "F8_E4M3",
    "F8_E8M0",
    "F4",
    "I16",
    "U16",
    "F16",
    "BF16",
    "I32",
    "U32",
    "F32",
    "I64",
    "U64",
    "F64",
    "C64",
    "X",
    "u8",
]


@pytest.mark.parametrize("dtype", [*TYPES, "", 8, None])
@pytest.mark.parametrize("name", ["bits", "thresholds", "values"])
def test_an_array_of_another_type_is_refused(name: str, dtype: Any, parts: Parts) -> None:
    right = parts.header[name]["dtype"] == dtype
    parts.header[name]["dtype"] = dtype
    parts.write()
    if right:
        check_valid(load_packed(parts.path))
    else:
        refused(parts.path)


@pytest.mark.parametrize("shape", [[], [0], [1, 4], [4, 1], [2, 2], [5], [3], [-4], [4.5], ["4"], "4", 4, None, {}])
def test_an_array_of_another_shape_is_refused(shape: Any, parts: Parts) -> None:
    parts.header["thresholds"]["shape"] = shape
    parts.write()
    refused(parts.path)


@pytest.mark.parametrize("wrong", ["a text", "a list"])
def test_a_long_entry_of_an_array_makes_no_long_line(wrong: str, parts: Parts) -> None:
    parts.header["bits"]["dtype" if wrong == "a text" else "shape"] = LONG if wrong == "a text" else [1] * 100_000
    parts.write()
    refused(parts.path)
    parts.header[LONG] = parts.header.pop("bits")
    parts.write()
    refused(parts.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(486, np.float32)}, "has values ('F32', [486]), its genotype needs ('F32', [487])"),
        ({"bits": np.zeros((1, 167), np.uint8)}, "has bits ('U8', [1, 167]), its genotype needs ('U8', [167])"),
        ({"thresholds": np.zeros(4, np.int16)}, "has thresholds ('int16', [4]), its genotype needs ('I8', [4])"),
        ({"more": np.zeros(0, np.uint8)}, "holds ['bits', 'more', 'thresholds', 'values'], expected ['bits',"),
    ],
)
def test_arrays_that_are_not_those_of_the_header_are_refused(
    change: dict[str, np.ndarray], message: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library reads the header with a parser of its own."""
    monkeypatch.setattr(packed, "load", lambda data: load(data) | change)
    assert message in refused(path)


@pytest.mark.parametrize("offsets", [[0, 0], [4, 0], [0, 2**63], [-1, 3], [0], [], None, "x", [0.0, 4.0], [1, 5]])
def test_an_array_at_another_place_is_refused(offsets: Any, parts: Parts) -> None:
    parts.header["thresholds"]["data_offsets"] = offsets
    parts.write()
    refused(parts.path)


@pytest.mark.parametrize("name", ["bits", "thresholds", "values"])
def test_a_missing_array_is_refused(name: str, parts: Parts) -> None:
    entry = parts.header.pop(name)
    parts.write()
    refused(parts.path)
    parts.header["an\nother name"] = entry
    parts.write()
    refused(parts.path)
    parts.header[name] = 1
    parts.write()
    refused(parts.path)


def test_one_array_more_is_refused(parts: Parts) -> None:
    size = len(parts.data)
    parts.header["more"] = {"dtype": "U8", "shape": [0], "data_offsets": [size, size]}
    parts.write()
    refused(parts.path)


@pytest.mark.parametrize("threshold", [-128, -10, 11, 127])
def test_a_threshold_that_no_sum_meets_is_refused(threshold: int, parts: Parts) -> None:
    thresholds = parts.array("thresholds")
    thresholds[2] = threshold
    parts.replace("thresholds", thresholds)
    parts.write()
    assert "thresholds" in refused(parts.path)


@pytest.mark.parametrize("threshold", [-9, 10])
def test_a_threshold_for_always_or_never_is_loaded(threshold: int, parts: Parts) -> None:
    parts.replace("thresholds", np.full(4, threshold, np.int8))
    parts.write()
    check_valid(load_packed(parts.path))


@pytest.mark.parametrize("bit", [4, 7])
def test_a_spare_bit_that_is_set_is_refused(bit: int, parts: Parts) -> None:
    bits = parts.array("bits")
    bits[-1] |= 1 << bit
    parts.replace("bits", bits)
    parts.write()
    assert "bits" in refused(parts.path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 200, -1])
def test_a_stored_value_that_is_not_finite_is_refused(place: int, value: float, parts: Parts) -> None:
    values = parts.array("values")
    values[place] = value
    parts.replace("values", values)
    parts.write()
    assert "finite" in refused(parts.path)


# ---------------------------------------------------------------- what a damaged file costs


def peak_bytes(path: Path) -> int:
    """Most memory that Python and numpy hold while the file is refused."""
    tracemalloc.start()
    try:
        refused(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_file_of_a_huge_network_costs_nothing(parts: Parts) -> None:
    """The largest that the settings allow, with arrays of their right size in the header only, and without."""
    genotype = everywhere("sep_conv_5x5")
    parts.document |= {"image_size": 1024, "classes": [str(index) for index in range(65536)]}
    parts.document["network"] |= {"num_cells": 100, "num_channels": 1024, "stem_multiplier": 8}
    for kind, ops in genotype.cells().items():
        entries = parts.document["genotype"][kind]
        parts.document["genotype"][kind] = [entry | {"op": op} for entry, op in zip(entries, ops, strict=True)]
    parts.write()
    assert peak_bytes(parts.path) < 50_000_000
    parts.data = b""
    parts.write()
    assert peak_bytes(parts.path) < 50_000_000


def test_a_huge_file_is_not_read(parts: Parts) -> None:
    parts.write()
    os.truncate(parts.path, 1 << 33)  # with a hole: no space is used
    assert peak_bytes(parts.path) < 5_000_000
    parts.path.write_bytes(b"")
    os.truncate(parts.path, 1 << 33)
    assert peak_bytes(parts.path) < 5_000_000


def test_loading_takes_not_much_more_than_the_file(tmp_path: Path) -> None:
    model = make_child(everywhere("skip_connect"), num_channels=64).model
    save_packed(model, tmp_path / PACKED_NAME)
    tracemalloc.start()
    try:
        load_packed(tmp_path / PACKED_NAME)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * (tmp_path / PACKED_NAME).stat().st_size + 1_000_000
