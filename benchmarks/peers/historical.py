# SPDX-License-Identifier: MIT
"""The shared-memory transport of 2015 as a reproduction, see benchmarks/historical.

Its load generator stands in for qemu-img: no QEMU is in front of it, which favours it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import TOP
from benchmarks.peers.base import (
    Disk,
    Peer,
    PeerUnavailable,
    QemuDisk,
    need,
    running,
    scratch_directory,
)

PROGRAMS = TOP / "build/historical"
BUILD_TIMEOUT_S = 180.0


def _build() -> None:
    if not Path("/usr/include/boost/interprocess").is_dir():
        raise PeerUnavailable("libboost-dev is not installed")
    make = [
        need("make"),
        "-j2",
        "--no-print-directory",
        "-s",
        "-C",
        str(TOP / "benchmarks/historical"),
    ]
    try:
        done = subprocess.run(make, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise PeerUnavailable(f"it did not compile within {BUILD_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "")
        raise PeerUnavailable(f"it does not compile: {reason}")


def _remove(prefix: str) -> None:
    """What a server that was killed leaves."""
    for left in Path("/dev/shm").glob(f"{prefix}-*"):
        left.unlink(missing_ok=True)


@contextmanager
def historical(volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
    _build()
    with scratch_directory(scratch) as directory:
        prefix, ready = f"historical-{directory.name}", directory / "ready"
        argv = [str(PROGRAMS / "historical-server"), prefix, str(volumes), str(size_bytes)]
        load = (str(PROGRAMS / "historical-load"), prefix)
        try:
            with running([*argv, str(ready)], ready.exists) as process:
                yield Peer(
                    "historical",
                    "historical",
                    "memory",
                    tuple(
                        Disk(QemuDisk(str(number), prefix=load, options=()))
                        for number in range(volumes)
                    ),
                    (process.pid,),
                    variant="boost message queues, 32 KiB pieces, no QEMU in front",
                    copies={"read": 2, "write": 2},
                )
        finally:
            _remove(prefix)
