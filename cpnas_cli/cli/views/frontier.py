"""The live table of a frontier, on standard error: a row per network and width, a column per seed. Else plain lines."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cpnas_cli.cli.render.runs import percent
from cpnas_cli.cli.views.members import STYLES, MembersView

if TYPE_CHECKING:
    from cpnas_cli.experiments.frontier.plan import FrontierMember, FrontierPlan
    from cpnas_cli.experiments.frontier.schedule import FrontierSchedule
    from cpnas_cli.experiments.schedule import Progress

ROWS = {"search": "search", "genotype": "Child and Parent, width {:g}", "cnn": "CNN of {:g} channels"}


class FrontierView(MembersView):
    """Shows where every member stands; what it knows is what lies in the members' folders."""

    def __init__(self, plan: "FrontierPlan") -> None:
        super().__init__()
        self.plan = plan

    def watch(self, schedule: "FrontierSchedule") -> None:
        self._progress = dict(schedule.read_progress())
        for member in self.plan.members:
            state = self._progress[member.name]
            if self._phases.get(member.name) != state.phase:
                self._phases[member.name] = state.phase
                self._line(member, state)

    def _line(self, member: "FrontierMember", state: "Progress") -> None:
        if self.live is not None or state.phase == "waiting":
            return
        finished = sum(phase == "finished" for phase in self._phases.values())
        accuracy = "" if state.accuracy_test is None else f", test accuracy {percent(state.accuracy_test)}"
        self.say(f"{finished}/{len(self.plan.members)}  {member.name}: {state.phase}{accuracy}")

    def render(self) -> Group:
        phases = [state.phase for state in self._progress.values()]
        failed = phases.count("failed")
        title = f"{phases.count('finished')} of {len(self.plan.members)} members finished"
        table = Table()
        table.add_column("networks", no_wrap=True)
        for seed in self.plan.seeds:
            table.add_column(f"seed {seed}", no_wrap=True)
        for row in dict.fromkeys((member.part, member.width) for member in self.plan.members):
            of_row = {member.seed: member for member in self.plan.members if (member.part, member.width) == row}
            cells = [self._cell(of_row[seed]) if seed in of_row else Text("") for seed in self.plan.seeds]
            table.add_row(ROWS[row[0]].format(row[1]), *cells)
        return Group(Text(title + (f", {failed} failed" if failed else ""), style="bold"), table)

    def _cell(self, member: "FrontierMember") -> Text:
        state = self._progress.get(member.name)
        if state is None:
            return Text("")
        words = {
            "waiting": "-",
            "searching": f"search {state.done}/{state.total}",
            "training": f"train {state.done}/{state.total}",
            "finished": "found" if state.accuracy_test is None else percent(state.accuracy_test),
            "failed": "failed",
        }
        return Text(words[state.phase], style=STYLES.get(state.phase, "dim"))
