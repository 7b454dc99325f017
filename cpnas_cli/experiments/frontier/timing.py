"""Times of the points of a frontier: each network in its own runtime, in turn, one image at a time, in this process."""

from collections.abc import Mapping

import torch

from cpnas_cli.deploy.deployed import ONE_BIT, Deployed
from cpnas_cli.deploy.engine import Engine
from cpnas_cli.deploy.packed_file import load_packed
from cpnas_cli.deploy.runtimes import Call, onnx_call
from cpnas_cli.efficiency.timing import Timing, time_interleaved
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import read_document

REPETITIONS = 30
PointKey = tuple[str, float]
"""Family and width."""


def time_points(forms: Mapping[PointKey, tuple[RunFolder, Deployed]]) -> dict[PointKey, Timing]:
    """Seconds per image of every point: the packed engine, or ONNX Runtime with normalized images; one thread, batch 1.

    Args:
      forms: of each point one network of it, and the folder in which its file is.

    Raises:
      RunError, CheckpointError: a file cannot be read. CpnasError: no onnx extra.
    """
    names = {f"{family} {width:g}": (family, width) for family, width in forms}
    calls = {name: _call(*forms[key]) for name, key in names.items()}
    times = time_interleaved(calls, repetitions=REPETITIONS)
    return {names[name]: timing for name, timing in times.items()}


def _call(run: RunFolder, form: Deployed) -> Call:
    """Of an image of noise: times do not depend on what is in it."""
    file = run.file(form.file)
    generator = torch.Generator().manual_seed(0)
    if form.family == ONE_BIT:
        model = load_packed(file)
        engine, shape = Engine(model, num_threads=1), (1, model.num_image_channels, model.image_size, model.image_size)
        image = torch.randint(256, shape, generator=generator, dtype=torch.uint8).numpy()
        return lambda: engine.logits(image)
    shape = (1, *read_document(run.file(RunFolder.DATASET))["image_shape"])
    return onnx_call(file.read_bytes(), torch.randn(shape, generator=generator), num_threads=1)
