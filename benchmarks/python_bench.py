# SPDX-License-Identifier: MIT
"""The Python client beside the C client and libnbd: ``python -m benchmarks.python_bench --help``.

Every round runs each row once (A B A B ...), so what the machine does meanwhile meets all of them.
Ratios are taken within a round; figures are medians with the lowest and highest round behind them.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.handover import handover_ns, placement
from benchmarks.peers import PeerUnavailable
from benchmarks.python_clients import ROWS, Sample, Sampler, servers
from benchmarks.summary import spread


@dataclass(frozen=True)
class Record:
    """One sample with what it belongs to; the rows of the JSON file."""

    row: str
    round: int
    handover_ns: int | None
    sample: Sample


@dataclass(frozen=True)
class Figure:
    """How many times the rate of another row a row shall have."""

    row: str
    other: str
    least: float


FIGURES = (
    Figure("preadinto, Buffer", "C, shared memory", 0.5),
    Figure("preadinto, own memory", "C, own memory", 0.5),
    Figure("pread", "C, own memory", 0.5),
    Figure("batch of 32, Buffers", "preadinto, Buffer", 2),
    Figure("batch of 32, own memory", "pread", 2),
    Figure("batch of 32, own memory", "preadinto, own memory", 2),
    Figure("asyncio, 32 tasks, pread", "libnbd, 32, its own loop", 10),
    Figure("asyncio, 32 tasks, preadinto", "libnbd, 32, its own loop", 10),
    Figure("asyncio, 32 tasks, pread", "libnbd, 32, asyncio", 10),
)


def measure(names: Iterable[str], rounds: int, seconds: float, console: Console) -> list[Record]:
    """All rows, interleaved; one that cannot run is named and left out."""
    records: list[Record] = []
    with (
        ExitStack() as stack,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        where = stack.enter_context(servers())
        samplers: dict[str, Sampler] = {}
        for name in names:
            try:
                samplers[name] = stack.enter_context(ROWS[name](where))
            except PeerUnavailable as reason:
                console.print(f"   [yellow]skipped {name}: {reason}")
        task = progress.add_task("measuring", total=rounds * len(samplers))
        for number in range(rounds):
            for name, sampler in samplers.items():
                progress.update(task, description=name)
                placement = handover_ns()
                records.append(Record(name, number, placement, sampler(seconds)))
                progress.advance(task)
    return records


def rate_table(records: list[Record]) -> Table:
    table = Table(title="4 KiB reads; median (lowest-highest)")
    table.add_column("client")
    for heading in ("reads/s", "client us", "server us"):
        table.add_column(heading, justify="right")
    for row in dict.fromkeys(record.row for record in records):
        samples = [record.sample for record in records if record.row == row]
        table.add_row(
            row,
            spread([sample.iops for sample in samples], 0),
            spread([sample.client_us for sample in samples], 2),
            spread([sample.server_us for sample in samples], 2),
        )
    return table


def ratios(records: list[Record], figure: Figure) -> list[float]:
    """Of the rounds that have both."""
    rates = {(record.row, record.round): record.sample.iops for record in records}
    return [
        rate / rates[figure.other, number]
        for (row, number), rate in rates.items()
        if row == figure.row and (figure.other, number) in rates
    ]


def figure_table(records: list[Record]) -> Table:
    table = Table(title="Ratios within a round; median (lowest-highest)")
    for heading in ("rate of", "to that of", "is", "shall be", ""):
        table.add_column(heading)
    for figure in FIGURES:
        if found := ratios(records, figure):
            reached = "yes" if statistics.median(found) >= figure.least else "[red]no"
            table.add_row(figure.row, figure.other, spread(found, 2), f"{figure.least:g}", reached)
    return table


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Interleaved repetitions.")
@click.option("--seconds", default=0.5, show_default=True, help="Length of one sample.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write raw samples.")
@click.option("--row", "names", multiple=True, type=click.Choice(list(ROWS)))
def main(rounds: int, seconds: float, json_file: Path | None, names: tuple[str, ...]) -> None:
    """Measure the Python client beside the C client and libnbd's Python binding."""
    console = Console(width=max(Console().width, 120))
    records = measure(names or ROWS, rounds, seconds, console)
    placements = [record.handover_ns for record in records if record.handover_ns is not None]
    near = sum(placement(one) == "near" for one in placements)
    console.print(
        f"CPUs: {os.cpu_count()}, near before {near} of {len(placements)} samples; "
        f"polled hand-over between them (ns): {sorted(set(placements))}"
    )
    console.print(rate_table(records))
    console.print(figure_table(records))
    if json_file:
        json_file.write_text(json.dumps([asdict(record) for record in records], indent=1))


if __name__ == "__main__":
    main()
