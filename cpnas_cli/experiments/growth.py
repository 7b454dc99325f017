"""How an experiment grows: a command names more values of what it varies than there are in its folder.

Its members are all combinations, so those that are there stay where no value is left out.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpnas_cli.errors import CpnasError, RunError
from cpnas_cli.experiments.member_runs import DAMAGES
from cpnas_cli.experiments.plan import ExperimentFolder, Member, Plan
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import differing_settings
from cpnas_cli.storage.documents import read_document, write_json


@dataclass(frozen=True)
class Factor:
    """What an experiment varies, and the option that names the values.

    Attributes:
      name: in words ("seeds"). option: "--seeds". values: in the order of the tables.
      words, typed: the values as a message says them, and as the option takes them.
    """

    name: str
    option: str
    values: tuple[str, ...]
    words: Callable[[Sequence[str]], str] = field(default=",".join, compare=False)
    typed: Callable[[Sequence[str]], str] = field(default=",".join, compare=False)


def factors_of(plan: Plan) -> tuple[Factor, ...]:
    """What tells its members apart."""
    seeds = Factor("seeds", "--seeds", tuple(map(str, plan.seeds)))
    if plan.kind == "ablation":
        return Factor("betas", "--betas", plan.betas), Factor("indicators", "--indicators", plan.indicators), seeds
    draws = tuple(map(str, range(plan.random_draws))) if plan.has_several_per_seed else ()
    return (
        Factor("strategies", "--strategies", plan.groups),
        seeds,
        Factor("random draws", "--random-draws", draws, words=_number_of, typed=_number_of),
    )


def _number_of(values: Sequence[str]) -> str:
    return str(len(values))


def difference(there: Plan, now: Plan) -> str | None:
    """What makes two plans two experiments whatever they vary, in words; None if one can grow into the other."""
    if there.kind != now.kind:
        return f"kind: {there.kind} there, {now.kind} now"
    own = {"seed", "search.indicator"} if now.kind == "ablation" else {"seed"}
    return next(iter(differing_settings(there.config, now.config, but=own)), None)


def left_out(there: Sequence[Factor], now: Sequence[Factor]) -> str | None:
    """The first values that are there and not in the command, and what to type so that all are; None: all are."""
    mine = {factor.option: factor for factor in now}
    lacking = [factor for factor in there if not set(factor.values) <= set(mine[factor.option].values)]
    if not lacking:
        return None
    first = lacking[0]
    words = f"{first.name}: {first.words(first.values)} there, {first.words(mine[first.option].values)} now"
    options = " ".join(
        f"{factor.option} {factor.typed(tuple(dict.fromkeys((*factor.values, *mine[factor.option].values))))}"
        for factor in lacking
    )
    return f"holds more than this command asks for ({words}); type {options}, or choose another --out"


def refusal(there: Plan, now: Plan) -> str | None:
    """Why the experiment in a folder is not one that this plan goes on with or makes larger; None if it is."""
    other = difference(there, now)
    if other:
        return f"holds another experiment ({other}); choose another --out"
    return left_out(factors_of(there), factors_of(now))


def added_words(num_there: int, num_now: int, place: ExperimentFolder) -> str:
    """ "adds 6 members to the 9 of runs/x"."""
    added = num_now - num_there
    return f"adds {added} {'member' if added == 1 else 'members'} to the {num_there} of {place.path}"


# ---------------------------------------------------------------- an ablation of one indicator becomes one of both


def names_now(there: Plan, now: Plan) -> dict[str, str]:
    """{name of a member there: its name now}: that of an ablation begins with its indicator where it has several."""
    renamed = {former for _, former in _with_former_names(now)}
    return {
        member.name: f"{member.config.search.indicator}-{member.name}" if member.name in renamed else member.name
        for member in there.members
    }


def rename_members(place: ExperimentFolder, plan: Plan) -> None:
    """Give the runs of an ablation that had one indicator the names that they have among several.

    A run is known by its settings. What was interrupted here is finished when it is called again.

    Raises:
      RunError: a folder cannot be renamed.
    """
    for member, former in _with_former_names(plan):
        for run_of in (place.search, place.training):
            before, now = run_of(former), run_of(member.name)
            if not before.path.is_dir() or now.path.exists() or not _is_of(before, member):
                continue
            try:
                _rename_origin(before, member)
                before.path.rename(now.path)
            except OSError as error:
                raise RunError(f"cannot rename {before.path}: {error.strerror or error}") from error


def _with_former_names(plan: Plan) -> Iterator[tuple[Member, str]]:
    for member in plan.members:
        indicator, _, _ = member.group.rpartition(" ")
        if plan.kind == "ablation" and indicator:
            yield member, member.name.removeprefix(f"{indicator}-")


def _is_of(run: RunFolder, member: Member) -> bool:
    try:
        return not differing_settings(run.config(), member.config)
    except DAMAGES:
        return False


def _rename_origin(run: RunFolder, member: Member) -> None:
    """Whom it went on from had the same indicator, and is renamed too."""
    file, prefix = run.file(RunFolder.BRANCH), f"{member.config.search.indicator}-"
    branch: dict[str, Any] = {}
    with contextlib.suppress(CpnasError):  # a damaged one is named where it is read
        branch = read_document(file) if file.exists() else {}
    origin = branch.get("from")
    if isinstance(origin, str) and not origin.startswith(prefix):
        write_json(file, {**branch, "from": prefix + origin})
