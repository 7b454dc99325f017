"""Which networks a training trains, and in which order; torch is not needed to know it."""

from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.settings import Config


def needs_own_parent(config: Config, networks: tuple[NetworkName, ...]) -> bool:
    """Whether the Parent of the run itself is the teacher: a Child wants soft targets, and nothing else gives them."""
    return "child" in networks and config.train.teacher_weight > 0 and config.train.teacher is None


def trained_networks(config: Config, networks: tuple[NetworkName, ...]) -> tuple[NetworkName, ...]:
    """The networks that are trained, the one that was asked for first; a Parent that teaches is one of them."""
    if needs_own_parent(config, networks) and "parent" not in networks:
        return (*networks, "parent")
    return networks


def order_of_training(config: Config, networks: tuple[NetworkName, ...]) -> tuple[NetworkName, ...]:
    """The same networks, a Parent that teaches before all others."""
    if not needs_own_parent(config, networks):
        return networks
    return ("parent", *(name for name in networks if name != "parent"))
