"""No connection."""

from typing import TYPE_CHECKING

from cpnas_cli.networks.blocks.base import EdgeShape
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.operations.base import Family, Look, Operation

if TYPE_CHECKING:
    from torch import nn


class NoOperation(Operation):
    """An edge that adds nothing to its node: it has no module and no layers, and is not drawn in a picture."""

    @property
    def family(self) -> Family:
        return "none"

    @property
    def look(self) -> Look:
        return Look("none", "no connection", style="dim", colour="#bdbdbd", width=0.0)

    def build(self, edge: EdgeShape) -> "nn.Module":  # noqa: ARG002  # as of every operation
        raise ValueError(f"{self.name!r} has no module to build")

    def layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:  # noqa: ARG002
        return ()


NONE = NoOperation("none", short="none", label="none")
