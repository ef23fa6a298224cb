# SPDX-License-Identifier: MIT
"""What the command line prints: tables for people, JSON for programs.

On a terminal tables are drawn by rich; elsewhere they are plain columns, good for grep and awk.
Names are printed as they are: nothing in them is taken for markup.
"""

import json
import sys
from collections.abc import Sequence


def as_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> None:
    """A table with a heading; columns named in `right` (space-separated) are numbers."""
    numbers = [column in right.split() for column in columns]
    if sys.stdout.isatty():
        _rich_table(columns, rows, numbers)
        return
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


def _rich_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]
) -> None:
    # Only a terminal needs rich; scripts do not wait for its import.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, number in zip(columns, numbers, strict=True):
        drawn.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    Console().print(drawn)
