"""Algorithm 9 as strategies: CP-NAS, and BNAS-dagger, which is its beta_P = 0 and trains no Parent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.errors import UsageError
from cpnas_cli.runs.time_left import Unit
from cpnas_cli.strategies.base import Cost, History, Rereading, Search, Strategy

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.runs.folder import RunFolder
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


@dataclass(frozen=True)
class Algorithm9(Strategy):
    """Sampling without replacement with the Child-Parent indicator; where it is run: `search`.

    Searches that differ in beta_P or the indicator alone draw the same and train the same, so that they are one search
    until they abandon different operations: see `branching`.
    """

    def search(self, search: Search) -> "Genotype":
        from cpnas_cli.strategies.cpnas.search import search_cpnas

        return search_cpnas(search)

    def num_units(self, config: "Config") -> int:
        from cpnas_cli.strategies.cpnas.state import num_draws_of_search, num_final_draws, num_scored_draws

        search = config.search
        return num_scored_draws(search) + num_draws_of_search(search) + num_final_draws(search)

    def work_of_records(self, config: "Config", *, num_images: int) -> list[Unit]:
        """The warm-up, what is scored, and the draws; those of a pass may be validated together behind it."""
        from cpnas_cli.search_space import NUM_OPERATIONS
        from cpnas_cli.strategies.cpnas.state import (
            WORK_OF_A_PASS,
            WORK_OF_A_SCORE,
            num_final_draws,
            num_scored_draws,
        )

        del num_images
        search, num_networks = config.search, self.num_networks(config)
        units = [Unit("epoch", 1 / num_networks)] * (num_networks * search.warmup_epochs)  # a record of each network
        units += [Unit("score", WORK_OF_A_SCORE)] * num_scored_draws(search)
        for num_candidates in range(NUM_OPERATIONS, search.num_left, -1):
            a_pass = [Unit("draw")] * num_candidates
            if search.evaluation == "after_pass":
                a_pass.append(Unit("pass", WORK_OF_A_PASS * num_candidates))
            units += a_pass * search.num_passes
        return units + [Unit("score", WORK_OF_A_SCORE)] * num_final_draws(search)

    def heaviness_of(self, record: Mapping[str, Any], config: "Config") -> float:
        """Of a draw, by its operations; 1 within budgets, where heavy ones are drawn less often than others."""
        if record["event"] != "draw" or config.search.budgets():
            return 1.0
        from cpnas_cli.strategies.cpnas.heaviness import heaviness_of_draw

        return heaviness_of_draw(record)

    def warmup_epochs(self, config: "Config") -> int:
        return config.search.warmup_epochs

    def cost(self, history: History, *, num_inherited: int = 0) -> Cost:
        """A draw, and an epoch of the warm-up, is an epoch of the Child, and one of the Parent where it was trained."""
        from cpnas_cli.strategies.cpnas.branching import networks_by_draw
        from cpnas_cli.strategies.cpnas.state import WARMUP

        networks, before = networks_by_draw(history), sum(record["event"] == WARMUP for record in history)
        return Cost(
            asked=before + sum(networks), trained=(0 if num_inherited else before) + sum(networks[num_inherited:])
        )

    def provenance(self, config: "Config") -> dict[str, Any]:
        search = config.search
        return {
            "beta_p": search.beta_p,
            "indicator": search.indicator if self.fixed_beta_p is None else None,
            "num_passes": search.num_passes,
            "evaluation": search.evaluation,
            "credit": search.credit,
            "performance": search.performance,
            "warmup_epochs": search.warmup_epochs,
            "scored_passes": search.scored_passes,
            "num_left": search.num_left,
            "final_passes": search.final_passes if search.num_left > 1 else 0,
        }

    def findings(self, history: History, config: "Config") -> dict[str, Any]:
        """`parent_slope`: how far the Parent's accuracy followed the Child's."""
        from cpnas_cli.strategies.cpnas.branching import slope_of

        return {"parent_slope": slope_of(history) if config.search.beta_p else None}

    def check(self, config: "Config", dataset: "Dataset", fabric: "Fabric | None") -> None:
        from cpnas_cli.data.splits import check_split

        changing = config.network.follows_progress()
        if config.search.engine == "graphs" and changing:
            raise UsageError(
                f"search.engine=graphs repeats what it captured, and {changing} changes at every draw; "
                "add --set search.engine=eager"
            )
        if config.search.engine == "graphs" and fabric is not None and fabric.device.type != "cuda":
            raise UsageError(
                f"search.engine=graphs needs an NVIDIA GPU, and this run is on {fabric.device.type}; "
                "go on with it on a GPU, or start a run with --set search.engine=eager"
            )
        check_split(len(dataset.train), config.search.validation_fraction)
        config.check_search_network()

    def sharing_key(self, config: "Config") -> str:
        own = {"strategy": BNAS.name, "beta_p": 0.0, "indicator": "printed"}
        search = config.search.model_copy(update=own)
        return config.model_copy(update={"search": search}).model_dump_json()

    def num_networks(self, config: "Config") -> int:
        """The Child, and the Parent where it has a part in z."""
        return 1 if config.search.beta_p == 0 else 2

    def saved_history(self, run: "RunFolder") -> list[dict[str, Any]]:
        from cpnas_cli.strategies.cpnas.branching import saved_history

        return saved_history(run)

    def reread(self, history: History, config: "Config") -> Rereading | None:
        from cpnas_cli.strategies.cpnas.branching import reread

        return reread(history, config.search)

    def branch(self, source: "RunFolder", target: "RunFolder", rereading: Rereading) -> None:
        from cpnas_cli.strategies.cpnas.branching import branch

        branch(source, target, rereading)

    def advance(self, search: Search, *, stop: Callable[[], bool]) -> "Genotype | None":
        from cpnas_cli.search_space import genotype_of
        from cpnas_cli.strategies.cpnas.search import advance

        state = advance(search, stop=stop)
        return genotype_of(state.candidates) if state.finished else None


CPNAS = Algorithm9(
    name="cpnas",
    summary="sampling without replacement with the Child-Parent indicator",
    unit="draw",
    view="rounds",
    uses_beta_p=True,
    keeps_budgets=True,
    is_reference=True,
)
BNAS = Algorithm9(
    name="bnas",
    summary="cpnas at beta_P = 0",
    unit="draw",
    view="rounds",
    uses_beta_p=True,
    keeps_budgets=True,
    fixed_beta_p=0.0,
)
