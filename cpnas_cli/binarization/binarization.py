"""How a network is made 1-bit, as plain data, and how far its training has come; without torch."""

from dataclasses import dataclass
from typing import NamedTuple

from cpnas_cli.settings import NetworkConfig

CLIPPED, POLYNOMIAL, ERROR_DECAY = ESTIMATORS = ("clipped", "polynomial", "error_decay")
PLAIN, CENTERED, STANDARDIZED = LATENTS = ("plain", "centered", "standardized")
MEAN, LEARNED = SCALES = ("mean", "learned")


class Estimator(NamedTuple):
    """The pseudo-gradient of the sign of activations, at one moment of a training; see `binarize_activation`.

    Attributes:
      name: one of `ESTIMATORS`.
      clip_bound: B, beyond which the gradient is 0; "error_decay" has none.
      progress: the fraction of the training that is done, in [0, 1]; only "error_decay" depends on it.
    """

    name: str = CLIPPED
    clip_bound: float = 1.0
    progress: float = 0.0


@dataclass
class Progress:
    """How far a training has come; all signs and binary convolutions of one network share it.

    It decides pseudo-gradients alone: what a network computes does not depend on it.

    Attributes:
      value: the fraction of the steps that are done, in [0, 1].
    """

    value: float = 0.0


@dataclass(frozen=True)
class Binarization:
    """What is chosen about signs, filters and scales.

    Attributes:
      estimator: of activations, one of `ESTIMATORS`.
      clip_bound: B of "clipped" and "polynomial".
      latents: what the sign of a filter is taken of, one of `LATENTS`; see `filters.prepared`.
      recu: whether the gradient of filters ends at ReCU's quantile; see `filters.recu_factor`.
      scale: one of `SCALES`.
    """

    estimator: str = CLIPPED
    clip_bound: float = 1.0
    latents: str = PLAIN
    recu: bool = False
    scale: str = MEAN

    @staticmethod
    def of(network: NetworkConfig) -> "Binarization":
        return Binarization(
            estimator=network.estimator,
            clip_bound=network.clip_bound,
            latents=network.latents,
            recu=network.recu,
            scale=network.scale,
        )

    def estimator_at(self, progress: Progress) -> Estimator:
        # read only where it counts: torch.compile compiles anew for every number that a network reads
        value = progress.value if self.estimator == ERROR_DECAY else 0.0
        return Estimator(self.estimator, self.clip_bound, value)
