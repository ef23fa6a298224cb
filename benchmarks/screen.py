# SPDX-License-Identifier: MIT
"""Progress of a run on a terminal, or as lines in a log."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Screen:
    """A line that moves, and what is worth a line of its own; a context manager."""

    def __init__(self, console: Console, *, log: bool = True) -> None:
        """log: say on what is no terminal how far it is."""
        columns = (TextColumn("{task.fields[phase]:<9}"), BarColumn(None), MofNCompleteColumn())
        self._progress = Progress(
            *columns,
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._log = log and not console.is_terminal
        self._task = self._progress.add_task("", phase="", total=None)

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, what: str, steps: int) -> None:
        self._progress.reset(self._task, total=steps, phase=what, description="")
        if self._log:
            self._console.print(f"{what}: {steps}")

    def round(self, number: int, of: int) -> None:
        if self._log:
            self._console.print(f"round {number} of {of}")

    def doing(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def step(self) -> None:
        self._progress.advance(self._task)

    def skipped(self, what: str, reason: str) -> None:
        self._console.print(
            f"[yellow]skipped {what}: {reason.splitlines()[0]}", highlight=False, soft_wrap=True
        )
