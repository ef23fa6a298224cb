# SPDX-License-Identifier: MIT
"""Tables for a terminal; the report has the plots."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from rich.table import Table

from benchmarks.goals import Figure
from benchmarks.record import Record
from benchmarks.units import Load, quantity


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median (lowest-highest)."""
    middle = statistics.median(values)
    return f"{middle:,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def _median(
    records: Iterable[Record], value: Callable[[Record], float | None], digits: int | None = None
) -> str:
    """digits None: as many as count."""
    values = [found for one in records if (found := value(one)) is not None]
    if not values:
        return ""
    middle = statistics.median(values)
    return quantity(middle) if digits is None else f"{middle:,.{digits}f}"


def rates(records: Sequence[Record], baseline: str | None = None) -> Table:
    """A row per load and peer; ``baseline``: ours, which the last column compares with."""
    table = Table(title="median (lowest-highest); us, switches and system calls per request")
    table.add_column("peer", no_wrap=True)
    table.add_column("requests/s", justify="right", no_wrap=True)
    headings = ["p99 us", "client us", "server us", "switches", "calls"]
    for heading in headings + (["ours is"] if baseline else []):
        table.add_column(heading, justify="right")
    records = [one for one in records if one.cpu_us_per_io]
    for load in dict.fromkeys(map(Load.of, records)):
        rows = [one for one in records if Load.of(one) == load]
        table.add_row(f"[bold]{load}")
        reference = [one.iops for one in rows if one.peer == baseline]
        for peer in dict.fromkeys(one.peer for one in rows):
            of_peer = [one for one in rows if one.peer == peer]
            iops = [one.iops for one in of_peer]
            ratio = ""
            if reference and peer != baseline:
                ratio = f"{statistics.median(reference) / statistics.median(iops):.1f}x"
            table.add_row(
                f"  {peer}",
                f"{quantity(statistics.median(iops))} "
                f"({quantity(min(iops))}-{quantity(max(iops))})",
                _median(of_peer, lambda one: one.latency_us and one.latency_us.p99),
                _median(of_peer, lambda one: one.cpu_us_per_io and one.cpu_us_per_io.client, 2),
                _median(of_peer, lambda one: one.cpu_us_per_io and one.cpu_us_per_io.server, 2),
                _median(
                    of_peer,
                    lambda one: one.context_switches_per_io and one.context_switches_per_io.total,
                    3,
                ),
                _median(of_peer, lambda one: one.syscalls_per_io and one.syscalls_per_io.total, 3),
                *([ratio] if baseline else []),
            )
        table.add_section()
    return table


def idle(records: Sequence[Record]) -> Table:
    table = Table(title="Open volumes that nobody uses, per second")
    for heading in ("peer", "volumes", "client us", "server us", "client wakes", "server wakes"):
        table.add_column(heading, justify="left" if heading == "peer" else "right")
    for one in records:
        if one.idle:
            cpu, wakes = one.idle.cpu_us_per_second, one.idle.wakeups_per_second
            figures = (cpu.client, cpu.server, wakes.client, wakes.server)
            table.add_row(one.peer, str(one.volumes), *(f"{figure:,.1f}" for figure in figures))
    return table


def goals(figures: Sequence[Figure]) -> Table:
    table = Table(title="Figures to reach: times better, within rounds; median (lowest-highest)")
    for heading in ("against", "depth", "CPUs", "is", "goal", "", "rounds"):
        table.add_column(heading, justify="left" if heading in ("against", "CPUs") else "right")
    for one in figures:
        against = one.goal.title + (f" ({one.against})" if one.goal.best else "")
        table.add_row(
            against,
            str(one.goal.depth),
            one.placement,
            spread([one.low, one.ratio, one.high], 1) if one.rounds > 1 else f"{one.ratio:.1f}",
            f"{one.wanted:g}",
            "[green]reached" if one.reached else "[red]missed",
            f"{one.rounds}" + ("" if one.paired else " (not paired)"),
        )
    return table
