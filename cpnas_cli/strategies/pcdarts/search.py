"""PC-DARTS over the operations of the 1-bit Child: first-order bilevel optimization of a mixed network.

    for epoch in 1..num_epochs:
        for batch of the training split:
            after the frozen epochs: Adam on alpha and beta, by the loss on a random validation batch
            SGD on the weights, by the loss on the training batch
    keep, for every node, the 2 incoming edges whose best operation (not `none`) is strongest

Source: Xu et al., ICLR 2020, arXiv 1907.05737, and its public code, from which numbers and order are.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.runs.journal import Journal, Saved
from cpnas_cli.search_space import (
    CELL_KINDS,
    EDGES,
    NONE,
    NUM_INPUT_NODES,
    NUM_NODES,
    OPERATIONS,
    CellGenotype,
    Genotype,
)
from cpnas_cli.storage.tensors import (
    load_into,
    load_optimizer,
    optimizer_tensors,
    with_prefix,
    without_prefix,
)
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.budgets.feasibility import feasibility_of
from cpnas_cli.strategies.pcdarts import NUM_INCOMING_EDGES
from cpnas_cli.strategies.pcdarts.mixed_network import ArchitectureParameters, build_mixed_network
from cpnas_cli.strategies.search_images import SearchImages
from cpnas_cli.training.epoch import TrainStep, cosine, cross_entropy, make_optimizer, train_epoch

CHECKPOINT_SCHEMA = "cpnas.pcdarts-checkpoint/1"
CHECKPOINT_KEYS = ("epoch",)
ADAM_BETAS = (0.5, 0.999)

Strengths = Sequence[Sequence[float]]
"""The strength of every operation on each of the 14 edges, in the order of `search_space.OPERATIONS`."""


def derive_cell(strengths: Strengths) -> CellGenotype:
    """Keep, for every node, the 2 incoming edges whose strongest operation is strongest, `none` aside.

    where strengths[e][o] = softmax(alpha_e)_o * b_e, the operation's weight times its edge's share.

    Every kept edge gets its strongest operation that is not `none`, every other edge `none`. Ties go to
    the earlier edge and the earlier operation.

    Source: section 3.3 of arXiv 1907.05737, and the public code.
    """
    best = [max((op for op in OPERATIONS if op != NONE), key=lambda op: row[OPERATIONS.index(op)]) for row in strengths]
    peak = [row[OPERATIONS.index(op)] for row, op in zip(strengths, best, strict=True)]
    kept: set[int] = set()
    for node in range(NUM_INPUT_NODES, NUM_NODES):
        incoming = [edge for edge, (_, target) in enumerate(EDGES) if target == node]
        kept.update(sorted(incoming, key=lambda edge: -peak[edge])[:NUM_INCOMING_EDGES])
    return tuple(best[edge] if edge in kept else NONE for edge in range(len(EDGES)))


class MixedSearch:
    """Weights, architecture parameters, both optimizers, and the epochs done so far."""

    def __init__(self, search: Search, history: Sequence[Mapping[str, Any]] = ()) -> None:
        config = search.config
        self.feasibility = feasibility_of(search, history, num_incoming=NUM_INCOMING_EDGES)
        self.search, self.settings, self.fabric = search, config.pcdarts, search.fabric
        device = search.fabric.device
        self.images = SearchImages.of(search)
        self.network = build_mixed_network(
            config.search_network(),
            partial_channels=self.settings.partial_channels,
            num_image_channels=search.dataset.num_image_channels,
            num_classes=search.num_classes,
            seed=config.seed,
        ).to(device)
        self.architecture = ArchitectureParameters(seed=config.seed).to(device)
        self.weights = self.network.trained_parameters()
        self.optimizer = make_optimizer(
            self.settings.optimizer,
            self.weights,
            learning_rate=self.settings.learning_rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
        )
        self.train_step = TrainStep(
            lambda x: self.network(x, self.architecture),
            self.weights,
            self.optimizer,
            cross_entropy,
            fabric=self.fabric,
            clip_norm=self.settings.clip_norm,
        )
        self.architecture.requires_grad_(False)  # the weight step needs no gradients of it
        self.architecture_optimizer = torch.optim.Adam(
            self.architecture.parameters(),
            lr=self.settings.architecture_learning_rate,
            betas=ADAM_BETAS,
            weight_decay=self.settings.architecture_weight_decay,
            fused=True,
        )
        self.epoch = 0

    @property
    def num_steps(self) -> int:
        return max(len(self.images.training) // self.settings.batch_size, 1)

    def architecture_step(self, step: int) -> torch.Tensor:
        """The step with this index in the epoch: `train_architecture` on a batch of the validation split."""
        x_BCHW, labels_B = next(
            self.images.pipeline.training_batches(
                self.images.validation,
                batch_size=self.settings.batch_size,
                seed=self.search.config.seed,
                purpose="architecture batches",
                epoch=self.epoch * self.num_steps + step,
            )
        )
        return self.train_architecture(x_BCHW, labels_B)

    def train_architecture(self, x_BCHW: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """One step of Adam on alpha and beta, the weights held; returns the loss on this batch."""
        self.architecture.requires_grad_(True)
        with self.fabric.autocast():
            logits_BK = self.network(x_BCHW, self.architecture).logits
        loss = F.cross_entropy(logits_BK.float(), labels_B)
        parameters = list(self.architecture.parameters())
        # gradients of these alone: those of the weights are not computed
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self.architecture_optimizer.step()
        self.architecture.requires_grad_(False)
        return loss.detach()

    def train_one_epoch(self) -> dict[str, Any]:
        """The history record of the epoch.

        Raises:
          NonFiniteLossError: says in which step of which epoch.
        """
        settings, started = self.settings, time.monotonic()
        losses: list[torch.Tensor] = []
        learns = self.epoch >= settings.frozen_epochs
        self.network.set_progress(self.epoch / settings.num_epochs)
        rate = cosine(settings.learning_rate, settings.learning_rate_min, self.epoch / settings.num_epochs)

        def before_step(step: int) -> None:
            self.search.notify(
                {"event": "progress", "network": "child", "epoch": self.epoch, "done": step, "total": self.num_steps}
            )
            if learns:
                losses.append(self.architecture_step(step))

        try:
            means = train_epoch(
                self.train_step,
                self.images.pipeline.training_batches(
                    self.images.training,
                    batch_size=settings.batch_size,
                    seed=self.search.config.seed,
                    purpose="search batches",
                    epoch=self.epoch,
                ),
                learning_rate=lambda _: rate,
                before_step=before_step,
            )
            loss_architecture = torch.stack(losses).mean().item() if losses else None
            if not all(parameter.isfinite().all() for parameter in self.architecture.parameters()):
                raise NonFiniteLossError("architecture parameters became NaN or infinite")
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                f"{error}, epoch {self.epoch + 1} of {settings.num_epochs}; the checkpoint holds the state after epoch "
                f"{self.epoch}; try a smaller --set pcdarts.learning_rate in a new run"
            ) from None
        genotype = self.genotype()
        return {
            "event": "epoch",
            "network": "child",
            "epoch": self.epoch,
            "loss": means.loss,
            "loss_architecture": loss_architecture,
            "accuracy_train": means.accuracy_train,
            "learning_rate": rate,
            "normal": list(genotype.normal),
            "reduce": list(genotype.reduce),
            "seconds": round(time.monotonic() - started, 3),
        }

    @torch.no_grad()
    def strengths(self, kind: str) -> list[list[float]]:
        """softmax(alpha_e)_o * b_e of every edge and operation: 14 rows of 8."""
        shares = self.architecture.edge_weights(kind)[:, None]
        return (self.architecture.operation_weights(kind) * shares).cpu().double().tolist()

    def genotype(self) -> Genotype:
        """See `derive_cell`; if that is beyond a budget, the 2 edges of every node with the largest sum of strengths
        within all budgets (ours).
        """
        strengths = {kind: self.strengths(kind) for kind in CELL_KINDS}
        genotype = Genotype(**{kind: derive_cell(strengths[kind]) for kind in CELL_KINDS})
        if self.feasibility is None or self.feasibility.admits(genotype):
            return genotype
        is_kept = np.array([op != NONE for op in OPERATIONS])
        return self.feasibility.best({kind: np.array(rows) * is_kept for kind, rows in strengths.items()})

    def architecture_record(self) -> dict[str, Any]:
        """What the search has learnt, for its history: the strength of every operation on every edge."""
        record: dict[str, Any] = {"event": "architecture"}
        for kind in CELL_KINDS:
            record[kind] = [
                {"from": source, "to": node, "strength": dict(zip(OPERATIONS, row, strict=True))}
                for (source, node), row in zip(EDGES, self.strengths(kind), strict=True)
            ]
        return record

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a checkpoint of the search holds."""
        tensors = with_prefix("network", self.network.state_dict())
        tensors |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
        tensors |= with_prefix("architecture", self.architecture.state_dict())
        tensors |= with_prefix("architecture_optimizer", optimizer_tensors(self.architecture_optimizer))
        return tensors

    def restore(self, saved: Saved, *, path: Path) -> None:
        """Go on from what was committed.

        Args:
          path: of the checkpoint, for the message.

        Raises:
          CheckpointError: it is of another search.
        """
        load_into(self.network, without_prefix("network", saved.tensors), path=path)
        load_into(self.architecture, without_prefix("architecture", saved.tensors), path=path)
        load_optimizer(self.optimizer, without_prefix("optimizer", saved.tensors))
        load_optimizer(self.architecture_optimizer, without_prefix("architecture_optimizer", saved.tensors))
        self.epoch = saved.state["epoch"]


def search_pcdarts(search: Search) -> Genotype:
    """Search with PC-DARTS; resumes from the run's checkpoint where there is one.

    Raises:
      UsageError: the channels do not divide. MaxTimeReached: the time is up; saved after the last epoch.
      NonFiniteLossError: a loss became NaN; the checkpoint is of the epoch before. CheckpointError.
    """
    journal = Journal(search.run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS)
    saved = journal.resume()
    state = MixedSearch(search, saved.records if saved else ())
    if saved is not None:
        state.restore(saved, path=journal.checkpoint)
        journal.accept(saved)
        saved.replay(search.notify)
    num_epochs = search.config.pcdarts.num_epochs
    while state.epoch < num_epochs:
        epoch = state.train_one_epoch()
        records = [state.feasibility.record()] if state.feasibility is not None and state.epoch == 0 else []
        records.append(epoch)
        state.epoch += 1
        if state.epoch == num_epochs:
            records.append(state.architecture_record())
        journal.commit(records, state.tensors(), {"epoch": state.epoch})
        for record in records:
            search.notify(record)
        if state.epoch < num_epochs:
            search.deadline.check(epoch["seconds"])
    return state.genotype()
