"""CP-NAS: Algorithm 9 of "Binary Neural Architecture Search", section 4.3, with (4.15) and (4.16).

    while K > 1:
        for t in 1..T:                 # passes
            for e in 1..K:             # sampling without replacement
                train the drawn Child and Parent one epoch each, validate them, give z to what was drawn
        abandon, on every edge, the operation with the smallest e;  K -= 1

Ours, where the text is silent: Child and Parent share weights between draws, each operation on each
edge has its own; SGD starts afresh (no momentum) at each draw, its rate falls along a cosine over
all draws; only the drawn parameters are read and updated. Training minimizes the cross-entropy.

Batch norm: a shared network keeps no running statistics. In training a batch is normalized with its
own; before each validation they are estimated anew, with the weights just trained, on the first
`search.num_calibration_batches` batches of the training split without augmentation. So nothing of
an earlier draw can leak into an evaluation.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from cpnas_cli.checkpoint import load_tensors, save_tensors
from cpnas_cli.data import ImageSet, Pipeline, split_for_search
from cpnas_cli.errors import CheckpointError, NonFiniteLossError
from cpnas_cli.indicator import CellEvaluation, abandon, evaluate_operations, indicator, mean_indicator
from cpnas_cli.losses import LossTerms
from cpnas_cli.networks import Network, Output, build_network
from cpnas_cli.randomness import torch_generator
from cpnas_cli.space import (
    ALL_CANDIDATES,
    CELL_KINDS,
    EDGES,
    NUM_OPERATIONS,
    Candidates,
    Genotype,
    draw_pass,
    genotype_of,
)
from cpnas_cli.strategies.base import Search
from cpnas_cli.training import (
    EVALUATION_BATCH_SIZE,
    PRECISIONS,
    NetworkName,
    cosine,
    evaluate,
    make_optimizer,
    train_epoch,
)

CHECKPOINT_SCHEMA = "cpnas.search-checkpoint/1"


def num_draws_of_search(num_passes: int) -> int:
    """T * (8 + 7 + ... + 2) = 35 T draws of a Child and a Parent."""
    return num_passes * sum(range(2, NUM_OPERATIONS + 1))


@dataclass
class SearchState:
    """Where Algorithm 9 stands; a function of the history alone."""

    num_passes: int
    candidates: Candidates = ALL_CANDIDATES
    pass_index: int = 0
    draw_index: int = 0
    # z of every draw of the current round that held the operation: [kind][edge][operation]
    indicators: dict[str, list[dict[str, list[float]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clear()

    @property
    def finished(self) -> bool:
        return self.candidates.num_candidates == 1

    def draw(self, *, seed: int) -> Genotype:
        """The architecture that is to be trained next."""
        return draw_pass(self.candidates, seed=seed, pass_index=self.pass_index)[self.draw_index]

    def give(self, genotype: Genotype, z: float) -> None:
        """Give z to every operation drawn, and step on to the next draw or pass."""
        for kind, cell in genotype.cells().items():
            for edge, op in enumerate(cell):
                self.indicators[kind][edge][op].append(z)
        self.draw_index += 1
        if self.draw_index == self.candidates.num_candidates:
            self.draw_index, self.pass_index = 0, self.pass_index + 1

    @property
    def round_complete(self) -> bool:
        return self.pass_index == self.num_passes

    def abandon(self) -> dict[str, Any]:
        """End the round; returns its history record."""
        num_candidates = self.candidates.num_candidates
        evaluations: dict[str, CellEvaluation] = {
            kind: tuple(
                evaluate_operations({op: mean_indicator(values) for op, values in edge.items()}) for edge in edges
            )
            for kind, edges in self.indicators.items()
        }
        outcome = {kind: abandon(evaluations[kind]) for kind in CELL_KINDS}
        self.candidates = Candidates(normal=outcome["normal"][0], reduce=outcome["reduce"][0])
        self.pass_index = 0
        self._clear()
        record: dict[str, Any] = {"event": "abandon", "num_candidates": num_candidates}
        for kind in CELL_KINDS:
            record[kind] = [
                {"from": source, "to": node, "evaluation": evaluation, "abandoned": gone}
                for (source, node), evaluation, gone in zip(EDGES, evaluations[kind], outcome[kind][1], strict=True)
            ]
        return record

    def _clear(self) -> None:
        self.indicators = {
            kind: [{op: [] for op in alive} for alive in cell] for kind, cell in self.candidates.cells().items()
        }

    @staticmethod
    def replay(history: list[dict[str, Any]], *, num_passes: int) -> "SearchState":
        """The state after these records."""
        state = SearchState(num_passes)
        for record in history:
            if record["event"] == "draw":
                state.give(Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])), record["z"])
            elif record["event"] == "abandon":
                state.abandon()
        return state


class SharedNetworks:
    """The shared Child and Parent, and how one drawn architecture is trained and validated in them."""

    def __init__(self, search: Search) -> None:
        config = search.config
        self.config, self.fabric = config, search.fabric
        self.pipeline = Pipeline(config.data, search.dataset.mean, search.dataset.std)
        training, validation = split_for_search(
            search.dataset.train, validation_fraction=config.search.validation_fraction, seed=config.seed
        )
        self.training, self.validation = training.to(search.fabric.device), validation.to(search.fabric.device)
        calibration = torch.randperm(len(training), generator=torch_generator(config.seed, "calibration images"))
        num_calibration = config.search.num_calibration_batches * config.search.batch_size
        self.calibration: ImageSet = self.training.subset(calibration[:num_calibration].to(search.fabric.device))
        self.networks: dict[NetworkName, Network] = {
            name: build_network(
                config.search_network(),
                precision=precision,
                num_image_channels=search.dataset.num_image_channels,
                num_classes=search.num_classes,
                seed=config.seed,
            ).to(search.fabric.device)
            for name, precision in PRECISIONS.items()
        }

    @property
    def num_steps(self) -> int:
        return max(len(self.training) // self.config.search.batch_size, 1)

    def train_and_validate(self, name: NetworkName, genotype: Genotype, *, draw: int) -> float:
        """One epoch on the training split, then the accuracy on the validation split, a fraction in [0, 1].

        Raises:
          NonFiniteLossError: says in which step of which draw.
        """
        try:
            self._train(name, genotype, draw=draw)
        except NonFiniteLossError as error:
            total = num_draws_of_search(self.config.search.num_passes)
            raise NonFiniteLossError(
                f"{error}, draw {draw + 1} of {total}, {name}; the checkpoint holds the state before this draw; "
                "try a smaller --set search.learning_rate in a new run"
            ) from None
        return self._validate(name, genotype)

    def _train(self, name: NetworkName, genotype: Genotype, *, draw: int) -> None:
        search, network = self.config.search, self.networks[name]
        parameters = network.parameters_of(genotype)
        optimizer = make_optimizer(
            search.optimizer,
            parameters,
            learning_rate=search.learning_rate,
            momentum=search.momentum,
            weight_decay=search.weight_decay,
        )
        total = num_draws_of_search(search.num_passes)
        train_epoch(
            lambda x: network(x, genotype),
            parameters,
            optimizer,
            self.pipeline.training_batches(
                self.training,
                batch_size=search.batch_size,
                seed=self.config.seed,
                purpose="search batches",
                epoch=draw,
            ),
            _cross_entropy,
            fabric=self.fabric,
            clip_norm=search.clip_norm,
            learning_rate=lambda step: cosine(
                search.learning_rate, search.learning_rate_min, (draw + step / self.num_steps) / total
            ),
        )
        for parameter in parameters:
            parameter.grad = None

    def _validate(self, name: NetworkName, genotype: Genotype) -> float:
        network = self.networks[name]
        with calibrated(network, genotype, self._batches(self.calibration)):
            return evaluate(lambda x: network(x, genotype), self._batches(self.validation, EVALUATION_BATCH_SIZE))

    def _batches(self, images: ImageSet, batch_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        return self.pipeline.evaluation_batches(images, batch_size=batch_size or self.config.search.batch_size)

    def tensors(self) -> dict[str, Tensor]:
        """The weights of each network as one vector, in the order of its parameters.

        Weights only: the batch norm statistics of the last validation are of no further use. One vector
        and not a tensor per weight, because some 2,000 small ones take a fifth of a second to write.
        """
        with torch.no_grad():
            return {name: parameters_to_vector(network.parameters()) for name, network in self.networks.items()}

    def restore(self, tensors: Mapping[str, Tensor], *, path: Path) -> None:
        """The reverse of `tensors`.

        Raises:
          CheckpointError: they belong to other networks.
        """
        for name, network in self.networks.items():
            parameters = list(network.parameters())
            sizes = [parameter.numel() for parameter in parameters]
            found = tensors[name].numel() if name in tensors else 0
            if found != sum(sizes):
                raise CheckpointError(f"{path} is of another search: {found} weights of the {name}, not {sum(sizes)}")
            # copied in place: a parameter keeps its memory layout, on which the rounding of kernels depends
            with torch.no_grad():
                for parameter, values in zip(parameters, tensors[name].split(sizes), strict=True):
                    parameter.copy_(values.view_as(parameter))


def _cross_entropy(output: Output, labels_B: Tensor) -> LossTerms:
    loss = F.cross_entropy(output.logits, labels_B)
    zero = torch.zeros_like(loss)
    return LossTerms(total=loss, cross_entropy=loss, kernel=zero, compactness=zero)


@contextlib.contextmanager
def calibrated(network: Network, genotype: Genotype, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Within the block the genotype is in evaluation mode, with batch norm statistics from the batches alone.

    They are the mean over the batches, whatever was kept before. Only the genotype's own modules are touched:
    to walk the shared network, with all candidates, costs more than the evaluation of a small one.
    """
    norms = network.batch_norms_of(genotype)
    for norm in norms:
        norm.start_collecting()
    with torch.no_grad():
        for x_BCHW, _ in batches:
            network(x_BCHW, genotype)
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
            norm.statistics = "none"


def search_cpnas(search: Search) -> Genotype:
    """Search with the Child-Parent indicator; resumes from the run's checkpoint where there is one.

    Raises:
      MaxTimeReached: the time is up; saved after the last draw. NonFiniteLossError: a loss became NaN;
        the checkpoint is of the draw before. CheckpointError: the checkpoint cannot be used.
    """
    shared = SharedNetworks(search)
    state, done = _resume(search, shared)
    settings = search.config.search
    while not state.finished:
        started = time.monotonic()
        genotype = state.draw(seed=search.config.seed)
        record = _draw_record(state, genotype)
        for name in PRECISIONS:
            search.notify({**record, "event": "progress", "network": name, "done": done})
            record[f"accuracy_{name}"] = shared.train_and_validate(name, genotype, draw=done)
        record["z"] = indicator(
            accuracy_child=record["accuracy_child"],
            accuracy_parent=record["accuracy_parent"],
            beta_p=settings.beta_p,
        )
        seconds = time.monotonic() - started
        record["seconds"] = round(seconds, 3)
        state.give(genotype, record["z"])
        done += 1
        records = [record]
        if state.round_complete:
            records.append(state.abandon())
        _save(search, shared, records, done)
        if not state.finished:
            search.deadline.check(seconds)
    return genotype_of(state.candidates)


def _draw_record(state: SearchState, genotype: Genotype) -> dict[str, Any]:
    return {
        "event": "draw",
        "num_candidates": state.candidates.num_candidates,
        "pass": state.pass_index,
        "draw": state.draw_index,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
    }


def _save(search: Search, shared: SharedNetworks, records: list[dict[str, Any]], done: int) -> None:
    num_bytes = [search.run.append_history(record) for record in records][-1]
    save_tensors(
        search.run.checkpoint,
        shared.tensors(),
        schema=CHECKPOINT_SCHEMA,
        state={"num_draws": done, "history_bytes": num_bytes},
    )
    for record in records:
        search.notify(record)


def _resume(search: Search, shared: SharedNetworks) -> tuple[SearchState, int]:
    run, num_passes = search.run, search.config.search.num_passes
    if not run.checkpoint.exists():
        run.truncate_history(0)
        return SearchState(num_passes), 0
    tensors, saved = load_tensors(run.checkpoint, schema=CHECKPOINT_SCHEMA)
    if missing := {"num_draws", "history_bytes"} - saved.keys():
        raise CheckpointError(f"{run.checkpoint} lacks {', '.join(sorted(missing))}; start a new run")
    shared.restore(tensors, path=run.checkpoint)
    run.truncate_history(saved["history_bytes"])
    history = run.history()
    for record in history:
        search.notify({**record, "resumed": True})
    return SearchState.replay(history, num_passes=num_passes), saved["num_draws"]
