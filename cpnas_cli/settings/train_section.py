"""The section `train`: the training of the final network."""

from typing import Literal, Self

from pydantic import ValidationInfo, model_validator

from cpnas_cli.settings.fields import Section, check_first_epochs, check_learning_rates, setting, starts_something
from cpnas_cli.settings.sections import DtypeName, OptimizerName

ScheduleName = Literal["cosine", "linear"]
ClassWeightsName = Literal["none", "balanced"]


class TrainConfig(Section):
    """The training of the final network, with (4.17) and (4.18)."""

    num_epochs: int = setting(
        40, "epochs of each network", unit="epochs", origin="ours: for digits; DARTS has 600 for CIFAR-10", ge=1
    )
    batch_size: int = setting(
        64, "images of a step, over all processes", unit="images", origin="ours: DARTS has 96 for CIFAR-10", ge=2
    )
    optimizer: OptimizerName = setting(
        "adam", "optimizer of the weights", origin="ours: no weight decay on latent weights"
    )
    learning_rate: float = setting(
        0.005,
        "learning rate where the schedule begins",
        origin="ours: chosen on held-out training images of digits",
        gt=0,
    )
    learning_rate_min: float = setting(0.0, "learning rate where the schedule ends", origin="DARTS", ge=0)
    schedule: ScheduleName = setting(
        "cosine",
        "how the learning rate falls to train.learning_rate_min; linear: as AdamBNN (arXiv 2106.11309)",
        origin="DARTS",
    )
    warmup_epochs: int = setting(
        0,
        "first epochs, in which the learning rate rises to where the schedule begins; of each stage",
        unit="epochs",
        origin="ours: none; Goyal et al. have 5 (arXiv 1706.02677)",
        ge=0,
    )
    first_stage_epochs: int = setting(
        0,
        "first of train.num_epochs, in which the Child has 1-bit activations and real weights; 0: both 1-bit from the "
        "first epoch; the second stage starts with an optimizer and a schedule of its own",
        unit="epochs",
        origin="ours: one stage, as published; two are ReActNet's and AdamBNN's (arXiv 2106.11309)",
        ge=0,
    )
    momentum: float = setting(0.9, "momentum of SGD; Adam does without", origin="DARTS", ge=0, lt=1)
    weight_decay: float = setting(
        0.0,
        "weight decay, but of latent filters and of a first stage, which have their own",
        origin="ours: a latent weight matters by its sign",
        ge=0,
    )
    latent_weight_decay: float | None = setting(
        None,
        "weight decay of the Child's latent filters; null: train.weight_decay",
        origin="ours: as all others; AdamBNN has 0 (arXiv 2106.11309)",
        ge=0,
    )
    first_stage_weight_decay: float = setting(
        0.0,
        "weight decay of everything in the first stage",
        origin="ours: none; AdamBNN has 5e-6 to 1e-5 (arXiv 2106.11309)",
        ge=0,
    )
    clip_norm: float = setting(5.0, "largest norm of the gradient; a longer one is shortened", origin="DARTS", gt=0)
    label_smoothing: float = setting(
        0.0,
        "label smoothing of the cross-entropy",
        origin="ours: none; Szegedy et al. have 0.1 (arXiv 1512.00567)",
        ge=0,
        lt=1,
    )
    class_weights: ClassWeightsName = setting(
        "none",
        "weights of the images by their class, in cross-entropies and soft targets; balanced: inversely to how many "
        "training images the class has, with a mean of 1; the shared networks of a search do without",
        origin="ours: every image counts the same; balanced is scikit-learn's, for classes of unequal size",
    )
    init_from: str | None = setting(
        None,
        "folder of a training of the same network, or its model.safetensors, with whose weights this one begins "
        "(--init-from); a classifier of other classes is fresh; null: its own draw",
        origin="ours: where a run lies differs",
    )
    teacher_weight: float = setting(
        0.0,
        "share of the teacher's soft targets in the Child's loss, the labels have the rest; above 0 without "
        "train.teacher the Parent is trained first and is the teacher; 0: no teacher",
        origin="ours: none; ReActNet has soft targets alone, which is 1 (arXiv 2003.03488)",
        ge=0,
        le=1,
    )
    teacher_temperature: float = setting(
        1.0,
        "what the scores are divided by before the softmax of soft targets",
        origin="ours: as ReActNet (arXiv 2003.03488); Hinton et al. (arXiv 1503.02531) have more",
        gt=0,
    )
    teacher: str | None = setting(
        None,
        "folder of a training, or its model.safetensors, that teaches the Child (--teacher); of a folder with a Parent "
        "the Parent; null: the Parent of the same run",
        origin="ours: where a run lies differs",
    )
    auxiliary_weight: float = setting(
        0.0,
        "weight of the cross-entropy of an auxiliary head behind the second reduction cell, in training only; "
        "0: without it",
        origin="ours: none; DARTS has 0.4",
        ge=0,
    )
    drop_path: float = setting(
        0.0,
        "probability, at the end of training, that an edge is dropped for an image; it rises linearly from 0; "
        "identities are never dropped",
        origin="ours: none; DARTS has 0.2",
        ge=0,
        lt=1,
    )
    mixup: float = setting(
        0.0,
        "alpha of the Beta distribution by which two images of a batch are blended; 0: none",
        origin="ours: none; Zhang et al. (arXiv 1710.09412) have 0.1 to 1",
        ge=0,
    )
    cutmix: float = setting(
        0.0,
        "alpha of the Beta distribution by which a box of another image of the batch replaces that of an image; "
        "0: none; with train.mixup one of the two for each batch, by a fair coin",
        origin="ours: none; Yun et al. (arXiv 1905.04899) have 1",
        ge=0,
    )
    ema_decay: float = setting(
        0.0,
        "decay of the moving average over the steps of weights and statistics, which is what is evaluated and saved; "
        "0: without it",
        origin="ours: none; EfficientNet has 0.9999 (arXiv 1905.11946)",
        ge=0,
        lt=1,
    )
    kernel_weight: float = setting(
        0.001,
        "weight of the first term of (4.17), the kernels' error; 0: without it",
        origin="ours: at the published 1 the latent weights settle before their signs are learnt",
        ge=0,
    )
    lambda_compactness: float = setting(
        1e-5,
        "lambda of (4.17), the weight of (4.18); 0: without it",
        origin="ours: lambda is not published",
        ge=0,
    )
    class_mean_rate: float = setting(
        0.5,
        "rate at which the running means of the classes follow a batch",
        origin="ours: the center loss has 0.5",
        gt=0,
        le=1,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "parts in which a batch goes through, each with batch statistics of its own",
        unit="parts",
        origin="ours: a batch goes through at once",
        ge=1,
    )
    dtype: DtypeName = setting(
        "float32",
        "number format of activations and convolutions; weights are float32 always; bfloat16: mixed precision",
        origin="DARTS",
    )
    compile: bool = setting(
        False,
        "whether torch.compile compiles the network, which takes minutes before the first step",
        origin="ours: short trainings lose by it",
    )

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        if starts_something(info):
            why = "the learning rate never falls"
            check_first_epochs("train", "warmup_epochs", self.warmup_epochs, self.num_epochs, why=why)
            check_learning_rates("train", start=self.learning_rate, end=self.learning_rate_min)
            self._check_stages()
            if self.teacher is not None and self.teacher_weight == 0:
                raise ValueError(
                    "train.teacher (--teacher) has no effect at train.teacher_weight=0; add --set "
                    "train.teacher_weight=0.5, or another share, or leave the teacher out"
                )
        return self

    def _check_stages(self) -> None:
        first = self.first_stage_epochs
        why = "the weights never become 1-bit"
        check_first_epochs("train", "first_stage_epochs", first, self.num_epochs, why=why)
        shorter = min(first, self.num_epochs - first)
        if first > 0 and self.warmup_epochs >= shorter:
            raise ValueError(
                f"train.warmup_epochs={self.warmup_epochs} must be below the {shorter} epochs of the shorter stage "
                f"(train.first_stage_epochs={first} of train.num_epochs={self.num_epochs}), or the learning rate never "
                f"falls; add --set train.warmup_epochs={shorter // 2}"
            )

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"train.batch_size={self.batch_size} does not go through in {self.gradient_accumulation_steps} equal "
                "parts; choose a train.gradient_accumulation_steps that divides it"
            )
        if self.batch_size == self.gradient_accumulation_steps:
            raise ValueError(
                "train.gradient_accumulation_steps leaves one image at a time, which has no batch statistics; "
                f"at most {self.batch_size // 2}"
            )
        return self
