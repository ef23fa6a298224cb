# SPDX-License-Identifier: MIT
"""``qemu-img bench``: sequential requests through QEMU's block layer, so many of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.load import Command, LoadFailed, NoLoad, Outcome, Workload
from benchmarks.peers import Disk

TIMED = False
_OPTIONS = {"read": (), "write": ("-w",), "flush": ("-w", "--flush-interval=1")}


def command(
    disks: Sequence[Disk], workload: Workload, requests: int, seconds: float | None
) -> Command:
    del seconds
    if workload.name not in _OPTIONS or len(disks) != 1:
        raise NoLoad(f"qemu-img bench cannot do {workload}")
    disk = disks[0].qemu
    if disk is None:
        raise NoLoad("no disk for QEMU")
    argv = [*disk.prefix, "qemu-img", "bench", *disk.options, *_OPTIONS[workload.name]]
    argv += ["-c", str(requests), "-d", str(workload.depth), "-s", str(workload.block_size)]
    return Command((*argv, disk.filename), disk.env)


def outcome(output: str, workload: Workload, requests: int) -> Outcome:
    del workload
    found = re.search(r"Run completed in ([0-9.]+) seconds", output)
    if found is None:
        raise LoadFailed(output)
    return Outcome(requests, max(float(found[1]), 1e-3))


def fill_command(disk: Disk, size_bytes: int) -> Command:
    """Writes the whole disk, so that no peer can answer reads from a hole."""
    chunk = 1 << 20
    made = command([disk], Workload("write", chunk, 4), size_bytes // chunk, None)
    return Command((*made.argv[:-1], "--pattern", "90", made.argv[-1]), made.env)
