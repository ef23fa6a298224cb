# SPDX-License-Identifier: MIT
"""NBD over a Unix socket: nbdkit and qemu-nbd, with QEMU's NBD client and fio's nbd engine.

A server per volume, as they are used. Neither client opens a second connection to one disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import TOP
from benchmarks.peers.base import (
    Disk,
    FioDisk,
    Peer,
    QemuDisk,
    Store,
    listening,
    need,
    running,
    scratch_directory,
    sparse_file,
    tmpfs_directory,
)

# Into the socket, out of it, and the server's own between its buffer and where the data are.
COPIES = {"read": 3, "write": 3}


def _disk(socket: Path) -> Disk:
    uri = f"nbd+unix:///?socket={socket}"
    return Disk(QemuDisk(uri), FioDisk(("--ioengine=nbd", f"--uri={uri}"), flush="fsync"))


def _plugin(plugin: str, image: Path, size_bytes: int, model: str) -> list[str]:
    if plugin == "file":
        return ["file", str(sparse_file(image, size_bytes))]
    if plugin == "python":
        script = str(TOP / "benchmarks/nbdkit_memory.py")
        return ["python", script, f"size={size_bytes}", f"model={model}"]
    return [plugin, str(size_bytes), "allocator=malloc"]


@contextmanager
def nbdkit(
    plugin: str, volumes: int, size_bytes: int, scratch: Path, *, model: str = "PARALLEL"
) -> Iterator[Peer]:
    """Plugin "memory", "file" on sparse files, or "python" with this thread model."""
    program = need("nbdkit")
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory(scratch))
        pids, disks = [], []
        for number in range(volumes):
            socket, image = directory / f"s{number}", directory / f"image{number}"
            argv = [program, "-f", "-U", str(socket), *_plugin(plugin, image, size_bytes, model)]
            pids.append(stack.enter_context(running(argv, partial(listening, socket))).pid)
            disks.append(_disk(socket))
        store: Store = "file" if plugin == "file" else "memory"
        variant = "Unix socket, 16 threads" + (f", model {model}" if plugin == "python" else "")
        yield Peer(
            f"nbdkit {plugin}", "nbd", store, tuple(disks), tuple(pids), variant, copies=COPIES
        )


@contextmanager
def qemu_nbd(store: Store, volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """Store "memory": files on tmpfs; "file": in scratch, in the page cache."""
    program = need("qemu-nbd")
    aio = ["--cache=none", "--aio=native"] if store == "memory" else ["--aio=io_uring"]
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory(scratch))
        memory = store == "memory"
        images = stack.enter_context(tmpfs_directory()) if memory else directory
        pids, disks = [], []
        for number in range(volumes):
            socket = directory / f"s{number}"
            image = sparse_file(images / f"image{number}", size_bytes)
            argv = [program, "-t", "-e", "16", "-f", "raw", *aio, "-k", str(socket), str(image)]
            pids.append(stack.enter_context(running(argv, partial(listening, socket))).pid)
            disks.append(_disk(socket))
        variant = f"Unix socket, {' '.join(aio)}, {'tmpfs' if memory else 'page cache'}"
        name = "qemu-nbd" if memory else "qemu-nbd file"
        yield Peer(name, "nbd", store, tuple(disks), tuple(pids), variant, copies=COPIES)
