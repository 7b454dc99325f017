"""Tasks of an experiment one after the other in this process, which has loaded everything."""

from collections.abc import Callable

from cpnas_cli.experiments.tasks import Task, TaskEnd, run_task


class HereExecutor:
    """Runs one task after the other in this process; tells which, and can fail or stop instead."""

    def __init__(self, before: Callable[[Task], TaskEnd | None] = lambda _: None) -> None:
        self.before, self.tasks, self._ended = before, list[Task](), list[tuple[Task, TaskEnd]]()

    def has_room(self) -> bool:
        return not self._ended

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        self._ended.append((task, self.before(task) or run_task(task)))

    def wait(self, seconds: float) -> list[tuple[Task, TaskEnd]]:
        del seconds
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        pass
