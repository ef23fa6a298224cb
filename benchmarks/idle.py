# SPDX-License-Identifier: MIT
"""What open volumes cost that nobody uses: a qemu-io for each, after one read, left alone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.load import LoadFailed, NoLoad
from benchmarks.measure import busy_ns, cpu_ns
from benchmarks.peers import Disk
from benchmarks.record import Cost, Idle

# Native aio, which idle disks do not need: 64 of them exceed the usual fs.aio-max-nr.
_LEFT_OUT = "-n"


def switches(pids: Sequence[int]) -> int:
    """Voluntary context switches of all threads that there are now."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            text = status.read_text()
            total += int(text.partition("\nvoluntary_ctxt_switches:")[2].split(maxsplit=1)[0])
    return total


@contextmanager
def _user(disk: Disk) -> Iterator[int]:
    """A process that has the disk open and has read from it; gives its id."""
    if disk.qemu is None:
        raise NoLoad("no disk for QEMU")
    argv = [*disk.qemu.prefix, "qemu-io", *(one for one in disk.qemu.options if one != _LEFT_OUT)]
    process = subprocess.Popen(
        [*argv, disk.qemu.filename],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **disk.qemu.env},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("read 0 4096\n")
        process.stdin.flush()
        words = ""
        while "read 4096/4096" not in words:
            line = process.stdout.readline()
            words += line
            if not line:
                raise LoadFailed(f"qemu-io did not read: {words.strip()}")
        yield process.pid
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def sample(disks: Sequence[Disk], server_pids: Sequence[int], seconds: float) -> tuple[Idle, float]:
    """What the disks cost while they are open and idle, and the share of CPU others used."""
    with ExitStack() as stack:
        clients = [stack.enter_context(_user(disk)) for disk in disks]
        time.sleep(0.5)  # who polls gives up
        ends = (clients, server_pids)
        before = [(cpu_ns(pids), switches(pids)) for pids in ends]
        busy, start = busy_ns(), time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - start
        after = [(cpu_ns(pids), switches(pids)) for pids in ends]
        busy = busy_ns() - busy
    cpu = [(new[0] - old[0]) / elapsed for old, new in zip(before, after, strict=True)]
    woken = [(new[1] - old[1]) / elapsed for old, new in zip(before, after, strict=True)]
    noise = max(0.0, busy / elapsed - sum(cpu)) / 1e9 / (os.cpu_count() or 1)
    return Idle(Cost(cpu[0] / 1e3, cpu[1] / 1e3), Cost(woken[0], woken[1])), min(noise, 1.0)
