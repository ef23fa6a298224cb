# SPDX-License-Identifier: MIT
"""What the command line prints: tables for people, JSON for programs.

On a terminal tables are drawn by rich; elsewhere they are plain columns, good for grep and awk.
Names are printed as they are: nothing in them is taken for markup.
"""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.table import Table

RATE_S = 3.0  # rates are those of so much time


def as_json(value: object, out: TextIO | None = None) -> None:
    print(json.dumps(value, indent=2), file=out)


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> None:
    """A table with a heading; columns named in `right` (space-separated) are numbers."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(drawn(columns, rows, right=right))
        return
    numbers = [column in right.split() for column in columns]
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numbers, strict=True)
        )
        print("  ".join(cells).rstrip())


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """One "name: value" a line."""
    width = max(len(name) for name, _ in pairs) + 1
    for name, value in pairs:
        print(f"{name + ':':<{width}} {value}".rstrip())


def drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> "Table":
    """The same as an object of rich."""
    # Only a terminal needs rich; scripts do not wait for its import.
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        side: Literal["left", "right"] = "right" if column in right.split() else "left"
        made.add_column(column, justify=side, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr until the end of the scope, when that is a terminal.

    Gives a function to say how much of the total is done, and in words whatever else there is.
    """
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(what, total=total, words="")
        yield lambda done, words: bar.update(task, completed=done, words=words)


class Rate:
    """How fast a counter has lately been growing, per second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, count: int, now_s: float) -> float:
        self._samples.append((now_s, count))
        while now_s - self._samples[0][0] > RATE_S and len(self._samples) > 2:
            self._samples.popleft()
        past_s, past = self._samples[0]
        return (count - past) / (now_s - past_s) if now_s > past_s else 0.0
