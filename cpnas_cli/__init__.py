"""Child-Parent architecture search for 1-bit convolutional networks.

`import cpnas_cli as cpnas` gives the names of `cpnas_cli.library`, each loaded when it is first asked for, so that the
import itself is quick and needs no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpnas_cli.library import (
        Classifier,
        CpnasError,
        Evaluated,
        Found,
        RunningSearch,
        Trained,
        evaluate,
        load,
        search,
        start_search,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "CpnasError",
    "Evaluated",
    "Found",
    "RunningSearch",
    "Trained",
    "__version__",
    "evaluate",
    "load",
    "search",
    "start_search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cpnas_cli import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
