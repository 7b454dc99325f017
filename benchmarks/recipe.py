"""What does each ingredient of a 1-bit network and of its training bring? Paired, over seeds, on one architecture.

Every ingredient is switched off alone in the recommended recipe (the preset's) and on alone in the plain one (all
ingredients off), with the same seeds, so that each difference is a pair. A run takes minutes and there are many: the
results are kept in a JSON file after every run, and the same command goes on with what is missing.

The test set is not used: the accuracies are those on training images that are held out, as many as `--held-out` says.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from benchmarks.held_out import held_out, train
from benchmarks.tables import Rows, environment, print_table
from cpnas_cli.settings import Config, load_config
from cpnas_cli.storage.documents import write_json
from cpnas_cli.storage.genotype_file import read_genotype

SCHEMA = "cpnas.recipe/1"

# The ingredients: settings where it is off, and where it is on. What a preset recommends is on there.
INGREDIENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "block": (("network.block=separable",), ("network.block=residual",)),
    "shift before the sign": (("network.sign_shift=false",), ("network.sign_shift=true",)),
    "activation: PReLU": (("network.activation=none",), ("network.activation=prelu",)),
    "activation: RPReLU": (("network.activation=prelu",), ("network.activation=rprelu",)),
    "estimator: ApproxSign": (("network.estimator=clipped",), ("network.estimator=polynomial",)),
    "estimator: error decay": (("network.estimator=polynomial",), ("network.estimator=error_decay",)),
    "bound 1.5 of the estimator": (("network.clip_bound=1",), ("network.clip_bound=1.5",)),
    "centred latents": (("network.latents=plain",), ("network.latents=centered",)),
    "standardized latents": (("network.latents=plain",), ("network.latents=standardized",)),
    "ReCU": (
        ("network.latents=plain", "network.recu=false"),
        ("network.latents=standardized", "network.recu=true"),
    ),
    "learned scale": (("network.scale=mean",), ("network.scale=learned",)),
    "stem of two convolutions": (("network.stem_convolutions=1",), ("network.stem_convolutions=2",)),
    "values in float16, real weights in int8": (
        ("network.real_format=float32", "network.weight_format=float32"),
        ("network.real_format=float16", "network.weight_format=int8"),
    ),
    "soft targets of the Parent": (("train.teacher_weight=0",), ("train.teacher_weight=1",)),
    "two stages": (("train.first_stage_epochs=0",), ("train.first_stage_epochs=HALF",)),
    "batches of 32": (("train.batch_size=64",), ("train.batch_size=32",)),
    "linear schedule": (("train.schedule=cosine",), ("train.schedule=linear",)),
    "warm-up of one epoch": (("train.warmup_epochs=0",), ("train.warmup_epochs=1",)),
    "weight decay 1e-5 of real values": (("train.weight_decay=0",), ("train.weight_decay=0.00001",)),
    "label smoothing 0.1": (("train.label_smoothing=0",), ("train.label_smoothing=0.1",)),
    "auxiliary head": (("train.auxiliary_weight=0",), ("train.auxiliary_weight=0.4",)),
    "drop-path 0.1": (("train.drop_path=0",), ("train.drop_path=0.1",)),
    "mixup 0.2": (("train.mixup=0",), ("train.mixup=0.2",)),
    "cutmix 1": (("train.cutmix=0",), ("train.cutmix=1",)),
    "moving average of weights": (("train.ema_decay=0",), ("train.ema_decay=0.998",)),
    "cutout of a quarter of the side": (("data.cutout=0",), ("data.cutout=QUARTER",)),
    "kernel term of (4.17)": (("train.kernel_weight=0",), ("train.kernel_weight=0.001",)),
}

BASES = ("recommended", "plain")


def in_numbers(setting: str, config: Config) -> str:
    """HALF and QUARTER stand for half of the epochs and a quarter of the image's side."""
    return setting.replace("HALF", str(config.train.num_epochs // 2)).replace(
        "QUARTER", str(config.data.image_size // 4)
    )


def is_on(config: Config, ingredient: str) -> bool:
    """Whether the settings have the ingredient."""
    on = [in_numbers(setting, config) for setting in INGREDIENTS[ingredient][1]]
    document = config.model_dump(mode="json")
    for setting in on:
        key, _, text = setting.partition("=")
        section, name = key.split(".")
        if document[section][name] != json.loads(json.dumps(_value(text))):
            return False
    return True


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def variants(config: Config) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(base, ingredient or "", settings) of every training of a seed; the ingredient is what differs from the base."""
    recommended = [name for name in INGREDIENTS if is_on(config, name)]
    plain = tuple(in_numbers(setting, config) for name in recommended for setting in INGREDIENTS[name][0])
    yield "recommended", "", ()
    yield "plain", "", plain
    for name, (off, on) in INGREDIENTS.items():
        switched = off if name in recommended else on
        yield "recommended", name, tuple(in_numbers(setting, config) for setting in switched)
        yield "plain", name, (*plain, *(in_numbers(setting, config) for setting in on))


def paired(differences: Sequence[float]) -> tuple[float, float]:
    """The mean of paired differences and half the width of its 95 % interval (Student's t); infinite for one pair."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, math.inf
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, float(student.ppf(0.975, len(differences) - 1)) * error


def table(document: Mapping[str, Any]) -> Rows:
    """One row per base and ingredient: what its presence changes, in points, and over how many seeds."""
    runs: dict[tuple[str, str, int], float] = {
        (run["base"], run["ingredient"], run["seed"]): run["accuracy"] for run in document["runs"]
    }
    rows = list[dict[str, Any]]()
    for base in BASES:
        for name in INGREDIENTS:
            seeds = [s for b, i, s in runs if (b, i) == (base, name) and (base, "", s) in runs]
            if not seeds:
                continue
            # switched off in the recommended recipe: its presence is what is lost
            sign = -1 if base == "recommended" and name in document["recommended"] else 1
            mean, width = paired([100 * sign * (runs[base, name, s] - runs[base, "", s]) for s in seeds])
            rows.append({"base": base, "ingredient": name, "points": mean, "interval": width, "seeds": len(seeds)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("genotype", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file; what is in it is not run again")
    parser.add_argument("--preset", default="cifar10-small")
    parser.add_argument("--held-out", type=int, default=5000, help="training images that stand in for the test set")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="ingredients, separated by semicolons; all without it")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    genotype, _ = read_genotype(arguments.genotype)
    base = load_config(arguments.preset, overrides=arguments.set)
    only = {word for word in arguments.only.split(";") if word}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "preset": arguments.preset,
        "settings": arguments.set,
        "num_held_out": arguments.held_out,
        "recommended": [name for name in INGREDIENTS if is_on(base, name)],
        "environment": environment(),
        "runs": [],
    }
    if arguments.out.exists():
        document = json.loads(arguments.out.read_text())
    done = {(run["base"], run["ingredient"], run["seed"]) for run in document["runs"]}
    dataset = held_out(base, arguments.held_out)
    for seed in map(int, arguments.seeds.split(",")):
        for name, ingredient, settings in variants(base):
            if (name, ingredient, seed) in done or (only and ingredient and ingredient not in only):
                continue
            config = load_config(arguments.preset, overrides=[*arguments.set, *settings, f"seed={seed}"])
            run = train(config, dataset, genotype).accuracies()
            document["runs"].append({"base": name, "ingredient": ingredient, "seed": seed, **run})
            write_json(arguments.out, document)
    print_table("What each ingredient brings, points of accuracy on held-out training images", table(document))


if __name__ == "__main__":
    main()
