"""The searches of an experiment as a tree: each stretch that several members share is searched once.

Members whose strategy lets them share their searches (equal `sharing_key`) follow one leader until their
decisions differ; then those that differ branch off the leader's checkpoint and lead their own followers.
Where the tree stands is read from the folders alone, so that an experiment can be stopped anywhere and go on.
"""

import time
from collections.abc import Mapping, Sequence

from cpnas_cli.errors import CpnasError
from cpnas_cli.experiments.member_runs import DAMAGES
from cpnas_cli.experiments.plan import ExperimentFolder, Member
from cpnas_cli.experiments.tasks import Circumstances, SearchTask
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.lock import locked
from cpnas_cli.strategies.base import Rereading

BRANCH_SECONDS = 3.0
"""How long planning waits, for all members together, for folders that workers of a lost node still hold.

The experiment stands still meanwhile. The task of a member that could not branch waits longer, beside the others.
"""


def has_genotype(folder: ExperimentFolder, member: Member) -> bool:
    return folder.search(member.name).file(RunFolder.GENOTYPE).exists()


def has_started(folder: ExperimentFolder, member: Member) -> bool:
    return folder.search(member.name).checkpoint.exists()


def plan_searches(
    members: Sequence[Member],
    *,
    circumstances: Circumstances,
    given_up: Sequence[Member] = (),
) -> list[SearchTask]:
    """The searches to run next so that all these members, of one seed, get their genotypes.

    Members that have not started are placed: behind a member whose decisions were theirs so far, or
    on a branch of one from which they part just there (its checkpoint is copied), or, where neither
    is possible, behind the first of themselves.

    Args:
      given_up: members that failed; they lead nobody, but what they have searched can be branched.
    """
    folder = ExperimentFolder(circumstances.folder)
    started = [member for member in members if has_started(folder, member)]
    waiting = [member for member in members if member not in started and not has_genotype(folder, member)]
    # who trains the most leads: another one can read what it needs in a history that knows more, but not the reverse
    waiting.sort(key=lambda member: -member.strategy.num_networks(member.config))
    followers: dict[str, list[Member]] = {
        member.name: [] for member in started if member not in given_up and not has_genotype(folder, member)
    }
    histories = {member.name: _usable_history(folder, member) for member in started if waiting}
    roots: list[Member] = []
    until = time.monotonic() + BRANCH_SECONDS
    for member in waiting:
        if member in given_up:
            continue
        source, rereading = _nearest(member, histories)
        if source in followers and rereading is not None and rereading.agrees:
            followers[source].append(member)
            continue
        seconds_left = max(until - time.monotonic(), 0.0)
        if rereading is not None and _branches(folder, source, member, rereading, circumstances, seconds_left):
            histories[member.name] = _usable_history(folder, member)
            if not has_genotype(folder, member):
                followers[member.name] = []
        elif roots:
            followers[roots[0].name].append(member)
        else:
            roots.append(member)
            followers[member.name] = []
    by_name = {member.name: member for member in members}
    return [SearchTask(circumstances, by_name[name], tuple(behind)) for name, behind in followers.items()]


def _branches(
    folder: ExperimentFolder,
    source: str,
    member: Member,
    rereading: Rereading,
    circumstances: Circumstances,
    wait_seconds: float,
) -> bool:
    """Whether the member has started, from the source; if not, it searches like one that found nobody to go on from.

    What a worker that was left behind has committed meanwhile stays: the member goes on from that.
    """
    target = folder.search(member.name)
    try:
        target.path.mkdir(parents=True, exist_ok=True)
        with locked(target.path, command=circumstances.command, wait_seconds=wait_seconds):
            if has_started(folder, member):
                return True
            member.strategy.branch(folder.search(source), target, rereading)
    except (CpnasError, OSError):  # the checkpoint is gone or damaged, or the folder cannot be used
        return False
    return True


def _usable_history(folder: ExperimentFolder, member: Member) -> list[dict[str, object]]:
    """Empty where it is damaged, and its own search says what is wrong; nobody goes on from an empty one."""
    try:
        history = member.strategy.saved_history(folder.search(member.name))
        member.strategy.reread(history, member.config)  # JSON that is no record shows here
    except DAMAGES:
        return []
    return history


def _nearest(member: Member, histories: Mapping[str, Sequence[Mapping[str, object]]]) -> tuple[str, Rereading | None]:
    """The member that has searched furthest of those that this one can follow or branch off.

    Of equally far ones one that it can follow: it has parted from the others in the same way.
    """
    best: tuple[str, Rereading | None] = ("", None)
    furthest = (0, False)
    for name, history in histories.items():
        if not history:  # a damaged one says nothing of the checkpoint beside it
            continue
        rereading = member.strategy.reread(history, member.config)
        if rereading is not None and (len(history), rereading.agrees) > furthest:
            best, furthest = (name, rereading), (len(history), rereading.agrees)
    return best
