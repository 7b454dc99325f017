"""Where the constants of a program lie, and its regions of working memory."""

from dataclasses import dataclass, field

import numpy as np

from cpnas_cli.deploy.engine.layout import LANES, whole_vectors


@dataclass
class Constants:
    """Growing constants of one type; every entry starts at a whole vector."""

    dtype: type
    parts: list[np.ndarray] = field(default_factory=list)
    size: int = 0

    def add(self, values: np.ndarray) -> int:
        flat = np.zeros(whole_vectors(max(values.size, 1)), self.dtype)
        flat[: values.size] = values.ravel()
        self.parts.append(flat)
        self.size += flat.size
        return self.size - flat.size

    def array(self) -> np.ndarray:
        # vectors are read whole: there must be room behind the last entry
        return np.concatenate([*self.parts, np.zeros(4 * LANES, self.dtype)])


@dataclass
class Memory:
    """The plan of one kind of working memory: regions by name and size, one after the other."""

    offsets: dict[tuple[object, int], int] = field(default_factory=dict)
    size: int = 0

    def region(self, name: object, size: int) -> int:
        """Its offset. The same name and size is the same region, so that cells share what they need in turn."""
        if (name, size) not in self.offsets:
            self.offsets[name, size] = self.size
            # vectors are read and written whole: there must be room behind the last element
            self.size += whole_vectors(size) + 4 * LANES
        return self.offsets[name, size]
