"""A whole training of a genotype: its Child with (4.17) and (4.18), its Parent, or both; resumable by the epoch."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.binarization.filters import reconstruction
from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.collectives import add_over_processes, by_first
from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.losses import ClassMeans, LossTerms, child_parent_loss, compactness_loss, kernel_loss
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.network import Network, Output, build_network
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.networks.size import network_size, precision_parts
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal, Notify, Saved, ignore
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config, TrainConfig
from cpnas_cli.storage.documents import RESULT_SCHEMA, read_document, write_json
from cpnas_cli.storage.genotype_file import genotype_document
from cpnas_cli.storage.tensors import (
    load_into,
    load_optimizer,
    optimizer_tensors,
    with_prefix,
    without_prefix,
)
from cpnas_cli.training.compilation import compile_network
from cpnas_cli.training.epoch import Batches, EpochMeans, TrainStep, cosine, make_optimizer, train_epoch
from cpnas_cli.training.evaluation import evaluate_trained
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork, save_trained

CHECKPOINT_SCHEMA = "cpnas.training-checkpoint/1"
CHECKPOINT_KEYS = ("network", "epoch", "seconds", "finished")


def journal_of(run: RunFolder) -> Journal:
    """The journal of a training."""
    return Journal(run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS)


def _training_rate(train: TrainConfig, *, epoch: int, step: int, num_steps: int) -> float:
    """Linear warm-up over the first epochs, then a cosine to the end, both per step."""
    progress = epoch + step / num_steps
    if progress < train.warmup_epochs:
        return train.learning_rate * (progress + 1 / num_steps) / train.warmup_epochs
    rest = max(train.num_epochs - train.warmup_epochs, 1)
    return cosine(train.learning_rate, train.learning_rate_min, (progress - train.warmup_epochs) / rest)


@dataclass
class _Stage:
    """The training of one network: everything that a checkpoint of it holds."""

    name: NetworkName
    network: Network
    forward: Callable[[Tensor], Output]  # the network in training, compiled or as it is
    optimizer: torch.optim.Optimizer
    class_means: ClassMeans | None
    epoch: int = 0
    seconds: float = 0.0
    compiled: bool = False  # all epochs so far

    def tensors(self) -> dict[str, Tensor]:
        parts = with_prefix("network", self.network.state_dict())
        parts |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
        if self.class_means is not None:
            parts |= with_prefix("class_means", self.class_means.state_dict())
        return parts

    def state(self) -> dict[str, Any]:
        """What a checkpoint says beside the tensors."""
        return {"network": self.name, "epoch": self.epoch, "seconds": self.seconds, "compiled": self.compiled}


class Training:
    """The training of a genotype: the Child, the Parent, or both; resumable after every epoch.

    Several processes train together as one does: each draws the same batches and takes its share of them, and what
    they add up is exchanged (`collectives`). The first process reads and writes the run's folder.

    All randomness depends on (seed, network, epoch), and a checkpoint holds weights, optimizer and
    class means, so a resumed training continues to the same bits on the same CPU.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        genotype: Genotype,
        dataset: Dataset,
        *,
        fabric: Fabric,
        networks: tuple[NetworkName, ...],
        provenance: Mapping[str, Any],
        deadline: Deadline,
        notify: Notify = ignore,
    ) -> None:
        self.run, self.config, self.genotype, self.networks = run, config, genotype, networks
        self.fabric, self.deadline, self.notify, self.provenance = fabric, deadline, notify, provenance
        self.dataset = dataset.to(fabric.device)
        self.pipeline = Pipeline(config.data, dataset.mean, dataset.std)
        self.journal = journal_of(run)
        self._finished: dict[str, dict[str, Any]] = {}

    def train(self) -> dict[str, Any]:
        """Train to the end and return the result document (`cpnas.result/1`), which is also written.

        Raises:
          MaxTimeReached: the time is up; saved. NonFiniteLossError: see there; the checkpoint is of the
            last good epoch. CheckpointError: the checkpoint cannot be used.
        """
        result = by_first(self.fabric, self._finished_result)
        if result is not None:
            return result
        saved = by_first(self.fabric, self.journal.resume)
        if saved is not None:
            self._finished = saved.state["finished"]
        for name in self.networks:
            if name in self._finished:
                continue
            stage = self._new_stage(name)
            if saved is not None and saved.state["network"] == name:
                self._restore(stage, saved)
            self._train_stage(stage)
        result = self._result()
        by_first(self.fabric, lambda: write_json(self.run.file(RunFolder.RESULT), result))
        return result

    def _finished_result(self) -> dict[str, Any] | None:
        path = self.run.file(RunFolder.RESULT)
        return read_document(path) if path.exists() else None

    def _new_stage(self, name: NetworkName) -> _Stage:
        train = self.config.train
        network = build_network(
            self.config.network,
            precision=PRECISIONS[name],
            num_image_channels=self.dataset.num_image_channels,
            num_classes=self.dataset.num_classes,
            seed=self.config.seed,
            genotype=self.genotype,
        ).to(self.fabric.device)
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.synchronized = self.fabric.world_size > 1
        optimizer = make_optimizer(
            train.optimizer,
            list(network.parameters()),
            learning_rate=train.learning_rate,
            momentum=train.momentum,
            weight_decay=train.weight_decay,
        )
        class_means = None
        if name == "child" and train.lambda_compactness > 0:
            class_means = ClassMeans(
                self.dataset.num_classes,
                network.feature_shape(self.config.data.image_size),
                rate=train.class_mean_rate,
                exchange=add_over_processes,
            ).to(self.fabric.device)
        return _Stage(name, network, network, optimizer, class_means)

    def _train_stage(self, stage: _Stage) -> None:
        num_epochs = self.config.train.num_epochs
        if self.config.train.compile and stage.epoch < num_epochs:
            self._compile(stage)
        while stage.epoch < num_epochs:
            started = time.monotonic()
            means = self._train_one_epoch(stage)
            seconds = time.monotonic() - started
            record = {
                "event": "epoch",
                "network": stage.name,
                "epoch": stage.epoch,
                **vars(means),
                "learning_rate": stage.optimizer.param_groups[0]["lr"],
                "seconds": round(seconds, 3),
            }
            stage.epoch += 1
            stage.seconds += seconds
            by_first(self.fabric, functools.partial(self._save_epoch, stage, record, seconds=seconds))
        self._finish(stage)

    def _compile(self, stage: _Stage) -> None:
        """The compiled network for the epochs to come, or why it is not compiled."""
        train, images = self.config.train, self.dataset.train
        if self.fabric.world_size > 1:
            reason: str | None = "not with several processes, which exchange statistics in every layer"
        else:
            part = images.images[: min(train.batch_size, len(images)) // train.gradient_accumulation_steps]
            text = f"compiling the {stage.name}; on a CPU this takes minutes"
            self.notify({"event": "note", "text": text, "passing": True})
            stage.forward, reason = compile_network(stage.network, self.pipeline.normalize(part), fabric=self.fabric)
        stage.compiled = reason is None and (stage.compiled or stage.epoch == 0)
        if reason is not None:
            self.notify({"event": "note", "text": f"the {stage.name} is trained without torch.compile: {reason}"})

    def _save_epoch(self, stage: _Stage, record: Mapping[str, Any], *, seconds: float) -> None:
        self.journal.commit([record], stage.tensors(), {**stage.state(), "finished": self._finished})
        self.notify(record)
        if stage.epoch < self.config.train.num_epochs or stage.name != self.networks[-1]:
            self.deadline.check(seconds)

    def _train_one_epoch(self, stage: _Stage) -> EpochMeans:
        train, seed = self.config.train, self.config.seed
        num_steps = max(len(self.dataset.train) // train.batch_size, 1)
        batches = self.pipeline.training_batches(
            self.dataset.train,
            batch_size=train.batch_size,
            seed=seed,
            purpose=f"{stage.name} training batches",
            epoch=stage.epoch,
            positions=self._positions(),
        )

        def before_step(step: int) -> None:
            stage.network.set_progress((stage.epoch + step / num_steps) / train.num_epochs)

        def watched() -> Batches:
            for step, batch in enumerate(batches):
                self.notify(
                    {
                        "event": "progress",
                        "network": stage.name,
                        "epoch": stage.epoch,
                        "done": step,
                        "total": num_steps,
                    }
                )
                yield batch

        try:
            return train_epoch(
                self._train_step(stage),
                watched(),
                learning_rate=lambda step: _training_rate(train, epoch=stage.epoch, step=step, num_steps=num_steps),
                before_step=before_step,
            )
        except NonFiniteLossError as error:
            raise self._located(error, stage) from None

    def new_train_step(self, name: NetworkName) -> TrainStep:
        """Of a network as it is before its first epoch; not that of this training, which keeps its own."""
        return self._train_step(self._new_stage(name))

    def _train_step(self, stage: _Stage) -> TrainStep:
        train = self.config.train
        return TrainStep(
            stage.forward,
            list(stage.network.parameters()),
            stage.optimizer,
            lambda output, labels: self._loss(stage, output, labels),
            fabric=self.fabric,
            clip_norm=train.clip_norm,
            num_parts=train.gradient_accumulation_steps,
        )

    def _positions(self) -> Tensor | None:
        """The places in a batch whose images this process takes: its share of each of the parts; None for all."""
        world_size = self.fabric.world_size
        if world_size == 1:
            return None
        train = self.config.train
        batch_size = min(train.batch_size, len(self.dataset.train))
        places = torch.arange(batch_size, device=self.fabric.device)
        return places.view(train.gradient_accumulation_steps, world_size, -1)[:, self.fabric.global_rank].flatten()

    def _located(self, error: NonFiniteLossError, stage: _Stage) -> NonFiniteLossError:
        num_epochs = self.config.train.num_epochs
        return NonFiniteLossError(
            f"{error}, epoch {min(stage.epoch + 1, num_epochs)} of {num_epochs}, {stage.name}; the checkpoint holds "
            f"the state after epoch {stage.epoch}; try a smaller --set train.learning_rate in a new run"
        )

    def _loss(self, stage: _Stage, output: Output, labels_B: Tensor) -> LossTerms:
        train = self.config.train
        cross_entropy = F.cross_entropy(output.logits, labels_B, label_smoothing=train.label_smoothing)
        zero = torch.zeros_like(cross_entropy)
        is_child = stage.name == "child"
        with_kernel = is_child and train.kernel_weight > 0
        kernel = zero
        if with_kernel:
            kernel = kernel_loss(stage.network.latent_filters(), reconstruct=reconstruction, device=zero.device)
        compactness = zero
        if stage.class_means is not None:
            # a sum over images, where the other terms are means; the parts are averaged, so each stands for all
            num_parts = train.gradient_accumulation_steps * self.fabric.world_size
            compactness = num_parts * compactness_loss(output.features, stage.class_means.means, labels_B)
            stage.class_means.update(output.features, labels_B)
        return child_parent_loss(
            cross_entropy=cross_entropy,
            kernel=kernel,
            compactness=compactness,
            kernel_weight=train.kernel_weight,
            lambda_compactness=train.lambda_compactness,
        )

    def _finish(self, stage: _Stage) -> None:
        size = network_size(stage.network)
        try:
            accuracy_test = evaluate_trained(
                stage.network, self.pipeline, self.dataset.test, rank=self.fabric.global_rank
            )
        except NonFiniteLossError as error:
            raise self._located(error, stage) from None
        trained = TrainedNetwork(
            stage.network,
            self.config,
            self.genotype,
            self.provenance,
            self.dataset.classes,
            Normalization(self.dataset.mean, self.dataset.std),
            self.dataset.num_image_channels,
        )
        by_first(self.fabric, lambda: save_trained(self.run, trained, asked_for=self.networks[0]))
        self._finished[stage.name] = {
            "accuracy_test": accuracy_test,
            "num_parameters": size.num_parameters,
            "num_binary_weights": size.num_binary_weights,
            "num_real_values": size.num_real_values,
            "num_thresholds": size.num_thresholds,
            "size_bits": size.size_bits,
            "compiled": stage.compiled,
            "seconds": round(stage.seconds, 3),
        }

    def _result(self) -> dict[str, Any]:
        main = self._finished[self.networks[0]]
        parent = self._finished.get("parent")
        return {
            "schema": RESULT_SCHEMA,
            "network": self.networks[0],
            "accuracy_test": main["accuracy_test"],
            "accuracy_parent_test": parent["accuracy_test"] if parent else None,
            "num_parameters": main["num_parameters"],
            "num_binary_weights": main["num_binary_weights"],
            "num_real_values": main["num_real_values"],
            "num_thresholds": main.get("num_thresholds", 0),
            "size_bits": main["size_bits"],
            "size_parent_bits": parent["size_bits"] if parent else None,
            "precision": precision_parts(self.config.network, PRECISIONS[self.networks[0]]),
            "compiled": main.get("compiled", False),
            "num_epochs": self.config.train.num_epochs,
            "num_train_images": len(self.dataset.train),
            "num_test_images": len(self.dataset.test),
            "dataset": self.config.data.name,
            "classes": list(self.dataset.classes),
            "seconds": main["seconds"],
            "seconds_parent": parent["seconds"] if parent else None,
            "seed": self.config.seed,
            "genotype": genotype_document(self.genotype, provenance=self.provenance),
        }

    def _restore(self, stage: _Stage, saved: Saved) -> None:
        path = self.journal.checkpoint
        load_into(stage.network, without_prefix("network", saved.tensors), path=path)
        load_optimizer(stage.optimizer, without_prefix("optimizer", saved.tensors))
        if stage.class_means is not None:
            load_into(stage.class_means, without_prefix("class_means", saved.tensors), path=path)
        stage.epoch, stage.seconds = saved.state["epoch"], saved.state["seconds"]
        stage.compiled = saved.state.get("compiled", False)

        def accept() -> None:
            self.journal.accept(saved)
            saved.replay(self.notify)

        by_first(self.fabric, accept)
