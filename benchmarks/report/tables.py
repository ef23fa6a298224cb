# SPDX-License-Identifier: MIT
"""Tables of the page: the cost sheet and the raw data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from benchmarks.record import Cost, Record
from benchmarks.report.run import Group, Run, Value
from benchmarks.units import Load, quantity


@dataclass(frozen=True)
class Column:
    """A figure of the cost sheet."""

    title: str
    unit: str
    of: Value
    side: str = ""


def _side(name: str, side: str) -> Value:
    def of(record: Record) -> float | None:
        cost = getattr(record, name)
        return getattr(cost, side) if isinstance(cost, Cost) else None

    return of


def _copies(record: Record) -> float | None:
    if record.copied_bytes_per_io is None or not record.block_size:
        return None
    return record.copied_bytes_per_io / record.block_size


COST_COLUMNS = (
    Column("CPU", "us", _side("cpu_us_per_io", "client"), "client"),
    Column("CPU", "us", _side("cpu_us_per_io", "server"), "server"),
    Column("system calls", "", _side("syscalls_per_io", "client"), "client"),
    Column("system calls", "", _side("syscalls_per_io", "server"), "server"),
    Column("context switches", "", _side("context_switches_per_io", "client"), "client"),
    Column("context switches", "", _side("context_switches_per_io", "server"), "server"),
    Column("wake-ups", "", lambda r: r.wakeups_per_io),
    Column("doorbells", "", lambda r: r.doorbells_per_io),
    Column("copies", "x data", _copies),
    Column("instructions", "", lambda r: r.instructions_per_io),
)


@dataclass(frozen=True)
class Cell:
    """A number with its bar, as a share of the longest in the column; text empty: not known."""

    text: str
    width: float = 0.0


@dataclass(frozen=True)
class Sheet:
    """What one I/O costs everybody under one load."""

    load: Load
    columns: list[Column]
    rows: list[tuple[str, list[Cell]]]


def cost_sheet(run: Run, load: Load) -> Sheet:
    """Medians; columns that nobody has figures for are left out."""
    groups = [g for g in run.at(load) if g.records]
    columns = [c for c in COST_COLUMNS if any(g.spread(c.of) for g in groups)]
    longest = {c: max((s[0] for g in groups if (s := g.spread(c.of))), default=0) for c in columns}
    groups.sort(key=lambda g: _total(g))
    rows = [(g.peer, [_cell(g, column, longest[column]) for column in columns]) for g in groups]
    return Sheet(load, columns, rows)


def _total(group: Group) -> float:
    spread = group.spread(lambda r: r.cpu_us_per_io.total if r.cpu_us_per_io else None)
    return spread[0] if spread else float("inf")


def _cell(group: Group, column: Column, longest: float) -> Cell:
    value = group.typical(column.of)
    if value is None:
        return Cell("")
    text = "0" if value == 0 else ("<0.01" if value < 0.005 else quantity(value))
    return Cell(text, min(1.0, value / longest) if longest else 0.0)


@dataclass(frozen=True)
class IdleRow:
    """Open volumes that nobody uses, per second."""

    peer: str
    volumes: int
    cpu_us: float
    wakeups: float


def idle_rows(run: Run) -> list[IdleRow]:
    found = []
    for load in run.loads:
        for group in run.at(load) if load.workload == "idle" else ():
            cpu = group.spread(lambda r: r.idle.cpu_us_per_second.total if r.idle else None)
            wakeups = group.spread(lambda r: r.idle.wakeups_per_second.total if r.idle else None)
            if cpu and wakeups:
                found.append(IdleRow(group.peer, load.volumes, cpu[0], wakeups[0]))
    return sorted(found, key=lambda row: row.cpu_us)


LONG = ("latency_cdf",)
"""Fields that no table holds; they are in the JSON file, and drawn."""


def raw(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Every field of every record, the composed ones a column per part; empty: null."""
    headings = [name for name in (f.name for f in fields(Record)) if name not in LONG]
    lines = [_flat(record, headings) for record in records]
    names = list(dict.fromkeys(name for line in lines for name in line))
    names.sort(key=lambda name: headings.index(name.split(".")[0]))
    return names, [[line.get(name, "") for name in names] for line in lines]


def _flat(record: object, names: Sequence[str], prefix: str = "") -> dict[str, str]:
    line: dict[str, str] = {}
    for name in names:
        value = getattr(record, name)
        if hasattr(value, "__dataclass_fields__"):
            line |= _flat(value, [f.name for f in fields(value)], f"{prefix}{name}.")
        elif value is not None:
            line[prefix + name] = f"{value:.6g}" if isinstance(value, float) else str(value)
    return line
