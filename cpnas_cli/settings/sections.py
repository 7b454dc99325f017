"""The sections of the settings: every field with description, unit, range and origin, and what must fit together."""

from typing import Any, Literal, Self

from pydantic import ValidationInfo, field_validator, model_validator

from cpnas_cli.registry import BLOCKS, DATASETS, STRATEGIES, registered
from cpnas_cli.settings.amounts import BUDGETS
from cpnas_cli.settings.fields import Section, check_learning_rates, setting, starts_something

EstimatorName = Literal["clipped", "polynomial", "error_decay"]
LatentsName = Literal["plain", "centered", "standardized"]
ScaleName = Literal["mean", "learned"]
RealPart = Literal["preprocessing", "factorized_reduction"]
OptimizerName = Literal["sgd", "adam"]
FitName = Literal["squash", "crop", "letterbox"]
DtypeName = Literal["float32", "bfloat16"]
EngineName = Literal["eager", "graphs"]
IndicatorName = Literal["penalized", "printed"]
EvaluationName = Literal["after_draw", "after_pass"]
CreditName = Literal["draw", "regression"]
PerformanceName = Literal["accuracy", "probability"]
ActivationName = Literal["none", "prelu", "rprelu"]
RealFormat = Literal["float32", "float16"]
WeightFormat = Literal["float32", "float16", "int8"]

STEM_STRIDES = (1, 2, 4, 8)
SMALLEST_CELL_SIDE = 16
"""Pixels of the first cells where the stride of the stem is chosen by the size of the images."""


def stem_stride_for(image_size: int) -> int:
    """The largest stride of a stem that leaves the first cells 16 pixels a side; ours: enough for two reductions.

    Args:
      image_size: side of the images, pixels.
    """
    return max(stride for stride in STEM_STRIDES if stride == 1 or image_size // stride >= SMALLEST_CELL_SIDE)


def fixed_beta_p(strategy: str) -> float | None:
    """The one beta_P that the strategy can have; None: any, or there is no such strategy."""
    return registered(STRATEGIES, strategy).fixed_beta_p if strategy in STRATEGIES else None


class DataConfig(Section):
    """The images: which, where, how large, and how they are varied in training."""

    name: str = setting("digits", "the data set", names=DATASETS, origin="ours: nothing to download")
    dir: str | None = setting(
        None, "folder of the data set (--data-dir); digits has none", origin="ours: where images lie differs"
    )
    image_size: int = setting(
        8,
        "side of the square images; others are resized to it (data.fit); a multiple of 4 * network.stem_stride",
        unit="pixels",
        origin="ours: the size of digits",
        ge=4,
        le=1024,
    )
    fit: FitName = setting(
        "squash",
        "how images that are not square are made so: squash: resized without regard to their aspect; crop: the largest "
        "square about the centre; letterbox: resized whole, the rest black; in training and in `cpnas predict`",
        origin="ours: as it always was; the preset folder has crop",
    )
    num_channels: Literal[1, 3] | None = setting(
        None, "1 for grey, 3 for colour; null: 1 if every image is grey, else 3", origin="ours: as the images are"
    )
    num_train: int | None = setting(
        None,
        "how many training images, a fixed and class-balanced subset; null: all",
        unit="images",
        origin="ours: all",
        ge=2,
    )
    num_test: int | None = setting(
        None,
        "how many test images, a fixed and class-balanced subset; null: all",
        unit="images",
        origin="ours: all",
        ge=1,
    )
    test_fraction: float = setting(
        0.2,
        "share of the images of each class that test, the same ones for every seed, where a folder has neither train/ "
        "nor test/",
        origin="ours: a fifth, as of digits",
        gt=0,
        lt=1,
    )
    validation_fraction: float = setting(
        0.0,
        "share of the training images of each class that validate in a training after every epoch, the same ones for "
        "every seed; neither a training nor a search trains on them, and a search does not look at them; 0: none, or "
        "those of val/ where a folder has it beside test/",
        origin="ours: none, all images train",
        ge=0,
        lt=1,
    )
    crop_padding: int = setting(
        0,
        "border around an image out of which a random crop is taken; 0: no crop",
        unit="pixels",
        origin="ours: none; DARTS has 4 for CIFAR-10",
        ge=0,
    )
    flip: bool = setting(
        False, "mirror images left and right in training", origin="ours: digits and text are not symmetric"
    )
    cutout: int = setting(
        0,
        "side of the square that is set to the mean in training, not in the search; 0: none",
        unit="pixels",
        origin="ours: none; DARTS has 16 for CIFAR-10",
        ge=0,
    )
    rotation: float = setting(
        0.0,
        "largest angle by which images are turned in training, to either side; 0: none",
        unit="degrees",
        origin="ours: none; for photos that have no upright",
        ge=0,
        le=180,
    )
    colour: float = setting(
        0.0,
        "how far brightness, contrast and saturation vary in training, each by a factor of 1 +- this; 0: not",
        origin="ours: none; torchvision's ColorJitter; for photos",
        ge=0,
        le=1,
    )


class NetworkConfig(Section):
    """The network that a genotype becomes."""

    num_cells: int = setting(
        3,
        "cells in a row, the two reduction cells among them",
        unit="cells",
        origin="ours: one before two reductions",
        ge=3,
        le=100,
    )
    num_channels: int = setting(
        16,
        "channels of a node of the first cell",
        unit="channels",
        origin="PC-DARTS searches with 16",
        ge=2,
        le=1024,
        multiple_of=2,
    )
    block: str = setting(
        "separable",
        "what a convolution of a cell is: depthwise and 1x1, or one grouped convolution with a real residual around it",
        names=BLOCKS,
        origin="published: a separable convolution; residual: EBNAS's, after Bi-Real Net",
    )
    group_width: int = setting(
        8,
        "input channels of a filter of the block residual; a cell with fewer channels has one group",
        unit="channels",
        origin="ours: EBNAS has 4 to 16",
        ge=1,
        le=1024,
    )
    activation: ActivationName = setting(
        "prelu",
        "of the block residual, what every value of a cell ends with: nothing, PReLU, or RPReLU with learned shifts",
        origin="ours: EBNAS's; rprelu is ReActNet's",
    )
    sign_shift: bool = setting(
        True,
        "of the block residual: whether a shift per channel is learned before every sign",
        origin="ours: ReActNet's",
    )
    stem_multiplier: int = setting(
        3, "how many times network.num_channels channels the stem has", origin="DARTS", ge=1, le=8
    )
    stem_convolutions: Literal[1, 2, 3] = setting(
        1,
        "3x3 convolutions of the stem, the last ones with its stride; one alone is 7x7 at stride 4",
        unit="convolutions",
        origin="DARTS",
    )
    stem_stride: Literal[1, 2, 4, 8] = setting(
        1,
        "stride of the stem; 2 to 8 for larger images or less time, 8 with three convolutions only; null, where "
        "settings are read: the largest that leaves the first cells 16 pixels a side",
        unit="pixels",
        origin="DARTS",
    )
    estimator: EstimatorName = setting(
        "clipped",
        "pseudo-gradient of the sign of activations: 1 where |x| <= network.clip_bound, or falling to 0 there as in "
        "Bi-Real Net, or ever sharper as the training goes on as in IR-Net",
        origin="ours: all are published, none for this network",
    )
    clip_bound: float = setting(
        1.0,
        "|x| beyond which the gradient of the sign of activations is 0; error_decay has no such bound",
        origin="published, in Bi-Real Net; PokeBNN has 3, BNext 1.5",
        gt=0,
        le=10,
    )
    latents: LatentsName = setting(
        "plain",
        "what the signs of filters are taken of: the latent filters, these less their mean, or divided by their "
        "deviation too",
        origin="published, in XNOR-Net; IR-Net has standardized",
    )
    recu: bool = setting(
        False,
        "whether weights beyond a quantile, which rises with the training, get no gradient; needs "
        "network.latents=standardized",
        origin="ours: none; ReCU has it",
    )
    scale: ScaleName = setting(
        "mean",
        "scale of a filter: the mean of its |weights|, or learned, from there on",
        origin="published, in XNOR-Net",
    )
    real_parts: tuple[RealPart, ...] = setting(
        (), "what is kept in full precision in the Child; []: full W1A1", origin="ours: full W1A1"
    )
    real_format: RealFormat = setting(
        "float32",
        "how the Child stores scales, shifts and slopes, and computes with them when it is evaluated",
        origin="ours: float16 is enough, and half the size",
    )
    weight_format: WeightFormat = setting(
        "float32",
        "how the Child stores its real weights (stem, classifier, real_parts), and computes with them when evaluated",
        origin="ours: int8 is enough, and a quarter of the size",
    )
    shortcut: bool = setting(
        True, "a real-valued shortcut without parameters around the preprocessing", origin="ours: after Bi-Real Net"
    )

    @model_validator(mode="after")
    def _block_fits_the_channels(self) -> Self:
        self.check_block(self.num_channels)
        return self

    def check_block(self, num_channels: int) -> None:
        """Refuse so many channels in the first cell, if the block cannot work on those of any cell.

        Raises:
          ValueError: see `Block.check`.
        """
        block = registered(BLOCKS, self.block).of(self)
        for doublings in range(3):
            block.check(2**doublings * num_channels)

    @model_validator(mode="after")
    def _stem_reads_every_pixel(self) -> Self:
        if self.stem_stride == 8 and self.stem_convolutions < 3:
            raise ValueError(
                f"network.stem_stride=8 needs three convolutions of stride 2, got network.stem_convolutions="
                f"{self.stem_convolutions}; add --set network.stem_convolutions=3"
            )
        return self

    @model_validator(mode="after")
    def _recu_has_its_latents(self, info: ValidationInfo) -> Self:
        if starts_something(info) and self.recu and self.latents != "standardized":
            raise ValueError(
                f"network.recu needs standardized weights, got network.latents={self.latents}; "
                "add --set network.latents=standardized"
            )
        return self

    def follows_progress(self) -> str | None:
        """The first setting whose gradients change as the training goes on, "network.recu=true"; None: none does."""
        if self.estimator == "error_decay":
            return "network.estimator=error_decay"
        return "network.recu=true" if self.recu else None


class SearchConfig(Section):
    """The search: Algorithm 9, and what other strategies share."""

    strategy: str = setting("cpnas", "how the architecture is searched", names=STRATEGIES, origin="published")
    beta_p: float = setting(
        0.25,
        "weight of the Parent's lead in the indicator; 0: the Child's accuracy alone, which is bnas",
        origin="ours: a small one ranks best where the lead is penalized; 2 is published",
        ge=0,
    )
    indicator: IndicatorName = setting(
        "penalized",
        "whether the Parent's lead over the Child lowers the indicator, or, as (4.15) is printed, raises it",
        origin="ours: as the text around (4.15) argues, and DCP-NAS has it; printed is published",
    )
    num_passes: int = setting(
        1,
        "T, how often every candidate is drawn before one is abandoned",
        unit="passes",
        origin="ours: not published",
        ge=1,
    )
    evaluation: EvaluationName = setting(
        "after_draw",
        "when the draws of a pass are validated: each as soon as it is trained, or all with the weights at the end of "
        "the pass, so that the later ones have no better ones",
        origin="published, in Algorithm 9; after_pass: ours, after FairNAS",
    )
    credit: CreditName = setting(
        "draw",
        "what is known of an operation when one is abandoned: the mean indicator of its draws of the round, or its "
        "effect by least squares over all draws so far",
        origin="published, (4.16); regression: ours",
    )
    performance: PerformanceName = setting(
        "accuracy",
        "what A_C and A_P are in the indicator: the fraction of the validation images classified right, or the mean "
        "probability of the right class, with which few images tell architectures apart",
        origin="published, (4.15); probability: ours, as in fair",
    )
    warmup_epochs: int = setting(
        0,
        "epochs of Child and Parent before the first draw, every step with another architecture; nothing is validated",
        unit="epochs",
        origin="published, which has none; its steps are those of SPOS (arXiv 1904.00420)",
        ge=0,
    )
    scored_passes: int = setting(
        0,
        "passes before those of the first round whose draws are validated and not trained, with the weights of the "
        "warm-up",
        unit="passes",
        origin="published, which has none; scores without training: as in fair",
        ge=0,
    )
    num_left: int = setting(
        1,
        "candidates of every edge at which no more are abandoned one by one: the best whole architecture of them is "
        "chosen, by its own indicator; 1: all but one are abandoned",
        unit="candidates",
        origin="published, which abandons all but one",
        ge=1,
        le=7,
    )
    final_passes: int = setting(
        16,
        "passes of draws of the search.num_left candidates, validated and not trained, the best of which is chosen",
        unit="passes",
        origin="ours: 64 scores where 4 candidates are left",
        ge=1,
    )
    num_cells: int | None = setting(
        None,
        "cells of the shared network; null: network.num_cells",
        unit="cells",
        origin="ours: the network that is trained",
        ge=3,
        le=100,
    )
    num_channels: int | None = setting(
        None,
        "channels of the shared network; null: network.num_channels",
        unit="channels",
        origin="ours: the network that is trained",
        ge=2,
        le=1024,
        multiple_of=2,
    )
    batch_size: int = setting(
        64, "images of a step", unit="images", origin="ours: DARTS's; PC-DARTS has 256 for 25,000 images", ge=2
    )
    optimizer: OptimizerName = setting("sgd", "optimizer of the weights, started afresh for every draw", origin="DARTS")
    learning_rate: float = setting(
        0.05, "learning rate where the cosine over all draws begins", origin="ours: DARTS has 0.025, PC-DARTS 0.1", gt=0
    )
    learning_rate_min: float = setting(
        0.001, "learning rate where the cosine over all draws ends", origin="DARTS", ge=0
    )
    momentum: float = setting(0.9, "momentum of SGD; Adam does without", origin="DARTS", ge=0, lt=1)
    weight_decay: float = setting(3e-4, "weight decay", origin="DARTS", ge=0)
    clip_norm: float = setting(5.0, "largest norm of the gradient; a longer one is shortened", origin="DARTS", gt=0)
    validation_fraction: float = setting(
        0.5, "share of the training images that validates; the rest trains", origin="published: two halves", gt=0, lt=1
    )
    num_calibration_batches: int = setting(
        4,
        "batches of the training part that give batch norm its statistics before each evaluation",
        unit="batches",
        origin="ours: few are enough for a mean and a deviation",
        ge=1,
    )
    random_draw: int = setting(
        0, "which of the seed's random draws the strategy random gives", origin="ours: the first", ge=0
    )
    engine: EngineName = setting(
        "eager",
        "how a draw's steps run; graphs: as CUDA graphs, for cpnas and bnas on an NVIDIA GPU",
        origin="ours: runs everywhere",
    )
    dtype: DtypeName = setting(
        "float32",
        "number format of activations and convolutions; weights are float32 always; bfloat16: mixed precision",
        origin="DARTS",
    )
    max_size: str | None = setting(
        None,
        "largest packed file of the found network, as 64KiB (--max-size); null: any",
        unit="B, kB, KiB, MB, MiB",
        origin="ours: no budget unless it is asked for",
    )
    max_ops: str | None = setting(
        None,
        "most OPs of the found network, FLOPs + BOPs / 64 for one image, as 5M (--max-ops); null: any",
        unit="none, k, M, G",
        origin="ours: no budget unless it is asked for",
    )
    max_latency: str | None = setting(
        None,
        "longest time of the found network for one image, as 2ms: packed, on one thread of this machine "
        "(--max-latency); null: any",
        unit="us, ms, s",
        origin="ours: no budget unless it is asked for",
    )

    @field_validator(*BUDGETS, mode="before")
    @classmethod
    def _is_an_amount(cls, value: Any, info: ValidationInfo) -> Any:
        return None if value is None else BUDGETS[info.field_name or ""].text(value)

    def budgets(self) -> dict[str, str]:
        """{setting: amount} of the budgets that are asked for."""
        asked = {name: getattr(self, name) for name in BUDGETS}
        return {name: amount for name, amount in asked.items() if amount is not None}

    @model_validator(mode="before")
    @classmethod
    def _beta_p_of_the_strategy(cls, values: Any) -> Any:
        """A strategy that fixes beta_P has it without being told."""
        if isinstance(values, dict) and "beta_p" not in values and isinstance(values.get("strategy"), str):
            fixed = fixed_beta_p(values["strategy"])
            return values if fixed is None else {**values, "beta_p": fixed}
        return values

    @model_validator(mode="after")
    def _has_a_beta_p_of_the_strategy(self) -> Self:
        fixed = fixed_beta_p(self.strategy)
        if fixed is not None and self.beta_p != fixed:
            raise ValueError(
                f"search.strategy={self.strategy} is cpnas at beta_P = {fixed:g}, got search.beta_p={self.beta_p:g}; "
                "use --strategy cpnas"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        if starts_something(info):
            check_learning_rates("search", start=self.learning_rate, end=self.learning_rate_min)
        return self
