"""The C program of `cpnas export --format c` against float C of its Parent, and against the engine, on one thread.

The float C is a plain loop nest for each node of the Parent's ONNX model, as onnx2c writes it. Both are compiled by the
same compiler with the same flags, and timed in turn, inside this process, for one image. Sizes are those of the object
file as `size` counts them: code and constants, and memory that is written to. The float C's scores are compared with
PyTorch's Parent first, the 1-bit program's with the engine's. Networks are untrained, with random batch norms.

`python -m benchmarks.c_source [--genotype FILE] [--cells N] [--channels N] [--weight-format int8]`; needs a C compiler
and the onnx extra.
"""

import argparse
import ctypes
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.float_c import FloatC
from benchmarks.tables import Rows, environment, positive, print_environment, print_table
from cpnas_cli.deploy import runtimes
from cpnas_cli.deploy.c_program import ALWAYS, NATIVE, PORTABLE, CProgram, compile_c, find_compiler
from cpnas_cli.deploy.c_source import write_c_source
from cpnas_cli.deploy.onnx import onnx_bytes
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.deploy.packing import pack
from cpnas_cli.deploy.side_by_side import why_wrong
from cpnas_cli.efficiency.timing import time_interleaved
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.search_space import Genotype, draw_uniform
from cpnas_cli.settings import Config, NetworkConfig
from cpnas_cli.storage.genotype_file import read_genotype
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork

TITLE = "the C program against float C of its Parent"
FLAGS: tuple[Sequence[str], ...] = (PORTABLE, NATIVE)
CLASSES, CHANNELS = tuple("0123456789"), 3
ONE_BIT, FLOAT, ENGINE = "1-bit C", "float C of the Parent", "engine"


def networks_of(config: Config, genotype: Genotype) -> tuple[PackedModel, Network]:
    """An untrained Child, packed, and its Parent."""
    child, parent = (
        build_network(
            config.network,
            precision=precision,
            num_image_channels=CHANNELS,
            num_classes=len(CLASSES),
            seed=0,
            genotype=genotype,
        ).eval()
        for precision in ("binary", "full")
    )
    for network in (child, parent):
        randomize_norms(network)
    normalization = Normalization((0.5,) * CHANNELS, (0.25,) * CHANNELS)
    return pack(TrainedNetwork(child, config, genotype, {}, CLASSES, normalization, CHANNELS)), parent


@torch.no_grad()
def randomize_norms(network: Network) -> None:
    """So that nothing of them is folded away, and a mistake in one changes the scores."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)


def float_scores(text: str, *, compiler: str, flags: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """From an image, float32 (C, S, S), to the scores.

    Raises:
      CpnasError: the compiler fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "float.c").write_text(text, encoding="ascii")
        library = compile_c(Path(folder), ["float.c"], compiler=compiler, flags=(*flags, "-shared", "-fPIC"))
        function = ctypes.CDLL(str(library)).float_scores
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    scores = np.zeros(len(CLASSES), np.float32)

    def call(image_CHW: np.ndarray) -> np.ndarray:
        function(image_CHW.ctypes.data, scores.ctypes.data)
        return scores

    return call


def object_bytes(folder: Path, file: str, *, compiler: str, flags: Sequence[str]) -> dict[str, int | None]:
    """Code and constants, and memory that is written to; None without `size`."""
    sizes: dict[str, int | None] = {"code, constants bytes": None, "static RAM bytes": None}
    if shutil.which("size") is None:
        return sizes
    subprocess.run([compiler, *ALWAYS, *flags, "-c", "-o", "object.o", file], cwd=folder, check=True)
    answer = subprocess.run(["size", "object.o"], cwd=folder, check=True, capture_output=True, text=True)
    text, data, bss = map(int, answer.stdout.splitlines()[1].split()[:3])
    return dict(zip(sizes, (text + data, data + bss), strict=True))


def measure(config: Config, genotype: Genotype, *, repetitions: int) -> Rows:
    """A row per program and flags, and one of the engine.

    Raises:
      RuntimeError: no compiler, or a program computes something else.
    """
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("this benchmark needs a C compiler")
    torch.set_num_threads(1)
    model, parent = networks_of(config, genotype)
    size = config.data.image_size
    image = np.random.default_rng(0).integers(0, 256, (1, CHANNELS, size, size), dtype=np.uint8)
    normalized = ((image.astype(np.float32) / 255 - 0.5) / 0.25).astype(np.float32)
    with torch.inference_mode():
        expected = parent(torch.from_numpy(normalized)).logits.numpy()
    source = FloatC(onnx_bytes(parent, image_size=size))
    calls: dict[str, runtimes.Call] = {ENGINE: runtimes.packed_call(model, image, num_threads=1)}
    engine_scores = np.array(calls[ENGINE]())
    sizes = dict[str, dict[str, int | None]]()
    for flags in FLAGS:
        ours, theirs = (f"{name}, {' '.join(flags)}" for name in (ONE_BIT, FLOAT))
        calls[ours] = runtimes.c_call(CProgram(model, compiler=compiler, flags=flags), image)
        function = float_scores(source.text, compiler=compiler, flags=flags)
        calls[theirs] = lambda function=function: function(normalized)
        for name, scores in ((ours, engine_scores), (theirs, expected)):
            wrong = why_wrong(np.array(calls[name]()).reshape(1, -1), scores, same_class=True)
            if wrong is not None:
                raise RuntimeError(f"{name}: {wrong}")
        with tempfile.TemporaryDirectory() as folder:
            write_c_source(model, Path(folder))
            (Path(folder) / "float.c").write_text(source.text, encoding="ascii")
            for name, file in ((ours, "model.c"), (theirs, "float.c")):
                sizes[name] = object_bytes(Path(folder), file, compiler=compiler, flags=flags)
    times = time_interleaved(calls, repetitions=repetitions)
    return [
        {
            "program": name,
            "ms": 1e3 * timing.median,
            "to the 1-bit C, same flags": timing.median / times[_beside(name)].median,
            "to the engine": timing.median / times[ENGINE].median,
            **sizes.get(name, dict.fromkeys(next(iter(sizes.values())))),
        }
        for name, timing in times.items()
    ]


def _beside(name: str) -> str:
    """The 1-bit program of the same flags; the engine stands beside itself."""
    return name.replace(FLOAT, ONE_BIT)


def tabulate(
    genotype: Genotype | None = None,
    *,
    num_cells: int = 8,
    num_channels: int = 36,
    image_size: int = 32,
    weight_format: str = "float32",
    repetitions: int,
) -> Rows:
    config = Config.model_validate(
        {
            "data": {"image_size": image_size},
            "network": NetworkConfig(num_cells=num_cells, num_channels=num_channels).model_dump()
            | {"weight_format": weight_format},
        }
    )
    return measure(config, genotype or draw_uniform(seed=0), repetitions=repetitions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genotype", type=Path, metavar="FILE", help="a genotype.json; without it a random one")
    parser.add_argument("--cells", type=positive, default=8)
    parser.add_argument("--channels", type=positive, default=36)
    parser.add_argument("--image-size", type=positive, default=32)
    parser.add_argument("--weight-format", choices=("float32", "float16", "int8"), default="float32")
    parser.add_argument("--repetitions", type=positive, default=30, help="timed calls of each program")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = tabulate(
        None if arguments.genotype is None else read_genotype(arguments.genotype)[0],
        num_cells=arguments.cells,
        num_channels=arguments.channels,
        image_size=arguments.image_size,
        weight_format=arguments.weight_format,
        repetitions=arguments.repetitions,
    )
    if arguments.json:
        print(json.dumps({"benchmark": TITLE, "environment": environment(), "rows": rows}, indent=2))
        return
    print_table(TITLE, rows)
    print_environment()


if __name__ == "__main__":
    main()
