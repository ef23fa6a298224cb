# SPDX-License-Identifier: MIT
"""Samples of ``qemu-img bench``: requests per second, and CPU of the client and of the server."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass

from benchmarks.peers import Peer, QemuDisk

SAMPLE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Workload:
    """One shape of load: sequential requests of one size, ``depth`` in flight."""

    block_bytes: int
    depth: int
    write: bool = False

    def __str__(self) -> str:
        unit = f"{self.block_bytes // 1024}k"
        return f"{unit} {'write' if self.write else 'read'} depth {self.depth}"


@dataclass(frozen=True)
class Sample:
    """One run. CPU in microseconds per request, user and system."""

    iops: float
    client_us: float
    server_us: float


def cpu_ns(pids: tuple[int, ...]) -> int:
    """CPU time of these processes, ended threads included: what clock_getcpuclockid(3) gives."""
    scheduled = 2  # CPUCLOCK_SCHED: user and system, by the scheduler's own count
    return sum(time.clock_gettime_ns((~pid << 3) | scheduled) for pid in pids)


def disk_of(peer: Peer) -> QemuDisk:
    disk = peer.disks[0].qemu
    if disk is None:
        raise ValueError(f"{peer.name} is nothing for qemu-img")
    return disk


def run(peer: Peer, workload: Workload, count: int) -> Sample:
    """Runs ``count`` requests; raises subprocess.CalledProcessError when qemu-img fails."""
    disk = disk_of(peer)
    argv = [*disk.prefix, "qemu-img", "bench", *disk.options]
    argv += ["-c", str(count), "-d", str(workload.depth), "-s", str(workload.block_bytes)]
    argv += (["-w"] if workload.write else []) + [disk.filename]
    before = cpu_ns(peer.server_pids)
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            argv, stdout=output, stderr=subprocess.STDOUT, env=os.environ | disk.env
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    server_ns = cpu_ns(peer.server_pids) - before
    match = re.search(r"Run completed in ([0-9.]+) seconds", text)
    if process.returncode or match is None:
        raise subprocess.CalledProcessError(process.returncode, argv, text)
    client_s = usage.ru_utime + usage.ru_stime
    return Sample(
        iops=count / max(float(match[1]), 1e-3),
        client_us=client_s * 1e6 / count,
        server_us=server_ns / 1e3 / count,
    )


def fill(peer: Peer, size_bytes: int) -> None:
    """Writes the whole disk, so that no peer can answer reads from a hole."""
    disk = disk_of(peer)
    argv = [*disk.prefix, "qemu-img", "bench", *disk.options, "-q", "-w", "--pattern", "90"]
    argv += ["-c", str(size_bytes >> 20), "-d", "4", "-s", "1M", disk.filename]
    env = os.environ | disk.env
    subprocess.run(argv, check=True, env=env, stdout=subprocess.DEVNULL, timeout=SAMPLE_TIMEOUT_S)


def count_for(peer: Peer, workload: Workload, seconds: float) -> int:
    """Number of requests that take about ``seconds``."""
    count = 2000
    while True:
        sample = run(peer, workload, count)
        if count / sample.iops > seconds / 8:
            return max(1000, int(sample.iops * seconds))
        count *= 4
