"""The live table of an experiment, on standard error: a row per group, a column per seed. Else plain lines."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cpnas_cli.cli.render.runs import group_cells, group_titles, percent
from cpnas_cli.cli.views.members import STYLES, MembersView

if TYPE_CHECKING:
    from cpnas_cli.experiments.plan import Member, Plan
    from cpnas_cli.experiments.schedule import Progress, Schedule


class ExperimentView(MembersView):
    """Shows where every member stands; what it knows is what lies in the members' folders."""

    def __init__(self, plan: "Plan") -> None:
        super().__init__()
        self.plan = plan
        self._accuracies: dict[str, float] = {}

    def watch(self, schedule: "Schedule") -> None:
        self._progress = dict(schedule.read_progress())
        for member in self.plan.members:
            state = self._progress[member.name]
            if state.accuracy_test is not None:
                self._accuracies[member.name] = state.accuracy_test
            if self._phases.get(member.name) != state.phase:
                self._phases[member.name] = state.phase
                self._line(member, state)

    def _line(self, member: "Member", state: "Progress") -> None:
        if self.live is not None or state.phase == "waiting":
            return
        finished = sum(phase == "finished" for phase in self._phases.values())
        more = {
            "following": f" {state.leader}",
            "finished": f", test accuracy {percent(self._accuracies.get(member.name))}",
        }.get(state.phase, "")
        self.say(f"{finished}/{len(self.plan.members)}  {member.name}: {state.phase}{more}")

    def render(self) -> Group:
        finished = sum(state.phase == "finished" for state in self._progress.values())
        failed = sum(state.phase == "failed" for state in self._progress.values())
        title = f"{finished} of {len(self.plan.members)} members finished" + (f", {failed} failed" if failed else "")
        table = Table()
        for name in group_titles(self.plan.kind, self.plan.groups):
            table.add_column(name, no_wrap=True)
        for seed in self.plan.seeds:
            table.add_column(f"seed {seed}", no_wrap=True)
        for group in self.plan.groups:
            cells = group_cells(self.plan.kind, group)
            table.add_row(*cells, *(self._cell(group, seed) for seed in self.plan.seeds))
        return Group(Text(title, style="bold"), table)

    def _cell(self, group: str, seed: int) -> Text:
        members = [member for member in self.plan.members if (member.group, member.seed) == (group, seed)]
        states = [self._progress[member.name] for member in members if member.name in self._progress]
        if len(members) > 1:
            return self._cell_of_several(members, states)
        if not states:
            return Text("")
        (state,), (member,) = states, members
        words = {
            "waiting": "-",
            "following": f"= {state.leader}",
            "searching": f"search {state.done}/{state.total}",
            "training": f"train {state.done}/{state.total}",
            "finished": percent(self._accuracies.get(member.name)),
            "failed": "failed",
        }
        return Text(words[state.phase], style=STYLES.get(state.phase, "dim"))

    def _cell_of_several(self, members: "list[Member]", states: "list[Progress]") -> Text:
        done = [self._accuracies[member.name] for member in members if member.name in self._accuracies]
        running = [state for state in states if state.phase in ("searching", "training")]
        text = Text(f"{len(done)}/{len(members)}", style="green" if len(done) == len(members) else "dim")
        if done:
            text.append(f"  {percent(sum(done) / len(done))}", style="green")
        for state in running:
            text.append(f"  {state.phase.removesuffix('ing')} {state.done}/{state.total}", style=STYLES[state.phase])
        if failed := sum(state.phase == "failed" for state in states):
            text.append(f"  {failed} failed", style=STYLES["failed"])
        return text
