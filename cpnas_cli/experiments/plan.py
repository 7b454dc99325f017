"""What an experiment consists of: its members, each a search and the training of what it found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from cpnas_cli.errors import RunError, UsageError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import (
    Config,
    IndicatorName,
    change_config,
    config_from_document,
    config_yaml,
)
from cpnas_cli.strategies import reference_strategy, strategies_to_compare, strategy_named, strategy_names
from cpnas_cli.strategies.base import Strategy

ExperimentKind = Literal["ablation", "comparison"]

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One search and the training of its genotype, as `cpnas search` and `cpnas train` would do them alone.

    Attributes:
      name: of its folders. group: what it is a sample of: its beta_P ("2") or its strategy ("cpnas").
    """

    name: str
    group: str
    config: Config

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def strategy(self) -> Strategy:
        return strategy_named(self.config.search.strategy)

    @cached_property
    def config_text(self) -> str:
        """What `config.yaml` of its runs holds."""
        return config_yaml(self.config)

    @cached_property
    def search_key(self) -> str:
        """Equal for members whose searches are one until their decisions differ."""
        return self.strategy.sharing_key(self.config) or self.name

    @cached_property
    def training_key(self) -> str:
        """Equal for members that train a given genotype to the same result."""
        return self.config.model_dump_json(include={"seed", "data", "network", "train"})


@dataclass(frozen=True)
class Plan:
    """An experiment before it runs: what `experiment.json` begins with, and what tells it from another one.

    Attributes:
      groups: the values that are compared, as texts: of beta_P, an indicator and a beta_P with a space between them
        ("penalized 2"), or names of strategies.
      config: the settings that all members share; seed, strategy and beta_P are the members' own, and the indicator
        where groups name one.
      random_draws: how many genotypes a strategy gives per seed that has several.

    Raises:
      UsageError: a group of a comparison is no strategy.
    """

    kind: ExperimentKind
    groups: tuple[str, ...]
    seeds: tuple[int, ...]
    config: Config
    random_draws: int = 1

    def __post_init__(self) -> None:
        if self.kind == "comparison":
            for group in self.groups:
                strategy_named(group)
        # what every member has of its own says nothing here; so that equal plans are equal, it is always the same
        common: dict[str, Any] = {"seed": self.seeds[0], "search.strategy": reference_strategy().name}
        if self.kind == "ablation":
            common["search.beta_p"] = 0.0
            indicator, _, _ = next(iter(self.groups), "").rpartition(" ")
            common |= {"search.indicator": indicator} if indicator else {}
        # the beta_P of a strategy that fixes it is not that of the others: they have the default again
        object.__setattr__(self, "config", change_config(self.config, common, stored=True))  # judged where it came from

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Seed by seed, so that an experiment that is stopped early has whole seeds."""
        return tuple(member for seed in self.seeds for group in self.groups for member in self._members(group, seed))

    def _members(self, group: str, seed: int) -> Iterable[Member]:
        strategy = reference_strategy() if self.kind == "ablation" else strategy_named(group)
        if self.kind == "ablation":
            indicator, _, beta = group.rpartition(" ")
            name = f"{indicator}-beta-{beta}" if indicator else f"beta-{beta}"
            own = {"indicator": indicator} if indicator else {}
            yield self._member(f"{name}-seed-{seed}", group, seed, strategy, beta_p=float(beta), **own)
        elif strategy.several_per_seed:
            for draw in range(self.random_draws):
                yield self._member(f"{group}-seed-{seed}-draw-{draw}", group, seed, strategy, random_draw=draw)
        else:
            yield self._member(f"{group}-seed-{seed}", group, seed, strategy)

    def _member(self, name: str, group: str, seed: int, strategy: Strategy, **search: Any) -> Member:
        values = {f"search.{key}": value for key, value in (strategy.settings() | search).items()}
        # whether the shared settings fit together was judged where they came from: not for an experiment that is there
        return Member(name, group, change_config(self.config, {"seed": seed, **values}, stored=True))

    @property
    def betas(self) -> tuple[str, ...]:
        """Of an ablation, in the order of its groups."""
        return tuple(dict.fromkeys(group.rpartition(" ")[2] for group in self.groups))

    @property
    def indicators(self) -> tuple[str, ...]:
        """Of an ablation, in the order of its groups; those of the settings where they name none."""
        own = self.config.search.indicator
        return tuple(dict.fromkeys(group.rpartition(" ")[0] or own for group in self.groups))

    @property
    def has_several_per_seed(self) -> bool:
        """Whether `random_draws` says anything."""
        return self.kind == "comparison" and any(strategy_named(group).several_per_seed for group in self.groups)

    def document(self) -> dict[str, Any]:
        """The part of `experiment.json` that says what was asked for."""
        return {
            "kind": self.kind,
            "groups": list(self.groups),
            "seeds": list(self.seeds),
            "random_draws": self.random_draws if self.has_several_per_seed else None,
            "config": self.config.model_dump(mode="json"),
        }


def plan_of(document: Mapping[str, Any]) -> Plan:
    """The plan of an experiment's document.

    Raises:
      RunError: it is not one.
    """
    try:
        return Plan(
            kind=document["kind"],
            groups=tuple(document["groups"]),
            seeds=tuple(document["seeds"]),
            config=config_from_document(document["config"], stored=True),
            random_draws=document["random_draws"] or 1,
        )
    except (UsageError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise RunError(f"the experiment's document is damaged ({type(error).__name__}: {error})") from None


def parse_betas(text: str) -> tuple[str, ...]:
    """ "0,1,2.5" -> the betas in the order given, each in its shortest form.

    Raises:
      UsageError: none, one that is no number or negative, or one given twice.
    """
    betas = []
    for word in _split(text, option="--betas", example="0,1,2,3,4,5"):
        try:
            value = float(word) + 0.0  # -0 is 0
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise UsageError(f"--betas expects numbers from 0 up, got {word!r}; for example --betas 0,1,2,3,4,5")
        betas.append(f"{value:g}" if float(f"{value:g}") == value else repr(value))
    return without_repetition(betas, option="--betas")


def parse_indicators(text: str) -> tuple[str, ...]:
    """ "penalized,printed" -> the indicators in the order given.

    Raises:
      UsageError: none, an unknown one, or one given twice.
    """
    known: tuple[str, ...] = get_args(IndicatorName)
    names = _split(text, option="--indicators", example=",".join(known))
    for name in names:
        if name not in known:
            raise UsageError(f"unknown indicator {name!r} in --indicators; choose from {', '.join(known)}")
    return without_repetition(names, option="--indicators")


def parse_seeds(text: str) -> tuple[int, ...]:
    """ "0,1,2" -> the seeds in the order given.

    Raises:
      UsageError: none, one that is no whole number or negative, or one given twice.
    """
    seeds = []
    for word in _split(text, option="--seeds", example="0,1,2"):
        try:
            seeds.append(int(word if word.isascii() and word.isdecimal() else ""))
        except ValueError:  # also of thousands of digits
            raise UsageError(
                f"--seeds expects whole numbers from 0 up, got {word[:40]!r}; for example --seeds 0,1,2"
            ) from None
    return without_repetition(seeds, option="--seeds")


def parse_strategies(text: str) -> tuple[str, ...]:
    """ "random,cpnas" -> the strategies in the order given.

    Raises:
      UsageError: none, an unknown one, or one given twice.
    """
    example = ",".join(strategy.name for strategy in strategies_to_compare())
    names, known = _split(text, option="--strategies", example=example), strategy_names()
    for name in names:
        if name not in known:
            raise UsageError(f"unknown strategy {name!r} in --strategies; choose from {', '.join(known)}")
    return without_repetition(names, option="--strategies")


def _split(text: str, *, option: str, example: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(
            f"{option} expects values with commas between them, got {text!r}; for example {option} {example}"
        )
    return words


def without_repetition(values: Sequence[T], *, option: str) -> tuple[T, ...]:
    """The values that an option names.

    Raises:
      UsageError: one of them twice.
    """
    for index, value in enumerate(values):
        if value in values[:index]:
            raise UsageError(f"{option} names {value} twice; each value runs once for every seed")
    return tuple(values)


@dataclass(frozen=True)
class ExperimentFolder:
    """Where everything of an experiment lies.

    `searches/NAME` and `members/NAME` are run folders like those of `cpnas search` and `cpnas train`.
    """

    path: Path

    DOCUMENT = "experiment.json"
    SEARCHES = "searches"
    MEMBERS = "members"
    LOGS = "logs"

    @property
    def document(self) -> Path:
        return self.path / self.DOCUMENT

    def search(self, name: str) -> RunFolder:
        return RunFolder(self.path / self.SEARCHES / name)

    def training(self, name: str) -> RunFolder:
        return RunFolder(self.path / self.MEMBERS / name)

    def log(self, name: str) -> Path:
        return self.path / self.LOGS / f"{name}.log"
