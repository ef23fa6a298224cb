# SPDX-License-Identifier: MIT
"""Side by side in one run: ``python -m benchmarks.sidebyside --help``.

Every round runs each peer once on each workload (A B A B ...), so what the machine does meanwhile
meets all of them. Figures are medians with the lowest and highest round behind them.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import peers, qemu_bench
from benchmarks.handover import handover_ns
from benchmarks.qemu_bench import Sample, Workload

SIZE_BYTES = 256 << 20
NAMES = ("shm memory", "shm file", "null-co", "nbdkit memory", "qsd FUSE file")
ALL_PEERS = {name: peers.PEERS[name] for name in NAMES}
ALL_WORKLOADS = (
    Workload(4096, 1),
    Workload(4096, 1, write=True),
    Workload(4096, 32),
    Workload(4096, 32, write=True),
    Workload(65536, 8),
    Workload(65536, 8, write=True),
)


@dataclass(frozen=True)
class Record:
    """One sample with what it belongs to; the rows of the JSON file."""

    peer: str
    workload: Workload
    round: int
    handover_ns: int | None
    sample: Sample


def measure(
    makers: dict[str, peers.Maker],
    workloads: Iterable[Workload],
    rounds: int,
    seconds: float,
    console: Console,
    scratch: Path,
) -> list[Record]:
    """All peers on all workloads, interleaved; a peer that cannot run is named and left out."""
    workloads = tuple(workloads)
    records: list[Record] = []
    with (
        ExitStack() as stack,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        running: dict[str, peers.Peer] = {}
        for name, make in makers.items():
            try:
                peer = stack.enter_context(make(1, SIZE_BYTES, scratch))
                qemu_bench.fill(peer, SIZE_BYTES)
                running[name] = peer
            except peers.PeerUnavailable as reason:
                console.print(f"   [yellow]skipped {name}: {reason}")
        counts: dict[tuple[str, Workload], int] = {}
        task = progress.add_task("measuring", total=rounds * len(running) * len(workloads))
        for number in range(rounds):
            for workload in workloads:
                placement = handover_ns()
                for name, peer in running.items():
                    progress.update(task, description=f"{name}, {workload}")
                    key = (name, workload)
                    if key not in counts:
                        counts[key] = qemu_bench.count_for(peer, workload, seconds)
                    sample = qemu_bench.run(peer, workload, counts[key])
                    records.append(Record(name, workload, number, placement, sample))
                    progress.advance(task)
    return records


def _spread(values: list[float], digits: int = 0) -> str:
    middle = statistics.median(values)
    return f"{middle:,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def table(records: list[Record], baseline: str | None) -> Table:
    """A row per workload and peer; ``baseline``: the peer the last column compares with."""
    out = Table(title="qemu-img bench, the distribution's QEMU; median (lowest-highest)")
    for heading in ("workload", "disk", "requests/s", "client us", "server us", "CPU us"):
        out.add_column(heading, justify="left" if heading in ("workload", "disk") else "right")
    if baseline:
        out.add_column(f"{baseline} is", justify="right")
    for workload in dict.fromkeys(r.workload for r in records):
        rows = [r for r in records if r.workload == workload]
        reference = [r.sample.iops for r in rows if r.peer == baseline]
        for peer in dict.fromkeys(r.peer for r in rows):
            samples = [r.sample for r in rows if r.peer == peer]
            iops = [s.iops for s in samples]
            total = [s.client_us + s.server_us for s in samples]
            ratio = ""
            if reference and peer != baseline:
                ratio = f"{statistics.median(reference) / statistics.median(iops):.1f}x"
            out.add_row(
                str(workload),
                peer,
                _spread(iops),
                f"{statistics.median(s.client_us for s in samples):.2f}",
                f"{statistics.median(s.server_us for s in samples):.2f}",
                _spread(total, 2),
                *([ratio] if baseline else []),
            )
        out.add_section()
    return out


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Interleaved repetitions.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of one sample.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write raw samples.")
@click.option("--peer", "names", multiple=True, type=click.Choice(list(ALL_PEERS)))
def main(rounds: int, seconds: float, json_file: Path | None, names: tuple[str, ...]) -> None:
    """Measure volumes over shared memory beside other ways to give QEMU a disk."""
    console = Console(width=max(Console().width, 120))
    makers = {name: ALL_PEERS[name] for name in (names or ALL_PEERS)}
    with tempfile.TemporaryDirectory(prefix="ovs-bench-") as scratch:
        records = measure(makers, ALL_WORKLOADS, rounds, seconds, console, Path(scratch))
    placements = sorted({r.handover_ns for r in records if r.handover_ns is not None})
    console.print(f"CPUs: {os.cpu_count()}, polled hand-over between them (ns): {placements}")
    console.print(table(records, baseline="shm memory"))
    if json_file:
        json_file.write_text(json.dumps([asdict(r) for r in records], indent=1))


if __name__ == "__main__":
    main()
