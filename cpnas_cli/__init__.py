"""Child-Parent architecture search for 1-bit convolutional networks.

`import cpnas_cli as cpnas` gives the names below, each loaded when it is first asked for: the import itself is quick
and needs no torch, and `load` never does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpnas_cli.errors import CpnasError
    from cpnas_cli.library.classifying import Classifier, load
    from cpnas_cli.library.evaluating import Evaluated, evaluate
    from cpnas_cli.library.searching import Found, RunningSearch, search, start_search
    from cpnas_cli.library.training import Trained, train

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

_MODULES = {
    "errors": ("CpnasError",),
    "library.classifying": ("Classifier", "load"),
    "library.evaluating": ("Evaluated", "evaluate"),
    "library.searching": ("Found", "RunningSearch", "search", "start_search"),
    "library.training": ("Trained", "train"),
}
"""Where each name is."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
