"""A whole training of a genotype: its Child with (4.17) and (4.18), its Parent, or both; resumable by the epoch."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.data.mixing import Mixing
from cpnas_cli.distributed.collectives import add_over_processes, by_first
from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.losses import ClassMeans
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.networks.size import network_size, precision_parts
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Journal, Notify, Saved, ignore
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import write_json
from cpnas_cli.storage.genotype_file import genotype_document
from cpnas_cli.storage.result_file import read_result
from cpnas_cli.training.auxiliary_head import AuxiliaryHead, build_auxiliary_head
from cpnas_cli.training.compilation import compile_network
from cpnas_cli.training.drop_path import draw_kept, drop_probability
from cpnas_cli.training.epoch import Batches, EpochMeans, TrainStep, train_epoch
from cpnas_cli.training.evaluation import evaluate_trained
from cpnas_cli.training.initial import begin
from cpnas_cli.training.network_training import NetworkTraining
from cpnas_cli.training.result import finished_record, result_document
from cpnas_cli.training.stages import learning_rate
from cpnas_cli.training.teacher import teacher_of
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork, save_trained, write_trained
from cpnas_cli.training.trained_networks import needs_own_parent, order_of_training, trained_networks
from cpnas_cli.training.training_loss import TrainingLoss, class_weights_of
from cpnas_cli.training.validation import ValidationCurve

CHECKPOINT_SCHEMA = "cpnas.training-checkpoint/1"
CHECKPOINT_KEYS = ("network", "epoch", "seconds", "finished")


def journal_of(run: RunFolder) -> Journal:
    """The journal of a training."""
    return Journal(run, schema=CHECKPOINT_SCHEMA, keys=CHECKPOINT_KEYS)


class Training:
    """The training of a genotype: the Child, the Parent, or both; resumable after every epoch.

    A Child whose soft targets come from the Parent of the same run is trained after it, and the Parent always then.

    Several processes train together as one does: each draws the same batches and takes its share of them, and what
    they add up is exchanged (`collectives`). The first process reads and writes the run's folder.

    All randomness depends on (seed, network, epoch, step), and a checkpoint holds all that a training has learnt, so
    a resumed training continues to the same bits on the same CPU.

    Args:
      genotype: None for a network that is none of a genotype, see `BaselineTraining`.
      shortened: is asked before the first epoch of each network whether it has fewer epochs than the settings say, and
        how many; None: as many. What it says is in the checkpoint of every epoch.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        genotype: Genotype | None,
        dataset: Dataset,
        *,
        fabric: Fabric,
        networks: tuple[NetworkName, ...],
        provenance: Mapping[str, Any],
        deadline: Deadline,
        notify: Notify = ignore,
        shortened: Callable[[NetworkName], int | None] = lambda _: None,
    ) -> None:
        self.run, self.config, self.genotype = run, config, genotype
        self.networks = trained_networks(config, networks)
        self.fabric, self.deadline, self.notify, self.provenance = fabric, deadline, notify, provenance
        self.dataset = dataset.to(fabric.device)
        self.pipeline = Pipeline(config.data, dataset.mean, dataset.std)
        self.journal, self._shortened = journal_of(run), shortened
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
        if needs_own_parent(self.config, self.networks) and "parent" not in self._finished:
            self.notify({"event": "note", "text": "the parent is trained first: it teaches the child", "passing": True})
        for name in order_of_training(self.config, self.networks):
            if name in self._finished:
                continue
            training = self._new_network_training(name)
            if saved is not None and saved.state["network"] == name:
                self._restore(training, saved)
            else:
                self._begin(training)
            self._train_network(training)
        result = self._result()
        by_first(self.fabric, lambda: write_json(self.run.file(RunFolder.RESULT), result))
        return result

    def _begin(self, training: NetworkTraining) -> None:
        """With `train.init_from` from the weights of a former training, see `begin`; with all its epochs or fewer."""
        if self.genotype is not None:
            is_wanted = training.name == self.networks[0]
            text = begin(training, self.config, self.genotype, self.dataset, is_wanted=is_wanted)
            if text is not None:
                self.notify({"event": "note", "text": text})
        num_epochs = by_first(self.fabric, lambda: self._shortened(training.name))
        if num_epochs is not None:
            training.shorten(num_epochs)
            self._tell_epochs(training)

    def _tell_epochs(self, training: NetworkTraining) -> None:
        self.notify({"event": "epochs", "network": training.name, "num_epochs": training.train.num_epochs})

    def _finished_result(self) -> dict[str, Any] | None:
        path = self.run.file(RunFolder.RESULT)
        return read_result(path) if path.exists() else None

    def _new_network_training(self, name: NetworkName) -> NetworkTraining:
        train = self.config.train
        network = self._build(name).to(self.fabric.device)
        class_means = None
        if name == "child" and train.lambda_compactness > 0:
            class_means = ClassMeans(
                self.dataset.num_classes,
                network.feature_shape(self.config.data.image_size),
                rate=train.class_mean_rate,
                exchange=add_over_processes,
            ).to(self.fabric.device)
        head = self._new_auxiliary_head(name, network)
        for module in (*network.modules(), *(head.modules() if head is not None else ())):
            if isinstance(module, BatchNorm):
                module.synchronized = self.fabric.world_size > 1
        watched = self.dataset.validation is not None
        validation = ValidationCurve(keeps_best=name == self.networks[0]) if watched else None
        return NetworkTraining(
            name,
            train,
            network,
            network,
            class_means,
            head,
            validation=validation,
            class_weights=class_weights_of(train, self.dataset),
        )

    def _build(self, name: NetworkName) -> Network:
        """The network before its first step."""
        assert self.genotype is not None
        return build_network(
            self.config.network,
            precision=PRECISIONS[name],
            num_image_channels=self.dataset.num_image_channels,
            num_classes=self.dataset.num_classes,
            seed=self.config.seed,
            genotype=self.genotype,
        )

    def _new_auxiliary_head(self, name: NetworkName, network: Network) -> AuxiliaryHead | None:
        if self.config.train.auxiliary_weight == 0:
            return None
        _, size, _ = network.feature_shape(self.config.data.image_size)  # nothing halves the image after it
        return build_auxiliary_head(
            network.num_auxiliary_channels,
            self.dataset.num_classes,
            size=size,
            seed=self.config.seed,
            purpose=f"{name} auxiliary head",
        ).to(self.fabric.device)

    def _train_network(self, training: NetworkTraining) -> None:
        num_epochs = training.train.num_epochs
        if training.epoch < num_epochs:
            student = Normalization(self.dataset.mean, self.dataset.std)
            training.teacher = teacher_of(training.name, self.config, self.run, student, fabric=self.fabric)
            self._compile(training)
        while training.epoch < num_epochs:
            next_stage = training.next_stage()
            if next_stage is not None:
                training.enter(next_stage)
                self._compile(training)
            started = time.monotonic()
            means = self._train_one_epoch(training)
            validated = self._validate(training)
            seconds = time.monotonic() - started
            record = {
                "event": "epoch",
                "network": training.name,
                **({} if training.stage.number is None else {"stage": training.stage.number}),
                "epoch": training.epoch,
                **vars(means),
                **validated,
                "learning_rate": training.optimizer.param_groups[0]["lr"],
                "seconds": round(seconds, 3),
            }
            training.epoch += 1
            training.seconds += seconds
            by_first(self.fabric, functools.partial(self._save_epoch, training, record, seconds=seconds))
        self._finish(training)

    def _compile(self, training: NetworkTraining) -> None:
        """With `train.compile` the compiled network for the epochs to come, or why it is not compiled."""
        train, images = self.config.train, self.dataset.train
        if not train.compile:
            return
        if self.fabric.world_size > 1:
            reason: str | None = "not with several processes, which exchange statistics in every layer"
        else:
            part = images.part(0, min(train.batch_size, len(images)) // train.gradient_accumulation_steps).images
            text = f"compiling the {training.name}; on a CPU this takes minutes"
            self.notify({"event": "note", "text": text, "passing": True})
            training.forward, reason = compile_network(
                training.network,
                self.pipeline.normalize(part),
                *(kept[: len(part)] for kept in self._kept(training, step=0)),
                fabric=self.fabric,
            )
        training.compiled = reason is None and (training.compiled or training.epoch == 0)
        if reason is not None:
            self.notify({"event": "note", "text": f"the {training.name} is trained without torch.compile: {reason}"})

    def _save_epoch(self, training: NetworkTraining, record: Mapping[str, Any], *, seconds: float) -> None:
        self.journal.commit([record], training.tensors(), {**training.state(), "finished": self._finished})
        self.notify(record)
        if training.epoch < training.train.num_epochs or len(self._finished) + 1 < len(self.networks):
            self.deadline.check(seconds)

    def _train_one_epoch(self, training: NetworkTraining) -> EpochMeans:
        train = training.train
        num_steps = max(len(self.dataset.train) // train.batch_size, 1)
        batches = self.pipeline.training_batches(
            self.dataset.train,
            batch_size=train.batch_size,
            seed=self.config.seed,
            purpose=f"{training.name} training batches",
            epoch=training.epoch,
            positions=self._positions(),
            mixing=Mixing(train.mixup, train.cutmix, self.dataset.num_classes) if train.mixup or train.cutmix else None,
        )

        def before_step(step: int) -> None:
            training.network.set_progress((training.epoch + step / num_steps) / train.num_epochs)

        def watched() -> Batches:
            for step, batch in enumerate(batches):
                self.notify(
                    {
                        "event": "progress",
                        "network": training.name,
                        "epoch": training.epoch,
                        "done": step,
                        "total": num_steps,
                    }
                )
                yield (*batch, *self._kept(training, step=step))

        try:
            return train_epoch(
                self._train_step(training),
                watched(),
                learning_rate=lambda step: learning_rate(
                    train, training.stage, epoch=training.epoch, step=step, num_steps=num_steps
                ),
                before_step=before_step,
                after_step=None if training.moving_average is None else training.moving_average.update,
            )
        except NonFiniteLossError as error:
            raise self._located(error, training) from None

    def _validate(self, training: NetworkTraining) -> dict[str, float]:
        """What the history says of the images that validate, after an epoch; nothing without any."""
        images = self.dataset.validation
        if images is None:
            return {}
        try:
            return training.validate(self.pipeline, images, rank=self.fabric.global_rank)
        except NonFiniteLossError as error:
            raise self._located(error, training) from None

    def _kept(self, training: NetworkTraining, *, step: int) -> Iterator[Tensor]:
        """With drop-path what it keeps in this step of this process's images, see `Network`; else nothing."""
        train, epoch = training.train, training.epoch
        if train.drop_path == 0:
            return
        kept_BE = draw_kept(
            min(train.batch_size, len(self.dataset.train)),
            training.network.num_droppable_edges(),
            probability=drop_probability(train.drop_path, epoch=epoch, num_epochs=train.num_epochs),
            seed=self.config.seed,
            purpose=f"{training.name} drop-path",
            index=(epoch, step),
        ).to(self.fabric.device)
        positions = self._positions()
        yield kept_BE if positions is None else kept_BE[positions]

    def new_train_step(self, name: NetworkName) -> TrainStep:
        """Of a network as it is before its first epoch; not that of this training, which keeps its own."""
        return self._train_step(self._new_network_training(name))

    def _train_step(self, training: NetworkTraining) -> TrainStep:
        train = self.config.train
        return TrainStep(
            training.forward_part,
            training.parameters,
            training.optimizer,
            TrainingLoss(training, self.fabric),
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

    def _located(self, error: NonFiniteLossError, training: NetworkTraining) -> NonFiniteLossError:
        num_epochs = training.train.num_epochs
        return NonFiniteLossError(
            f"{error}, epoch {min(training.epoch + 1, num_epochs)} of {num_epochs}, {training.name}; the checkpoint "
            f"holds the state after epoch {training.epoch}; try a smaller --set train.learning_rate in a new run"
        )

    def _finish(self, training: NetworkTraining) -> None:
        """Evaluate and save what was trained: with `train.ema_decay` its moving average; and what was best."""
        if training.moving_average is not None:
            training.moving_average.apply()
        size = network_size(training.network)
        try:
            accuracy_test = evaluate_trained(
                training.network, self.pipeline, self.dataset.test, rank=self.fabric.global_rank
            )
        except NonFiniteLossError as error:
            raise self._located(error, training) from None
        by_first(self.fabric, lambda: self._save_networks(training))
        self._finished[training.name] = finished_record(training, accuracy_test=accuracy_test, size=size)

    def _save_networks(self, training: NetworkTraining) -> None:
        """The network; then, in a file of its own, that of the best epoch, which it becomes."""
        self._save_network(training.network)
        curve = training.validation
        if curve is not None and curve.become_best(training.network, path=self.journal.checkpoint):
            self._save_best(training.network)

    def _save_network(self, network: Network) -> None:
        save_trained(self.run, self._trained(network), asked_for=self.networks[0])

    def _save_best(self, network: Network) -> None:
        write_trained(self._trained(network), self.run.file(RunFolder.BEST_MODEL))

    def _trained(self, network: Network) -> TrainedNetwork:
        assert self.genotype is not None
        return TrainedNetwork(
            network,
            self.config,
            self.genotype,
            self.provenance,
            self.dataset.classes,
            Normalization(self.dataset.mean, self.dataset.std),
            self.dataset.num_image_channels,
        )

    def _result(self) -> dict[str, Any]:
        return result_document(
            self.config,
            self.networks,
            self._finished,
            self.dataset,
            precision=self._precision_parts(),
            genotype=self.genotype and genotype_document(self.genotype, provenance=self.provenance),
        )

    def _precision_parts(self) -> dict[str, list[str]]:
        return precision_parts(self.config.network, PRECISIONS[self.networks[0]])

    def _restore(self, training: NetworkTraining, saved: Saved) -> None:
        training.restore(saved, path=self.journal.checkpoint)

        def accept() -> None:
            self.journal.accept(saved)
            if training.shortened_to is not None:
                self._tell_epochs(training)
            saved.replay(self.notify)

        by_first(self.fabric, accept)
