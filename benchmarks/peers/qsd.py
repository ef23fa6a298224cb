# SPDX-License-Identifier: MIT
"""Exports of qemu-storage-daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.peers.base import (
    Disk,
    FioDisk,
    Peer,
    PeerUnavailable,
    QemuDisk,
    Store,
    need,
    running,
    scratch_directory,
    sparse_file,
    tmpfs_directory,
)


def need_fuse() -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise PeerUnavailable("/dev/fuse cannot be opened")


def fuse_disk(path: Path) -> Disk:
    """A file past the page cache: native asynchronous I/O is the fastest there."""
    qemu = QemuDisk(str(path), options=("-f", "raw", "-t", "none", "-n"))
    return Disk(qemu, FioDisk(("--ioengine=libaio", "--direct=1", f"--filename={path}")))


@contextmanager
def qsd_fuse(store: Store, volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """Its FUSE export. Store "memory": files on tmpfs; "file": in scratch, in the page cache."""
    argv = [need("qemu-storage-daemon")]
    need_fuse()
    memory = store == "memory"
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory(scratch))
        images = stack.enter_context(tmpfs_directory()) if memory else directory
        mounts = []
        for number in range(volumes):
            image = sparse_file(images / f"image{number}", size_bytes)
            mount = directory / f"export{number}"
            mount.touch()
            mounts.append(mount)
            argv += ["--blockdev", f"driver=file,node-name=n{number},filename={image}"]
            argv += ["--export", f"type=fuse,id=e{number},node-name=n{number},writable=on,"]
            argv[-1] += f"allow-other=off,mountpoint={mount}"

        def ready() -> bool:
            return all(mount.stat().st_size == size_bytes for mount in mounts)

        process = stack.enter_context(running(argv, ready))
        yield Peer(
            "qsd FUSE" if memory else "qsd FUSE file",
            "fuse",
            store,
            tuple(fuse_disk(mount) for mount in mounts),
            (process.pid,),
            variant=f"one thread, direct-io, {'tmpfs' if memory else 'page cache'}",
            copies={"read": 2, "write": 2},
        )
