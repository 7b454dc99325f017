"""What a frontier consists of: Child and Parent of a genotype at several widths, and plain CNNs of several sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from cpnas_cli.errors import CpnasError, RunError, UsageError
from cpnas_cli.experiments.plan import ExperimentFolder, Member, without_repetition
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.plain_cnn import plain_cnn_width
from cpnas_cli.settings import STORED, Config, NetworkConfig, change_config, config_from_document
from cpnas_cli.storage.genotype_file import genotype_document, parse_genotype, provenance_of

Part = Literal["search", "genotype", "cnn"]
SEARCH: Part = "search"
GENOTYPE: Part = "genotype"
CNN: Part = "cnn"

V = TypeVar("V")

MOST_BYTES = 2**30
MOST_CHANNELS = 1024
_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20}


class FrontierFolder(ExperimentFolder):
    """Where everything of a frontier lies; see `ExperimentFolder`."""

    DOCUMENT = "frontier.json"


@dataclass(frozen=True)
class FrontierMember:
    """One search, or one training.

    Attributes:
      name: of its folder.
      part: "search"; "genotype", a Child and its Parent; "cnn", a plain CNN.
      width: of a genotype's networks what multiplies `network.num_channels`; of a CNN its first channels.
    """

    name: str
    part: Part
    width: float
    config: Config

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def search(self) -> Member:
        """As a member that searches."""
        return Member(self.name, self.part, self.config)


@dataclass(frozen=True)
class FrontierPlan:
    """A frontier before it runs: what `frontier.json` begins with, and what tells it from another one.

    Attributes:
      genotype: whose networks are trained, `cpnas.genotype/1`; None: that of a search with the first seed.
      cnn_widths: of the plain CNNs, each of another size.
      config: the settings that all members share; seed and channels are the members' own.
    """

    genotype: Mapping[str, Any] | None
    widths: tuple[float, ...]
    cnn_widths: tuple[int, ...]
    seeds: tuple[int, ...]
    config: Config

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", change_config(self.config, {"seed": self.seeds[0]}, stored=True))

    @cached_property
    def members(self) -> tuple[FrontierMember, ...]:
        """The search, then seed by seed, so that a frontier that is stopped early has whole seeds."""
        search = [] if self.genotype is not None else [FrontierMember(SEARCH, SEARCH, 1.0, self.config)]
        return (*search, *(member for seed in self.seeds for member in self._trainings(seed)))

    def _trainings(self, seed: int) -> list[FrontierMember]:
        found = []
        for width in self.widths:
            changes = {"seed": seed, "network.num_channels": scaled_channels(self.config, width)}
            config = change_config(self.config, changes, stored=True)
            found.append(FrontierMember(f"width-{width:g}-seed-{seed}", GENOTYPE, width, config))
        config = change_config(self.config, {"seed": seed}, stored=True)
        return found + [
            FrontierMember(f"cnn-{width}-seed-{seed}", CNN, float(width), config) for width in self.cnn_widths
        ]

    def document(self) -> dict[str, Any]:
        """The part of `frontier.json` that says what was asked for."""
        return {
            "asked_genotype": None if self.genotype is None else dict(self.genotype),
            "widths": list(self.widths),
            "cnn_widths": list(self.cnn_widths),
            "seeds": list(self.seeds),
            "config": self.config.model_dump(mode="json"),
        }


def make_plan(
    config: Config,
    *,
    genotype: Mapping[str, Any] | None,
    widths: Sequence[float],
    baseline_bytes: Sequence[int],
    seeds: Sequence[int],
    shape: Surroundings,
) -> FrontierPlan:
    """
    Args:
      baseline_bytes: int8 sizes that the plain CNNs come near to.

    Raises:
      UsageError: a width gives channels that the settings do not allow, or those of another width.
    """
    channels = {width: scaled_channels(config, width) for width in widths}
    for width, scaled in channels.items():
        wanted = round(width * config.network.num_channels)
        if wanted > MOST_CHANNELS:
            raise UsageError(
                f"--widths {width:g} gives {wanted} channels, at most {MOST_CHANNELS} are possible; leave it out"
            )
        twin = next(other for other, its in channels.items() if its == scaled)
        if twin != width:
            raise UsageError(
                f"--widths {twin:g} and {width:g} both give {scaled} channels, the nearest that network.block="
                f"{config.network.block} can have; leave out one of them"
            )
    cnn_widths = dict.fromkeys(plain_cnn_width(num_bytes, shape) for num_bytes in baseline_bytes)
    document = (
        None if genotype is None else genotype_document(parse_genotype(genotype), provenance=provenance_of(genotype))
    )
    return FrontierPlan(document, tuple(widths), tuple(cnn_widths), tuple(seeds), config)


def scaled_channels(config: Config, width: float) -> int:
    """`network.num_channels` times the width: the nearest number that the settings allow, of two the smaller."""
    wanted = width * config.network.num_channels
    by_distance = sorted(range(2, MOST_CHANNELS + 1, 2), key=lambda channels: (abs(channels - wanted), channels))
    return next(channels for channels in by_distance if _is_allowed(config.network, channels))


def _is_allowed(network: NetworkConfig, num_channels: int) -> bool:
    try:
        NetworkConfig.model_validate({**network.model_dump(mode="json"), "num_channels": num_channels}, context=STORED)
    except ValidationError:
        return False
    return True


def plan_of(document: Mapping[str, Any]) -> FrontierPlan:
    """The plan of a frontier's document.

    Raises:
      RunError: it is not one.
    """
    try:
        genotype = document["asked_genotype"]
        if genotype is not None:
            parse_genotype(genotype)
        plan = FrontierPlan(
            genotype,
            tuple(float(width) for width in document["widths"]),
            tuple(int(width) for width in document["cnn_widths"]),
            tuple(int(seed) for seed in document["seeds"]),
            config_from_document(document["config"], stored=True),
        )
        _ = plan.members
    except (CpnasError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise RunError(f"the frontier's document is damaged ({type(error).__name__}: {error})") from None
    return plan


# ---------------------------------------------------------------- what is typed


def parse_widths(text: str) -> tuple[float, ...]:
    """ "0.5,1,2" -> factors of `network.num_channels`, in the order given.

    Raises:
      UsageError: none, one that is no number above 0, or one given twice.
    """

    def width(word: str) -> float:
        value = float(word)
        if not 0 < value <= MOST_CHANNELS:
            raise ValueError
        return value

    return _values(text, width, option="--widths", expects="numbers above 0", example="0.5,1,2")


def parse_sizes(text: str) -> tuple[int, ...]:
    """ "16KiB,1MiB" -> bytes, in the order given.

    Raises:
      UsageError: none, one that is no size, or one given twice.
    """

    def size(word: str) -> int:
        number = word.rstrip("BKMi")
        value = round(float(number) * _UNITS[word[len(number) :]])
        if not 0 < value <= MOST_BYTES:
            raise ValueError
        return value

    example = "16KiB,32KiB,64KiB,128KiB"
    return _values(text, size, option="--baseline-bytes", expects="sizes up to 1024MiB", example=example)


def _values(text: str, parse: Callable[[str], V], *, option: str, expects: str, example: str) -> tuple[V, ...]:
    values = []
    for word in map(str.strip, text.split(",")):
        try:
            values.append(parse(word))
        except (ValueError, LookupError, OverflowError):
            raise UsageError(f"{option} expects {expects}, got {word[:40]!r}; for example {option} {example}") from None
    return without_repetition(values, option=option)
