"""How a frontier grows: by seeds, widths and plain CNNs that a command adds to those in its folder."""

from collections.abc import Mapping, Sequence
from typing import Any

from cpnas_cli.experiments.frontier.plan import FrontierFolder, FrontierPlan
from cpnas_cli.experiments.growth import Factor, added_words, left_out
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.plain_cnn import plain_cnn_size_bytes
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import differing_settings
from cpnas_cli.storage.genotype_file import parse_genotype


def factors_of(plan: FrontierPlan, dataset: Mapping[str, Any]) -> tuple[Factor, ...]:
    """What tells its members apart.

    Args:
      dataset: of all members, see `describe_dataset`.
    """

    def sizes(widths: Sequence[str]) -> str:
        shape = Surroundings(plan.config.data.image_size, dataset["image_shape"][0], len(dataset["classes"]))
        return ",".join(str(plain_cnn_size_bytes(int(width), shape)) for width in widths)

    return (
        Factor("widths", "--widths", tuple(f"{width:g}" for width in plan.widths)),
        Factor("widths of the CNNs", "--baseline-bytes", tuple(map(str, plan.cnn_widths)), typed=sizes),
        Factor("seeds", "--seeds", tuple(map(str, plan.seeds))),
    )


def difference(there: FrontierPlan, now: FrontierPlan) -> str | None:
    """What makes two plans two frontiers whatever they vary, in words; None if one can grow into the other."""
    if _edges(there) != _edges(now):
        return "another genotype, or a search instead of one"
    return next(iter(differing_settings(there.config, now.config, but={"seed"})), None)


def _edges(plan: FrontierPlan) -> Genotype | None:
    return None if plan.genotype is None else parse_genotype(plan.genotype)


def refusal(there: FrontierPlan, now: FrontierPlan, dataset: Mapping[str, Any]) -> str | None:
    """Why the frontier in a folder is not one that this plan goes on with or makes larger; None if it is."""
    other = difference(there, now)
    if other:
        return f"holds another frontier ({other}); choose another --out"
    lacking = left_out(factors_of(there, dataset), factors_of(now, dataset))
    if lacking is None and now.genotype is None and there.seeds[0] != now.seeds[0]:
        seeds = ",".join(map(str, dict.fromkeys((there.seeds[0], *now.seeds))))
        return (
            f"has searched with seed {there.seeds[0]}, the first of --seeds, and {now.seeds[0]} is the first now; "
            f"type --seeds {seeds}, or choose another --out"
        )
    return lacking


def growth_words(there: FrontierPlan, now: FrontierPlan, place: FrontierFolder) -> str | None:
    """What is added, and that new points are timed together with the others; None if nothing is."""
    if len(there.members) == len(now.members):
        return None
    words = added_words(len(there.members), len(now.members), place)
    has_new_points = len(there.widths) < len(now.widths) or len(there.cnn_widths) < len(now.cnn_widths)
    return f"{words}; all networks are timed again at the end" if has_new_points else words
