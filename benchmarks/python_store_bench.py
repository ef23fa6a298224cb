# SPDX-License-Identifier: MIT
"""A store of twenty lines of Python beside nbdkit's Python plugin, both driven by the
distribution's qemu-img: ``python -m benchmarks.python_store_bench --help``.

Interleaved rounds, as in sidebyside.py.  The plugin runs with each of its threading models; the
ratio that counts is the one to the best of them.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from benchmarks import peers
from benchmarks.handover import NEAR_NS
from benchmarks.qemu_bench import Workload
from benchmarks.sidebyside import Record, measure, table

OURS = "shm Python"
MODELS = ("PARALLEL", "SERIALIZE_REQUESTS", "SERIALIZE_ALL_REQUESTS", "SERIALIZE_CONNECTIONS")
WORKLOADS = (
    Workload(4096, 1),
    Workload(4096, 1, write=True),
    Workload(4096, 32),
    Workload(4096, 32, write=True),
)


def _ours(store: str, name: str) -> peers.Maker:
    examples = peers.TOP / "examples"
    return partial(peers.shm, store, name=name, cwd=examples)


def _theirs(model: str) -> peers.Maker:
    return partial(peers.nbdkit, "python", model=model)


def ratios(records: list[Record]) -> list[str]:
    """Ours to the best of the others, per workload and placement of the CPUs."""
    lines = []
    for workload in WORKLOADS:
        for place, near in (("near", True), ("far", False)):
            rows = [
                r
                for r in records
                if r.workload == workload
                and r.handover_ns is not None
                and (r.handover_ns < NEAR_NS) == near
            ]
            by_peer: dict[str, list[float]] = {}
            for row in rows:
                by_peer.setdefault(row.peer, []).append(row.sample.iops)
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
    console = Console(width=max(Console().width, 150))
    makers = {
        OURS: _ours("memory_store:Memory", OURS),
        "shm memory": _ours("memory", "shm memory"),
        **{f"nbdkit {model}": _theirs(model) for model in MODELS},
    }
    with tempfile.TemporaryDirectory(prefix="ovs-bench-") as scratch:
        records = measure(makers, WORKLOADS, rounds, seconds, console, Path(scratch))
    placements = sorted({r.handover_ns for r in records if r.handover_ns is not None})
    console.print(f"CPUs: {os.cpu_count()}, polled hand-over between them (ns): {placements}")
    console.print(table(records, baseline=OURS))
    for line in ratios(records):
        console.print(line)
    if json_file:
        json_file.write_text(json.dumps([asdict(r) for r in records], indent=1))


if __name__ == "__main__":
    main()
