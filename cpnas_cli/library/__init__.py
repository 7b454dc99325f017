"""`import cpnas_cli as cpnas`: what the commands do, from Python; every name here is one of the package's own.

Each function takes paths and plain values, and gives a frozen result that shows itself in a notebook. What can be
typed wrongly raises a `CpnasError`, whose text is the line that a command would print.
"""

from cpnas_cli.errors import CpnasError
from cpnas_cli.library.classifying import Classifier, load
from cpnas_cli.library.evaluating import Evaluated, evaluate
from cpnas_cli.library.searching import Found, RunningSearch, search, start_search
from cpnas_cli.library.training import Trained, train

__all__ = [
    "Classifier",
    "CpnasError",
    "Evaluated",
    "Found",
    "RunningSearch",
    "Trained",
    "evaluate",
    "load",
    "search",
    "start_search",
    "train",
]
