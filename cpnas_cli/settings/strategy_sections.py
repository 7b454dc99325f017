"""The sections of single strategies; what several share is the section `search`."""

from typing import Self

from pydantic import ValidationInfo, model_validator

from cpnas_cli.settings.fields import Section, check_first_epochs, check_learning_rates, setting, starts_something
from cpnas_cli.settings.sections import OptimizerName


class PcDartsConfig(Section):
    """The search of `pcdarts`; the defaults are those of its public code."""

    num_epochs: int = setting(50, "epochs of the search", unit="epochs", origin="PC-DARTS", ge=1)
    frozen_epochs: int = setting(
        15,
        "first epochs, in which the architecture parameters stay as they are",
        unit="epochs",
        origin="PC-DARTS",
        ge=0,
    )
    partial_channels: int = setting(
        4,
        "one in how many channels goes through the mixed operation; the others pass by it",
        origin="PC-DARTS",
        ge=2,
        le=64,
    )
    batch_size: int = setting(256, "images of a step", unit="images", origin="PC-DARTS", ge=2)
    optimizer: OptimizerName = setting("sgd", "optimizer of the weights", origin="PC-DARTS")
    learning_rate: float = setting(
        0.1, "learning rate where the cosine over all epochs begins", origin="PC-DARTS", gt=0
    )
    learning_rate_min: float = setting(
        0.001, "learning rate where the cosine over all epochs ends", origin="PC-DARTS", ge=0
    )
    momentum: float = setting(0.9, "momentum of SGD; Adam does without", origin="PC-DARTS", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "weight decay", origin="PC-DARTS", ge=0)
    clip_norm: float = setting(5.0, "largest norm of the gradient; a longer one is shortened", origin="PC-DARTS", gt=0)
    architecture_learning_rate: float = setting(
        6e-4, "learning rate of Adam (beta1 0.5) for the architecture parameters", origin="PC-DARTS", gt=0
    )
    architecture_weight_decay: float = setting(
        1e-3, "weight decay of the architecture parameters", origin="PC-DARTS", ge=0
    )

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        if starts_something(info):
            why = "the architecture never learns"
            check_first_epochs("pcdarts", "frozen_epochs", self.frozen_epochs, self.num_epochs, why=why)
            check_learning_rates("pcdarts", start=self.learning_rate, end=self.learning_rate_min)
        return self


class HalvingConfig(Section):
    """The search of `halving`: successive halving (arXiv 1502.07943) of genotypes, each trained on its own."""

    num_genotypes: int = setting(
        8,
        "random genotypes of the first round",
        unit="genotypes",
        origin="ours: for the time that two cores take",
        ge=1,
    )
    num_rounds: int = setting(
        3,
        "rounds; the better half of each goes on to the next, and the best of the last is what is found",
        unit="rounds",
        origin="ours: for the time that two cores take",
        ge=1,
        le=16,
    )
    first_epochs: int = setting(
        2,
        "epochs of a training in the first round, and twice as many in each that follows; each training is a new one, "
        "with the whole schedule of the recipe in so many epochs",
        unit="epochs",
        origin="ours: a rate that has fallen to its end ranks better than a schedule that is cut off",
        ge=1,
    )

    @model_validator(mode="after")
    def _can_be_halved(self, info: ValidationInfo) -> Self:
        needed = 2 ** (self.num_rounds - 1)
        if starts_something(info) and self.num_genotypes < needed:
            raise ValueError(
                f"halving.num_genotypes={self.num_genotypes} cannot be halved after each of "
                f"halving.num_rounds={self.num_rounds} rounds but the last; add --set halving.num_genotypes={needed}, "
                f"or --set halving.num_rounds={self.num_genotypes.bit_length()}"
            )
        return self


class FairConfig(Section):
    """The search of `fair`, after FairNAS (arXiv 1907.01845); steps, rates and split are those of `search`."""

    num_epochs: int = setting(
        4,
        "epochs with all candidates; a step adds up the gradients of as many architectures as an edge has candidates",
        unit="epochs",
        origin="ours: for the time that two cores take",
        ge=1,
    )
    num_retraining_epochs: int = setting(
        1,
        "epochs with the candidates that are left, each time half of them are abandoned",
        unit="epochs",
        origin="ours: FairNAS trains once",
        ge=0,
    )
    num_scored: int = setting(
        160,
        "random architectures that are scored, without training, before half of the candidates are abandoned; later, "
        "with fewer candidates, fewer in proportion",
        unit="architectures",
        origin="ours: more told little more on digits",
        ge=1,
    )
    num_scored_images: int | None = setting(
        256,
        "validation images that each of them is scored on, the same ones for all; null: all",
        unit="images",
        origin="ours: probabilities of few images tell architectures apart",
        ge=1,
    )


class SposConfig(Section):
    """The search of `spos`: single path one-shot (arXiv 1904.00420); steps, rates and split are those of `search`."""

    num_epochs: int = setting(
        16,
        "epochs of the shared network; a step trains one random architecture",
        unit="epochs",
        origin="ours: after 48 scores rank better, but what is found is not",
        ge=1,
    )
    num_scored: int = setting(
        240,
        "architectures that are scored, without training: a third of them random, the others bred from the best",
        unit="architectures",
        origin="ours: SPOS has 1000, 20 generations of 50",
        ge=2,
    )
    num_parents: int = setting(
        20,
        "the best so far, from which a generation of as many is bred: half of it mutations of one of them, half "
        "crossovers of two",
        unit="architectures",
        origin="ours: SPOS has the best 10 and generations of 50",
        ge=2,
    )
    mutation_probability: float = setting(
        0.1,
        "probability by which a mutation gives an edge another operation",
        origin="ours: that of SPOS, whose edges may draw what they had",
        gt=0,
        le=1,
    )
    num_scored_images: int | None = setting(
        512,
        "validation images that each of them is scored on, the same ones for all; null: all",
        unit="images",
        origin="ours: SPOS has 50,000 of ImageNet's",
        ge=1,
    )

    @model_validator(mode="after")
    def _has_parents(self, info: ValidationInfo) -> Self:
        if starts_something(info) and self.num_scored < self.num_parents:
            raise ValueError(
                f"spos.num_scored={self.num_scored} must be spos.num_parents={self.num_parents} or more, the best of "
                f"which the others are bred from; add --set spos.num_parents={max(self.num_scored // 3, 2)}"
            )
        return self
