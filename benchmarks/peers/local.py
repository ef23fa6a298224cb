# SPDX-License-Identifier: MIT
"""Disks without a server: a plain file, and QEMU's driver that does nothing.

How the loaders use a file, here or on a mount, is here as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.base import Disk, FioDisk, Peer, QemuDisk, scratch_directory, sparse_file


def cached_disk(path: Path) -> Disk:
    """A file through the page cache: io_uring answers hits at once, without a thread."""
    qemu = QemuDisk(str(path), options=("-f", "raw", "-t", "writeback", "-i", "io_uring"))
    return Disk(qemu, FioDisk(("--ioengine=io_uring", f"--filename={path}")))


def direct_disk(path: Path) -> Disk:
    """A file past the page cache: native asynchronous I/O is the fastest there."""
    qemu = QemuDisk(str(path), options=("-f", "raw", "-t", "none", "-n"))
    return Disk(qemu, FioDisk(("--ioengine=libaio", "--direct=1", f"--filename={path}")))


@contextmanager
def plain_file(volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """In the page cache, by io_uring."""
    with scratch_directory(scratch) as directory:
        disks = [
            cached_disk(sparse_file(directory / f"image{number}", size_bytes))
            for number in range(volumes)
        ]
        variant = "page cache, io_uring"
        copies = {"read": 1, "write": 1}
        yield Peer("plain file", "file", "file", tuple(disks), variant=variant, copies=copies)


@contextmanager
def null_co(volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """QEMU's own ceiling: it and the loader are one process."""
    del scratch
    node = {"driver": "raw", "file": {"driver": "null-co", "size": size_bytes}}
    disk = Disk(QemuDisk("json:" + json.dumps(node), options=()))
    variant = "no server, no data"
    copies = {"read": 0, "write": 0}
    yield Peer("null-co", "null", "none", (disk,) * volumes, variant=variant, copies=copies)
