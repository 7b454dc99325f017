"""Where the time of one image goes in the packed engine: by kind of instruction and, within nodes, by kind of step.

Networks that were never trained, one thread, one image. An instruction is run many times in one call, on what the
others left in memory; a step's time is that of its node up to and with it, less that up to before it. So everything is
measured with warm caches, and the sum stands beside the whole network. `python -m benchmarks.engine_profile`
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.tables import Rows, run_alone
from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.deploy.engine import Engine, Runner
from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine.program import Program
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.deploy.untrained import untrained_model
from cpnas_cli.efficiency.timing import seconds_of
from cpnas_cli.search_space import EDGES, Genotype, draw_uniform
from cpnas_cli.settings import Config, DataConfig, NetworkConfig, load_config

TITLE = "time of one image in the packed engine, one thread"
LOOPS = 16
INSTRUCTIONS = {p.STEM: "stem", p.CONCATENATE: "concatenate", p.CLASSIFY: "classify", p.GATHER: "gather"}
STEPS = {
    p.DEPTHWISE_3X3: "depthwise 3x3",
    p.DEPTHWISE_5X5: "depthwise 5x5",
    p.DEPTHWISE: "depthwise, another size",
    p.PRODUCTS: "1x1 products",
    p.REAL_PRODUCT: "real 1x1 product",
    p.IDENTITY: "identity",
    p.POOL: "pool",
    p.SHORTCUT: "shortcut",
    p.GROUPED: "grouped convolution",
    p.ENDING: "ending",
}
NO_STEP = "signs"
SUMS = ("in all", "one image")
# Found by `cpnas search` on CIFAR-10, as docs/efficiency.md has it.
SEARCHED = Genotype(
    normal=(
        "max_pool_3x3", "dil_conv_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_3x3", "dil_conv_3x3",
        "sep_conv_5x5", "dil_conv_5x5", "dil_conv_3x3", "dil_conv_3x3", "max_pool_3x3", "max_pool_3x3", "sep_conv_5x5",
    ),
    reduce=(
        "max_pool_3x3", "dil_conv_5x5", "sep_conv_3x3", "skip_connect", "none", "sep_conv_5x5", "sep_conv_5x5",
        "avg_pool_3x3", "dil_conv_5x5", "dil_conv_3x3", "dil_conv_3x3", "dil_conv_5x5", "skip_connect", "sep_conv_5x5",
    ),
)  # fmt: skip
HEAVY = ("sep_conv_5x5",) * len(EDGES)


def networks() -> dict[str, PackedModel]:
    """The network of docs/efficiency.md, and those of presets that users deploy."""
    searched = Config(
        data=DataConfig(name="cifar10", image_size=32), network=NetworkConfig(num_cells=8, num_channels=36)
    )
    clothes, digits = load_config("fashion-mnist-small"), load_config("digits")
    return {
        "separable, 36 channels": untrained_model(SEARCHED, searched, _dataset(3)),
        "fashion-mnist-small": untrained_model(SEARCHED, clothes, _dataset(1)),
        "fashion-mnist-small, 5x5": untrained_model(Genotype(HEAVY, HEAVY), clothes, _dataset(1)),
        "digits": untrained_model(draw_uniform(seed=0), digits, _dataset(1)),
    }


def _dataset(num_image_channels: int) -> Dataset:
    """What a network needs to know of its images; there are none."""
    nothing = ImageSet(torch.zeros((0, num_image_channels, 1, 1), dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    classes = tuple(str(label) for label in range(10))
    return Dataset(nothing, nothing, classes, mean=(0.5,) * num_image_channels, std=(0.29,) * num_image_channels)


def profile(model: PackedModel, *, repetitions: int) -> dict[str, tuple[int, float]]:
    """By kind: how many there are, and seconds of them all; "in all", the sum, and "one image", the network itself."""
    engine = Engine(model, num_threads=1)
    program = engine.runner.program
    shape = (model.num_image_channels, model.image_size, model.image_size)
    images = np.random.default_rng(0).integers(0, 256, (LOOPS, *shape), dtype=np.uint8)
    engine.logits(images)
    parts, variants = _variants(program)
    runner = engine.runner
    runners = [_with_program(runner, variant) for variant in variants]
    seconds = [[np.inf] * len(program.instructions) for _ in runners]
    whole = np.inf
    for _ in range(repetitions):
        whole = min(whole, seconds_of(lambda: runner.run(images[:1])), seconds_of(lambda: runner.run(images[:1])))
        for number, each in enumerate(runners):
            for index in range(len(program.instructions)):
                if number <= program.instructions[index, p.NUM_STEPS] or number == 0:
                    call = _call(each, images, index)
                    seconds[number][index] = min(seconds[number][index], seconds_of(call), seconds_of(call))
    found = dict[str, tuple[int, float]]()
    for name, index, number in parts:
        taken = seconds[number][index] - (seconds[number - 1][index] if number else 0)
        count, total = found.get(name, (0, 0.0))
        found[name] = count + 1, total + taken / LOOPS
    found[SUMS[0]] = len(parts), sum(total for _, total in found.values())
    found[SUMS[1]] = 1, whole
    return found


def _call(runner: Runner, images: np.ndarray, index: int) -> Callable[[], object]:
    return lambda: runner.run(images, index, index + 1)


def _variants(program: Program) -> tuple[list[tuple[str, int, int]], list[Program]]:
    """Parts (kind, instruction, variant that has it last), and programs whose nodes have 0, 1, 2, ... steps."""
    parts = list[tuple[str, int, int]]()
    for index, row in enumerate(program.instructions):
        is_node = row[p.KIND] == p.NODE
        parts.append((NO_STEP if is_node else INSTRUCTIONS[row[p.KIND]], index, 0))
        if is_node:
            first = row[p.FIRST_STEP]
            kinds = program.steps[first : first + row[p.NUM_STEPS], p.KIND]
            parts += [(STEPS[kind], index, number + 1) for number, kind in enumerate(kinds)]
    nothing = np.zeros((1, p.NUM_COLUMNS), np.int64)
    nothing[0, p.KIND] = p.PRODUCTS  # no products, in no blocks: a node without steps would be filled with zeros
    steps = np.concatenate([program.steps, nothing])
    variants = list[Program]()
    for number in range(max(number for *_, number in parts) + 1):
        instructions = program.instructions.copy()
        nodes = instructions[:, p.KIND] == p.NODE
        instructions[nodes, p.NUM_STEPS] = np.minimum(instructions[nodes, p.NUM_STEPS], max(number, 1))
        if number == 0:
            instructions[nodes, p.FIRST_STEP] = len(program.steps)
        variants.append(replace(program, instructions=instructions, steps=steps))
    return parts, variants


def _with_program(runner: Runner, program: Program) -> Runner:
    """Of the same constants."""
    return Runner(program, lookup=runner._lookup, num_threads=1)


def tabulate(*, repetitions: int, names: Sequence[str] | None = None) -> Rows:
    """Of all networks, or those of these names."""
    rows: Rows = []
    for name, model in networks().items():
        if names is not None and name not in names:
            continue
        found = profile(model, repetitions=repetitions)
        total = found[SUMS[0]][1]
        for kind, (count, seconds) in sorted(
            found.items(), key=lambda item: (item[0] in ("in all", "one image"), -item[1][1])
        ):
            rows.append(
                {"network": name, "what": kind, "how many": count, "us": 1e6 * seconds, "%": 100 * seconds / total}
            )
    return rows


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=40)
