# SPDX-License-Identifier: MIT
"""Runs of the benchmarks that were never run: records with known answers, for the tests of what
reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.record import Cost, Environment, Idle, Latency, Record, Results

MACHINE = Environment(
    cpu="AMD EPYC 9R14",
    cpus=2,
    memory_bytes=24 << 30,
    kernel="6.18.5",
    system="Debian GNU/Linux 12 (bookworm)",
    version="0.4.0",
    commit="0123abc",
    handover_ns=104,
    programs={"qemu-img": "7.2.22", "fio": "3.33", "nbdkit": "1.32.5"},
)
PLAIN = Record(
    peer="shm memory",
    store="memory",
    loader="qemu-img",
    workload="read",
    block_size=4096,
    depth=1,
    volumes=1,
    round=0,
    placement="near",
    handover_ns=100,
    noise=0.01,
    seconds=0.5,
    iops=1e6,
    bandwidth=4096e6,
    cpu_us_per_io=Cost(1.0, 1.0),
)


def rounds(iops: Sequence[float], like: Record = PLAIN, **fields: object) -> list[Record]:
    """A record per figure, in rounds 0, 1..., otherwise like ``like`` with ``fields``."""
    made = replace(like, **fields)  # type: ignore[arg-type]
    return [
        replace(made, round=number, iops=value, bandwidth=value * made.block_size)
        for number, value in enumerate(iops)
    ]


def openloop(p99: Sequence[float], **fields: object) -> list[Record]:
    """Open loop at 10 k/s whose 99th percentiles are these; the others follow."""
    made = rounds([1e4] * len(p99), workload="openloop", loader="fio", rate=1e4, **fields)
    return [
        replace(
            record,
            latency_us=Latency(value / 4, value, value * 3),
            latency_cdf=[
                (value / 8, 0.1),
                (value / 4, 0.5),
                (value / 2, 0.9),
                (value, 0.99),
                (value * 3, 0.999),
                (value * 9, 1.0),
            ],
        )
        for record, value in zip(made, p99, strict=True)
    ]


def idle(cpu_us: Sequence[float], **fields: object) -> list[Record]:
    """64 volumes that nobody uses, at this many microseconds of server CPU each second."""
    made = rounds(
        [0.0] * len(cpu_us),
        workload="idle",
        block_size=0,
        depth=0,
        volumes=64,
        cpu_us_per_io=None,
        **fields,
    )
    return [
        replace(record, idle=Idle(Cost(0.0, value), Cost(0.0, value / 10)))
        for record, value in zip(made, cpu_us, strict=True)
    ]


def run_of(*records: Sequence[Record], **fields: object) -> Results:
    """A run with all of these."""
    return replace(
        Results("2026-01-02T03:04:05+00:00", "make bench", MACHINE, []),
        records=[one for some in records for one in some],
        **fields,  # type: ignore[arg-type]
    )
