"""What a strategy is: one object that checks, runs, counts and describes one way from images to a genotype.

To add one: a file with an object of a class derived from `Strategy`, and its line in `registry.STRATEGIES`; nothing
outside this room compares its name. The modules of the objects import neither torch nor numpy, because help and
completion read names and summaries from them: what a search needs is imported by the method that needs it.

The settings import these modules lazily: `settings` asks the registry for a strategy's object, for its `fixed_beta_p`.
So none of them may import `settings` at its top at run time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cpnas_cli.errors import UsageError
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.time_left import Unit

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.runs.journal import Notify
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config

History = Sequence[Mapping[str, Any]]
"""The records of a search, as in its `history.jsonl`."""

UnitName = Literal["draw", "epoch"]
View = Literal["rounds", "epochs", "trainings", "scores"]


def _unwatched(_: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Search:
    """A search to be run: where, with which settings, on which images and device."""

    run: "RunFolder"
    config: "Config"
    dataset: "Dataset"
    fabric: "Fabric"
    deadline: Deadline = field(default_factory=Deadline)
    notify: "Notify" = _unwatched

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes


@dataclass(frozen=True)
class Cost:
    """Epochs of a search: one is one pass of one network over its half of the training images.

    Attributes:
      asked: what the search takes if it runs alone. trained: what it really took, without what it inherited.
    """

    asked: int
    trained: int


@dataclass(frozen=True)
class Rereading:
    """A history as a search of other settings, with equal draws, would have written it.

    Attributes:
      records: with that search's own decisions.
      agrees: whether it decided the same throughout; if not, the two part at the last record.
    """

    records: tuple[dict[str, Any], ...]
    agrees: bool


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """One way from images to a genotype.

    Attributes:
      name: as in `registry.STRATEGIES` and in `search.strategy`.
      summary: one line for help and completion.
      unit: what a search counts and may stop after; the event of the history's record of one.
      view: how the command line shows a running search: by the rounds of Algorithm 9 (draw and abandon records), by
        its epochs (epoch records), by whole trainings (draw and halve records), by the epochs of a shared network and
        what is scored in it (epoch, draw and perhaps abandon records), or not at all.
      uses_beta_p: whether it uses `search.beta_p`.
      fixed_beta_p: the one beta_P that it can have; None: any.
      is_reference: whether comparisons report differences from it, and ablations vary its beta_P; one strategy is.
      several_per_seed: whether one seed holds several genotypes, told apart by `search.random_draw`.
      keeps_budgets: whether what it finds is within the budgets of the settings, see `budgets.feasibility`.
      num_incoming: how many edges that are not `none` enter each node of what it finds; None: any number.
    """

    name: str
    summary: str
    unit: UnitName
    view: View | None = None
    uses_beta_p: bool = False
    fixed_beta_p: float | None = None
    is_reference: bool = False
    several_per_seed: bool = False
    keeps_budgets: bool = False
    num_incoming: int | None = None

    @abstractmethod
    def search(self, search: Search) -> "Genotype":
        """Search to the end, from where the run's journal stands; looks at the training images only.

        Raises:
          MaxTimeReached: the time is up; saved after the last unit. NonFiniteLossError, CheckpointError, RunError.
        """

    @abstractmethod
    def num_units(self, config: "Config") -> int:
        """How many units a search of these settings takes."""

    def work_of_units(self, config: "Config") -> list[float]:
        """How much each of them has to do, in their order, beside the others; equal where they are of a kind."""
        return [1.0] * self.num_units(config)

    def warmup_epochs(self, config: "Config") -> int:
        """Epochs of all its networks before the first unit, each with as much to do as a unit of 1."""
        del config
        return 0

    def work_of_records(self, config: "Config", *, num_images: int) -> list[Unit]:
        """Of all "epoch", "draw" and "pass" records of a search, in their order.

        Args:
          num_images: training images of the data set.
        """
        del num_images
        return [Unit(f"{self.unit} of {work:g}", work) for work in self.work_of_units(config)]

    def heaviness_of(self, record: Mapping[str, Any], config: "Config") -> float:
        """How much what this record is of had to do beside what `work_of_records` says of it."""
        del record, config
        return 1.0

    @abstractmethod
    def cost(self, history: History, *, num_inherited: int = 0) -> Cost:
        """Of the search that wrote this history.

        Args:
          num_inherited: how many of its units another search had done.
        """

    def num_scored(self, config: "Config", num_candidates: int) -> int:
        """How many are scored in a row with so many candidates on every edge; asked of those whose view is "scores"."""
        raise NotImplementedError(f"{self.name} scores nothing with {num_candidates} candidates and seed {config.seed}")

    def provenance(self, config: "Config") -> dict[str, Any]:
        """What a genotype's provenance says beside what is said of every strategy; see `strategies.provenance`."""
        del config
        return {}

    def findings(self, history: History, config: "Config") -> dict[str, Any]:
        """What a genotype's provenance says of the search that wrote this history, beside its settings."""
        del history, config
        return {}

    def settings(self) -> dict[str, Any]:
        """Of the section `search`: what a search of this strategy has, whatever an experiment's settings say."""
        fixed = {} if self.fixed_beta_p is None else {"beta_p": self.fixed_beta_p}
        return {"strategy": self.name, **fixed}

    # ------------------------------------------------------------ what is refused before anything is written

    def check(self, config: "Config", dataset: "Dataset", fabric: "Fabric | None") -> None:
        """Refuse what this strategy could not search.

        Args:
          fabric: the device of the search; None where it is not known yet, as on a cluster.

        Raises:
          DataError: too few images. UsageError: settings that do not fit each other or the device.
        """
        del config, dataset, fabric  # one that looks at no image can always search

    def check_beta_p(self, typed: str, *, instead: str) -> None:
        """Refuse a `--beta-p` that this strategy cannot have.

        Args:
          typed: a number, as it was typed. instead: the name of a strategy that can have it.

        Raises:
          UsageError: it uses none, or another one only.
        """
        if not self.uses_beta_p:
            raise UsageError(f"{self.name} uses no beta_P, got --beta-p {typed}; use --strategy {instead}")
        if self.fixed_beta_p is not None and float(typed) != self.fixed_beta_p:
            raise UsageError(
                f"{self.name} is {instead} at beta_P = {self.fixed_beta_p:g}, got --beta-p {typed}; "
                f"use --strategy {instead}"
            )

    def check_indicator(self, typed: str, *, instead: str) -> None:
        """Refuse an `--indicator` that plays no part in this strategy; arguments as in `check_beta_p`.

        Raises:
          UsageError: it has no beta_P.
        """
        if not self.uses_beta_p:
            raise UsageError(f"{self.name} uses no indicator, got --indicator {typed}; use --strategy {instead}")

    # ------------------------------------------------------------ what searches of an experiment share

    def sharing_key(self, config: "Config") -> str | None:
        """Equal for searches that are one search until their decisions differ; None: it shares with nobody."""
        del config
        return None

    def num_networks(self, config: "Config") -> int:
        """How many networks a search of these settings trains; of those that share, one with the most leads."""
        del config
        return 1

    def saved_history(self, run: "RunFolder") -> list[dict[str, Any]]:
        """The history up to the checkpoint; empty without one.

        Raises:
          CheckpointError: the checkpoint cannot be used. RunError: the history is damaged.
        """
        raise NotImplementedError(f"{self.name} shares no searches, as in {run.path}")

    def reread(self, history: History, config: "Config") -> Rereading | None:
        """The history as a search of these settings would have written it; None if the two parted before its end."""
        raise NotImplementedError(f"{self.name} shares no searches of {len(history)} records")

    def branch(self, source: "RunFolder", target: "RunFolder", rereading: Rereading) -> None:
        """Let the target, a run that has not begun, go on from the source's checkpoint with its own decisions.

        Raises:
          RunError: the source has no checkpoint any more, or the target cannot be written. CheckpointError.
        """
        raise NotImplementedError(f"{self.name} shares no searches, as in {source.path} and {target.path}")

    def advance(self, search: Search, *, stop: Callable[[], bool]) -> "Genotype | None":
        """Search to the end, or until `stop`, asked after every decision that is saved, says so: then None.

        Raises what `search` raises.
        """
        raise NotImplementedError(f"{self.name} shares no searches, as in {search.run.path}")
