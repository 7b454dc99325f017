"""Where the time of one draw goes: the operations of a Child's and a Parent's epoch that take the most of it.

By PyTorch's profiler, through the product's own code: training, calibration and validation of one
genotype. An operation's own time, without that of the operations it calls.
"""

from collections.abc import Sequence

from torch.profiler import ProfilerActivity, profile

from benchmarks.tables import Rows, run_alone
from benchmarks.training_step import search_of
from benchmarks.workload import SHAPES, Workload
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.search_space import ALL_CANDIDATES, Genotype, draw_pass
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks

TITLE = "where a draw spends its time"
WORKLOAD = Workload(SHAPES[0], num_images=256)
NUM_ROWS = 16


def operations_of(shared: SharedNetworks, name: NetworkName, genotypes: Sequence[Genotype]) -> dict[str, float]:
    """{operation: its own milliseconds} of one draw of each genotype, the longest first; after one not counted."""
    shared.train_and_validate(name, genotypes[0], draw=0)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for genotype in genotypes:
            shared.train_and_validate(name, genotype, draw=0)
    own = {event.key: event.self_cpu_time_total / 1000 for event in profiled.key_averages()}
    return dict(sorted(own.items(), key=lambda item: -item[1]))


def tabulate(workload: Workload = WORKLOAD, *, repetitions: int) -> Rows:
    shared = SharedNetworks(search_of(workload))
    genotypes = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)[:repetitions]
    own = {name: operations_of(shared, name, genotypes) for name in PRECISIONS}
    totals = {name: sum(times.values()) for name, times in own.items()}
    return [
        {
            "operation": operation,
            **{f"{name} %": 100 * own[name].get(operation, 0.0) / totals[name] for name in PRECISIONS},
            "child ms": own["child"][operation] / len(genotypes),
        }
        for operation in list(own["child"])[:NUM_ROWS]
    ]


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=3, meaning="genotypes, one draw each")
