# SPDX-License-Identifier: MIT
"""Ways to serve disks that are measured beside each other: PEERS, by name.

Each is started as a context manager in its strongest form and raises PeerUnavailable, with the
reason, where it cannot run.
"""

from __future__ import annotations

from functools import partial

from benchmarks.peers.base import (
    Disk,
    FioDisk,
    Maker,
    Peer,
    PeerUnavailable,
    QemuDisk,
    pinned,
    running,
)
from benchmarks.peers.fuse import makers as fuse_makers
from benchmarks.peers.historical import historical
from benchmarks.peers.local import null_co, plain_file
from benchmarks.peers.nbd import nbdkit, qemu_nbd
from benchmarks.peers.qsd import qsd_fuse, vhost_user_blk
from benchmarks.peers.shm import shm

__all__ = [
    "PEERS",
    "Disk",
    "FioDisk",
    "Maker",
    "Peer",
    "PeerUnavailable",
    "QemuDisk",
    "nbdkit",
    "running",
    "shm",
]

PEERS: dict[str, Maker] = {
    "shm memory": partial(shm, "memory"),
    "shm memory events": partial(shm, "memory", events=True),
    "shm file": partial(shm, "file"),
    "shm null": partial(shm, "null"),
    **fuse_makers("memory"),
    **fuse_makers("file"),
    "qsd FUSE": partial(qsd_fuse, "memory"),
    "qsd FUSE file": partial(qsd_fuse, "file"),
    "vhost-user-blk": partial(vhost_user_blk, "memory"),
    "vhost-user-blk null": partial(vhost_user_blk, "null"),
    "nbdkit memory": partial(nbdkit, "memory"),
    "nbdkit file": partial(nbdkit, "file"),
    "nbdkit python": partial(nbdkit, "python"),
    "qemu-nbd": partial(qemu_nbd, "memory"),
    "qemu-nbd file": partial(qemu_nbd, "file"),
    "historical": historical,
    "plain file": plain_file,
    "null-co": null_co,
}


def _add_pinned(name: str) -> None:
    maker = PEERS[name]
    PEERS[f"{name} one CPU"] = pinned(maker, f"{name} one CPU", apart=False)
    PEERS[f"{name} one CPU each"] = pinned(maker, f"{name} one CPU each", apart=True)


for _name in ("shm memory", "shm memory events", "nbdkit memory", "historical"):
    _add_pinned(_name)
