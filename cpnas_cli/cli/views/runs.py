"""The live view of a search and of a training, on standard error; plain lines without a terminal.

A view is fed with the records of the run's history, so it shows what is written and nothing else.
"""

import statistics
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cpnas_cli.cli.render.runs import percent
from cpnas_cli.cli.styled_console import StyledConsole
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.runs.deadline import duration
from cpnas_cli.runs.time_left import TimeLeft
from cpnas_cli.search_space import CELL_KINDS, EDGES, OPERATIONS
from cpnas_cli.settings import Config
from cpnas_cli.strategies.time_left import SearchTimeLeft


def search_view(
    config: Config, *, num_images: int
) -> "SearchView | SearchEpochsView | SearchTrainingsView | SearchScoresView | NoView":
    """How a search of these settings is shown; its strategy says it.

    Args:
      num_images: training images of the data set.
    """
    time_left = SearchTimeLeft(config, num_images=num_images)
    match time_left.strategy.view:
        case "rounds":
            return SearchView(config, time_left)
        case "epochs":
            return SearchEpochsView(time_left, total=time_left.strategy.num_units(config))
        case "trainings":
            return SearchTrainingsView(config, time_left)
        case "scores":
            return SearchScoresView(config, time_left)
        case None:
            return NoView()


class _View:
    """A Rich live display where standard error is a terminal, else plain lines; nothing with a quiet console.

    Attributes:
      total, done: units of the run.
    """

    def __init__(self, time_left: TimeLeft, *, total: int) -> None:
        self.console = StyledConsole(stderr=True)
        self.live: Live | None = None
        self.time_left, self.total, self.done = time_left, total, 0

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.console.quiet:
            self.live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4)
            self.live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def line(self, text: str) -> None:
        """A plain line, only where nothing live is shown."""
        if self.live is None:
            self.console.print(text, highlight=False, soft_wrap=True)

    def render(self) -> Any:
        raise RuntimeError("each view draws itself")

    def _left(self) -> str:
        seconds = self.time_left.seconds
        return "-" if seconds is None else duration(seconds)


class NoView:
    """Of a search that is done at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def notify(self, record: Mapping[str, Any]) -> None: ...


class SearchView(_View):
    """A search in rounds: how far it is, the draw that is the best so far, the trend, and what leads on every edge.

    Attributes:
      best: number of the draw, accuracy of its Child and of its Parent. children: accuracies, in the order of draws.
    """

    def __init__(self, config: Config, time_left: SearchTimeLeft) -> None:
        self.strategy = time_left.strategy
        self.num_warmed_up, self.warmup_epochs = 0, self.strategy.warmup_epochs(config)
        super().__init__(time_left, total=self.strategy.num_units(config))
        self.search_left = time_left
        self.settings = config.search
        self.num_rounds = len(OPERATIONS) - max(config.search.num_left - 1, 1)
        self.last_network = "parent" if self.strategy.num_networks(config) > 1 else "child"
        self.num_candidates, self.pass_index = len(OPERATIONS), 0
        self.training = "child"
        self.child: float | None = None
        self.parent: float | None = None
        self.best: tuple[int, float, float | None] | None = None
        self.children: list[float] = []
        self.alive: dict[str, list[tuple[str, ...]]] = {kind: [OPERATIONS] * len(EDGES) for kind in CELL_KINDS}
        self.evaluation: dict[str, list[dict[str, float]]] = {kind: [{} for _ in EDGES] for kind in self.alive}

    def notify(self, record: Mapping[str, Any]) -> None:
        self.search_left.notify(record)
        match record["event"]:
            case "progress":
                self.training = record["network"]
                self.child = record.get("accuracy_child", self.child)
            case "epoch":
                self._warm_up(record)
            case "draw":
                self._draw(record)
            case "pass":
                self._pass(record)
            case "abandon":
                self._abandon(record)
                if not record.get("resumed"):
                    self.line(f"one operation abandoned on every edge, {record['num_candidates'] - 1} left")
            case "choice":
                self._choice(record)
                if not record.get("resumed"):
                    self.line(f"the best of {self.settings.final_passes} passes chosen, z {record['z']:.4f}")

    def _warm_up(self, record: Mapping[str, Any]) -> None:
        self.num_warmed_up += record["network"] == self.last_network
        if not record.get("resumed"):
            self.line(
                f"warm-up {record['epoch'] + 1}/{self.warmup_epochs}  {record['network']}  loss {record['loss']:.4f}  "
                f"accuracy {percent(record['accuracy_train'])}  {record['seconds']:.1f} s  left {self._left()}"
            )

    def _draw(self, record: Mapping[str, Any]) -> None:
        self.done += 1
        self.num_candidates, self.pass_index = record["num_candidates"], record["pass"]
        if record["z"] is not None:
            self.child, self.parent = record["accuracy_child"], record["accuracy_parent"]
            self._validated(record["accuracy_child"], self.parent)
        if record.get("resumed"):
            return
        found = "validated with its pass"
        if record["z"] is not None:
            parent = "" if self.parent is None else f"  Parent {percent(self.parent)}"
            found = f"Child {percent(self.child)}{parent}  z {record['z']:.4f}"
        self.line(
            f"draw {self.done}/{self.total}  {self.num_candidates} candidates  {self._pass_text()}  {found}  "
            f"{record['seconds']:.1f} s  left {self._left()}"
        )

    def _pass_text(self) -> str:
        """Which pass of the round; before the first round, and where whole architectures are compared, of scores."""
        settings, scored = self.settings, 0
        if self.num_candidates == len(OPERATIONS):
            scored = settings.scored_passes
        elif self.num_candidates == settings.num_left:
            scored = settings.final_passes
        if self.pass_index < scored:
            return f"scored pass {self.pass_index + 1}/{scored}"
        return f"pass {min(self.pass_index - scored + 1, settings.num_passes)}/{settings.num_passes}"

    def _validated(self, child: float, parent: float | None) -> None:
        self.children.append(child)
        if self.best is None or child > self.best[1]:
            self.best = len(self.children), child, parent

    def _pass(self, record: Mapping[str, Any]) -> None:
        """All draws of a pass, validated together; shown are their means."""
        parents = record["accuracy_parent"] or [None] * len(record["accuracy_child"])
        for child, parent in zip(record["accuracy_child"], parents, strict=True):
            self._validated(child, parent)
        self.child, self.parent = (
            statistics.fmean(record[key]) if record[key] else None for key in ("accuracy_child", "accuracy_parent")
        )
        if not record.get("resumed"):
            parent = "" if self.parent is None else f"  Parent {percent(self.parent)}"
            self.line(
                f"{self._pass_text()}  {record['num_candidates']} candidates  on average "
                f"Child {percent(self.child)}{parent}  {record['seconds']:.1f} s"
            )

    def _abandon(self, record: Mapping[str, Any]) -> None:
        self.num_candidates = record["num_candidates"] - 1
        for kind in self.alive:
            for index, edge in enumerate(record[kind]):
                self.evaluation[kind][index] = edge["evaluation"]
                self.alive[kind][index] = tuple(op for op in edge["evaluation"] if op != edge["abandoned"])

    def _choice(self, record: Mapping[str, Any]) -> None:
        self.num_candidates = 1
        for kind in self.alive:
            self.alive[kind] = [(op,) for op in record[kind]]

    def render(self) -> Group:
        status, total = Table.grid(padding=(0, 2)), self.warmup_epochs + self.total
        where = [f"warm-up {self.num_warmed_up}/{self.warmup_epochs}"]
        if self.num_warmed_up == self.warmup_epochs:
            where = [
                f"round {min(len(OPERATIONS) + 1 - self.num_candidates, self.num_rounds)}/{self.num_rounds}",
                self._pass_text(),
                f"draw {self.done}/{self.total}",
            ]
        progress = ProgressBar(total=total, completed=self.num_warmed_up + self.done, width=20)
        status.add_row(*where, progress, f"left {self._left()}")
        accuracies = Table.grid(padding=(0, 2))
        doing = f"training the {self.training}" if self.done < self.total else "done"
        accuracies.add_row(f"Child {percent(self.child)}", f"Parent {percent(self.parent)}", Text(doing, style="dim"))
        rows: list[RenderableType] = [status, accuracies]
        if self.best is not None:
            draw, child, parent = self.best
            its_parent = "" if parent is None else f", its Parent {percent(parent)}"
            rows.append(Text(f"best Child {percent(child)}{its_parent}, in draw {draw}"))
        if len(self.children) > 1:
            rows.append(Text(f"Child by draw  {trend(self.children, width=self.console.width - 16)}"))
        return Group(*rows, *self._candidates())

    def _candidates(self) -> list[Text]:
        """On how many edges each operation is gone, and what leads on every edge; nothing as long as all are equal."""
        if not any(any(edges) for edges in self.evaluation.values()):
            return [Text(f"{self.num_candidates} candidates on every edge", style="dim")]
        abandoned = Counter(op for edges in self.alive.values() for alive in edges for op in set(OPERATIONS) - {*alive})
        counts = ", ".join(f"{operation_of(op).short} {count}" for op, count in abandoned.most_common())
        num_edges = len(CELL_KINDS) * len(EDGES)
        rows = [Text(f"gone/{num_edges} {counts}", style="dim"), Text("leads   ", style="dim")]
        for source, node in EDGES:
            rows[-1].append(f"{source}->{node} ")
        for kind in self.alive:
            row = Text(f"{kind:8}", style="dim")
            for alive, evaluation in zip(self.alive[kind], self.evaluation[kind], strict=True):
                leader = operation_of(max(alive, key=lambda op: evaluation.get(op, 0.0)))
                row.append(f"{leader.short:5}", style=leader.look.style)
            rows.append(row)
        for row in rows:
            row.no_wrap, row.overflow = True, "ellipsis"
        return rows


_LEVELS = "▁▂▃▄▅▆▇█"


def trend(values: Sequence[float], *, width: int) -> str:
    """The last values as bars between the least and the largest of them."""
    shown = list(values)[-max(width, 1) :]
    low, high = min(shown), max(shown)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (value - low) / (high - low)) if high > low else 0] for value in shown)


class SearchScoresView(SearchView):
    """A shared network that is trained, then scored in: its epochs, how many are scored, and the candidates left."""

    def __init__(self, config: Config, time_left: SearchTimeLeft) -> None:
        super().__init__(config, time_left)
        self.config = config
        self.scores: list[float] = []
        self.step = (0, 1)

    def notify(self, record: Mapping[str, Any]) -> None:
        self.search_left.notify(record)
        match record["event"]:
            case "progress":
                self.step = record["done"], record["total"]
                self.time_left.part_done(record["done"] / record["total"])
            case "epoch":
                self._epoch(record)
            case "draw":
                self.scores.append(record["z"])
                if len(self.scores) == self._num_scored and not record.get("resumed"):
                    self.line(self._scored())
            case "abandon":
                self._abandon(record)
                self.scores = []
                if not record.get("resumed"):
                    self.line(f"one operation abandoned on every edge, {record['num_candidates'] - 1} left")

    def _epoch(self, record: Mapping[str, Any]) -> None:
        self.step, self.num_candidates = (0, 1), record.get("num_candidates", self.num_candidates)
        self.done += 1
        if not record.get("resumed"):
            self.line(
                f"epoch {self.done}/{self.total}  {self.num_candidates} candidates  loss {record['loss']:.4f}  "
                f"accuracy {percent(record['accuracy_train'])}  {record['seconds']:.1f} s  left {self._left()}"
            )

    @property
    def _num_scored(self) -> int:
        return self.strategy.num_scored(self.config, self.num_candidates)

    def _scored(self) -> str:
        if not self.scores:
            return "training"
        mean = sum(self.scores) / len(self.scores)
        return f"scored {len(self.scores)}/{self._num_scored}  z {mean:.4f}, the best {max(self.scores):.4f}"

    def _status(self) -> Table:
        status = Table.grid(padding=(0, 2))
        done = self.done * self.step[1] + self.step[0]
        status.add_row(
            f"epoch {self.done}/{self.total}",
            ProgressBar(total=self.total * self.step[1], completed=done, width=20),
            f"left {self._left()}",
        )
        return status

    def render(self) -> Group:
        return Group(self._status(), Text(self._scored()), *self._candidates())


class SearchTrainingsView(_View):
    """A search by whole trainings: round, trainings done, their accuracies, the time left."""

    def __init__(self, config: Config, time_left: SearchTimeLeft) -> None:
        super().__init__(time_left, total=time_left.strategy.num_units(config))
        self.settings = config.halving
        self.current = "training"
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=8)

    def notify(self, record: Mapping[str, Any]) -> None:
        match record["event"]:
            case "progress":
                self.current = f"training the {record['network']}, epoch {record['epoch'] + 1}/{record['num_epochs']}"
            case "note":
                self.console.print(f"note: {record['text']}", highlight=False, soft_wrap=True, markup=False)
            case "draw":
                self._draw(record)
            case "halve" if not record.get("resumed"):
                self.line(f"round {record['round'] + 1}/{self.settings.num_rounds} done, {len(record['kept'])} left")

    def _draw(self, record: Mapping[str, Any]) -> None:
        self.recent.append(record)
        self.done += 1
        self.time_left.unit_done(record["seconds"])
        if not record.get("resumed"):
            self.line(
                f"draw {self.done}/{self.total}  round {record['round'] + 1}/{self.settings.num_rounds}  genotype "
                f"{record['draw']}  {record['num_epochs']} epochs  Child {percent(record['accuracy_child'])}  "
                f"{record['seconds']:.1f} s  left {self._left()}"
            )

    def render(self) -> Group:
        status = Table.grid(padding=(0, 2))
        status.add_row(
            f"draw {self.done}/{self.total}",
            ProgressBar(total=self.total, completed=self.done, width=20),
            f"left {self._left()}",
            Text(self.current if self.done < self.total else "done", style="dim"),
        )
        table = Table()
        for name in ("round", "genotype", "epochs", "Child", "Parent"):
            table.add_column(name, justify="right")
        for record in self.recent:
            table.add_row(
                str(record["round"] + 1),
                str(record["draw"]),
                str(record["num_epochs"]),
                percent(record["accuracy_child"]),
                percent(record["accuracy_parent"]),
            )
        return Group(status, table)


class EpochView(_View):
    """A run that counts epochs: how many are done, how far the current one is, the time left."""

    def __init__(self, time_left: TimeLeft, *, total: int) -> None:
        super().__init__(time_left, total=total)
        self.step = (0, 1)
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=8)

    def notify(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "progress":
            self.step = record["done"], record["total"]
            self.time_left.part_done(record["done"] / record["total"])
        elif record["event"] == "note":
            self.console.print(f"note: {record['text']}", highlight=False, soft_wrap=True, markup=False)
        elif record["event"] == "epoch":
            self.step = (0, 1)
            self.done += 1
            self.time_left.unit_done(record["seconds"])
            self.recent.append(record)
            if not record.get("resumed"):
                self.line(
                    f"{self.describe(record)}  {self.accuracies(record)}  "
                    f"{record['seconds']:.1f} s  left {self._left()}"
                )

    def describe(self, record: Mapping[str, Any]) -> str:
        """Which epoch it was, and its losses."""
        raise RuntimeError(f"each view describes its own epochs, also {record['epoch']}")

    def accuracies(self, record: Mapping[str, Any]) -> str:
        """What it came to."""
        return f"accuracy {percent(record['accuracy_train'])}"

    def status(self) -> Table:
        status = Table.grid(padding=(0, 2))
        status.add_row(
            f"epoch {self.done}/{self.total}",
            ProgressBar(total=self.total * self.step[1], completed=self.done * self.step[1] + self.step[0], width=40),
            f"left {self._left()}",
        )
        return status


class SearchEpochsView(EpochView):
    """A search in epochs: also the losses, and the genotype so far."""

    def describe(self, record: Mapping[str, Any]) -> str:
        loss = record["loss_architecture"]
        architecture = "frozen" if loss is None else f"loss {loss:.4f}"
        return f"epoch {record['epoch'] + 1}/{self.total}  loss {record['loss']:.4f}  architecture {architecture}"

    def render(self) -> Group:
        if not self.recent:
            return Group(self.status())
        last = self.recent[-1]
        edges = Table(title="the strongest operations so far", title_style="dim")
        for name in ("edge", "normal cell", "reduction cell"):
            edges.add_column(name, no_wrap=True)
        for index, (source, node) in enumerate(EDGES):
            ops = (last[kind][index] for kind in CELL_KINDS)
            edges.add_row(
                f"{source}->{node}", *(Text(operation_of(op).short, style=operation_of(op).look.style) for op in ops)
            )
        return Group(self.status(), Text(self.describe(last)), edges)
