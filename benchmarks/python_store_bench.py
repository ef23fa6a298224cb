# SPDX-License-Identifier: MIT
"""A store of twenty lines of Python beside nbdkit's Python plugin, both driven by the
distribution's qemu-img: ``python -m benchmarks.python_store_bench --help``.

Interleaved rounds, by the harness.  The plugin runs with each of its threading models; the ratio
that counts is the one to the best of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

import click
from pydantic import TypeAdapter
from rich.console import Console

from benchmarks import peers, summary
from benchmarks.load import Workload
from benchmarks.record import Record
from benchmarks.runner import Cell, Runner
from benchmarks.screen import Screen
from benchmarks.units import Load

OURS = "shm Python"
MODELS = ("PARALLEL", "SERIALIZE_REQUESTS", "SERIALIZE_ALL_REQUESTS", "SERIALIZE_CONNECTIONS")
WORKLOADS = (
    Workload("read", 4096, 1),
    Workload("write", 4096, 1),
    Workload("read", 4096, 32),
    Workload("write", 4096, 32),
)


def makers() -> dict[str, peers.Maker]:
    store = partial(peers.shm, "memory_store:Memory", name=OURS, cwd=peers.TOP / "examples")
    models = {f"nbdkit {model}": partial(peers.nbdkit, "python", model=model) for model in MODELS}
    return {OURS: store, "shm memory": peers.PEERS["shm memory"], **models}


def ratios(records: list[Record]) -> list[str]:
    """Ours to the best of the others, per workload and placement of the CPUs."""
    lines = []
    for workload in WORKLOADS:
        for place in ("near", "far"):
            by_peer: dict[str, list[float]] = {}
            for one in records:
                if Load.of(one) == workload.load and one.placement == place:
                    by_peer.setdefault(one.peer, []).append(one.iops)
            middles = {peer: statistics.median(iops) for peer, iops in by_peer.items()}
            nbdkit = {peer: middle for peer, middle in middles.items() if "nbdkit" in peer}
            if OURS not in middles or not nbdkit:
                continue
            best = max(nbdkit, key=lambda peer: nbdkit[peer])
            ratio = middles[OURS] / nbdkit[best]
            rounds = len(by_peer[OURS])
            lines.append(f"{workload}, {place} ({rounds} rounds): {ratio:.1f}x {best}")
    return lines


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Interleaved repetitions.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of one sample.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write raw samples.")
def main(rounds: int, seconds: float, json_file: Path | None) -> None:
    """Measure a store in Python over shared memory beside nbdkit's Python plugin."""
    console = Console(width=max(Console().width, 120))
    peers_of_all = makers()
    cells = [Cell(workload, tuple(peers_of_all), rounds) for workload in WORKLOADS]
    with (
        tempfile.TemporaryDirectory(prefix="ovs-bench-") as scratch,
        Screen(console) as screen,
    ):
        runner = Runner(peers_of_all, Path(scratch), screen)
        runner.run(cells, seconds=seconds)
    records = runner.records
    placements = sorted({r.handover_ns for r in records if r.handover_ns is not None})
    console.print(f"CPUs: {os.cpu_count()}, polled hand-over between them (ns): {placements}")
    console.print(summary.rates(records, baseline=OURS))
    for line in ratios(records):
        console.print(line)
    if json_file:
        json_file.write_bytes(TypeAdapter(list[Record]).dump_json(records, indent=1))


if __name__ == "__main__":
    main()
