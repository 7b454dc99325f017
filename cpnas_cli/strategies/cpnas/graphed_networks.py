"""The shared networks with their steps as CUDA graphs: `search.engine: graphs`.

Of every draw the training step and the validation step of the Child and of the Parent are captured
and replayed, each network on its own stream. The host waits for the device once a draw, when it reads
what both have learnt. Trains what `SharedNetworks` trains; a validation batch is larger here, because
what a batch costs apart from its images is the same for any size.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping

from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.search_space import Genotype
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.shared_networks import BATCHES, SharedNetworks, calibrated
from cpnas_cli.training.captured_steps import EvaluationSteps, StepSettings, TrainingSteps
from cpnas_cli.training.cuda_graphs import CapturedSteps, GraphStream, Replays, Stream, replay_in_turn
from cpnas_cli.training.epoch import Score, cross_entropy, epoch_means, evaluated

VALIDATION_BATCH_SIZE = 1000


class GraphedNetworks(SharedNetworks):
    """The shared Child and Parent, trained and validated side by side.

    Args:
      streams: of the Child and of the Parent; without it CUDA streams.
    """

    def __init__(self, search: Search, *, streams: Mapping[NetworkName, Stream] | None = None) -> None:
        super().__init__(search)
        self.pipeline.normalize(self.training.part(0, 1).images)  # its constants, before two streams ask for them
        self._streams: dict[NetworkName, Stream] = {
            name: streams[name] if streams else GraphStream(search.fabric.device) for name in self.networks
        }

    def scores(
        self, genotype: Genotype, *, draw: int, starting: Callable[[NetworkName], object]
    ) -> dict[NetworkName, Score]:
        with self._joined():
            trainings = self._trainings(genotype, draw=draw)
            self._run(trainings, starting=starting)
            self._drop_gradients(trainings)
            with self._validated(genotype) as validations:
                return {name: self._read(name, trainings[name], validations[name], draw=draw) for name in self.networks}

    def train_draw(self, genotype: Genotype, *, draw: int, starting: Callable[[NetworkName], object]) -> None:
        with self._joined():
            trainings = self._trainings(genotype, draw=draw)
            self._run(trainings, starting=starting)
            self._drop_gradients(trainings)
            for name in self.networks:
                self._read_training(name, trainings[name], draw=draw)

    def validate_draw(self, genotype: Genotype, *, draw: int) -> dict[NetworkName, Score]:
        with self._joined(), self._validated(genotype) as validations:
            return {name: self._read_validation(name, validations[name], draw=draw) for name in self.networks}

    @contextlib.contextmanager
    def _joined(self) -> Iterator[None]:
        """Whatever happens, no stream works on after the block: memory that it uses must not be given to another."""
        try:
            yield
        finally:
            for stream in self._streams.values():
                stream.join()

    def _drop_gradients(self, trainings: Mapping[NetworkName, TrainingSteps]) -> None:
        for name, stream in self._streams.items():
            with stream.active():
                for parameter in trainings[name].parameters:
                    parameter.grad = None

    @contextlib.contextmanager
    def _validated(self, genotype: Genotype) -> Iterator[dict[NetworkName, EvaluationSteps]]:
        """The validations of both networks, calibrated and replayed; they stay calibrated within the block."""
        with contextlib.ExitStack() as until_read:
            for name, stream in self._streams.items():
                with stream.active():
                    calibration = calibrated(self.networks[name], genotype, self.calibration_batches())
                    until_read.enter_context(calibration)
            validations: dict[NetworkName, EvaluationSteps] = {
                name: self._validation(name, genotype) for name in self.networks
            }
            self._run(validations)
            yield validations

    def _run(
        self,
        both: Mapping[NetworkName, CapturedSteps],
        *,
        starting: Callable[[NetworkName], object] = lambda _: None,
    ) -> None:
        """Record the steps of both networks and replay them side by side; the host does not wait."""
        recorded: list[tuple[Stream, Replays]] = []
        for name, steps in both.items():
            starting(name)
            stream = self._streams[name]
            with stream.active():
                recorded.append((stream, stream.record(steps)))
        replay_in_turn(recorded)

    def _trainings(self, genotype: Genotype, *, draw: int) -> dict[NetworkName, TrainingSteps]:
        search = self.config.search
        order_N, noise_NA = self.pipeline.draw_epoch(self.training, seed=self.config.seed, purpose=BATCHES, epoch=draw)
        return {
            name: TrainingSteps(
                functools.partial(self.networks[name], genotype=genotype),
                self.networks[name].parameters_of(genotype),
                self.training,
                cross_entropy,
                pipeline=self.pipeline,
                fabric=self.fabric,
                settings=StepSettings(
                    optimizer=search.optimizer,
                    momentum=search.momentum,
                    weight_decay=search.weight_decay,
                    clip_norm=search.clip_norm,
                    batch_size=search.batch_size,
                ),
                order_N=order_N,
                noise_NA=noise_NA,
                learning_rates=[self.learning_rate(draw, step) for step in range(self.num_steps)],
            )
            for name in self.networks
        }

    def _validation(self, name: NetworkName, genotype: Genotype) -> EvaluationSteps:
        return EvaluationSteps(
            functools.partial(self.networks[name], genotype=genotype),
            self.validation,
            pipeline=self.pipeline,
            batch_size=VALIDATION_BATCH_SIZE,
        )

    def _read(self, name: NetworkName, training: TrainingSteps, validation: EvaluationSteps, *, draw: int) -> Score:
        """Here the host waits."""
        self._read_training(name, training, draw=draw)
        return self._read_validation(name, validation, draw=draw)

    def _read_training(self, name: NetworkName, training: TrainingSteps, *, draw: int) -> None:
        self._streams[name].join()
        with self.located(name, draw=draw):
            epoch_means(training.rows, training.parameters, num_images=training.num_images)

    def _read_validation(self, name: NetworkName, validation: EvaluationSteps, *, draw: int) -> Score:
        self._streams[name].join()
        with self.located(name, draw=draw):
            return evaluated(validation.rows, num_images=len(self.validation))
