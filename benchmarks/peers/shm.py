# SPDX-License-Identifier: MIT
"""This project's server, its volumes opened over shared memory by the stock QEMU and by fio."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import shmclient
from benchmarks import TOP
from benchmarks.peers.base import (
    Disk,
    FioDisk,
    Peer,
    PeerUnavailable,
    QemuDisk,
    Store,
    running,
    scratch_directory,
)

OVS_QEMU = TOP / "build/qemu/ovs-qemu"
FIO_ENGINE = TOP / "build/release/fio/openvstorage.so"

STORES: dict[str, Store] = {"memory": "memory", "file": "file", "null": "null"}
# The store's copy between its memory (or the page cache) and the shared one; the client's between
# that and the buffer of its user, which fio's engine has in the shared memory to begin with.
STORE_COPIES = {"memory": 1, "file": 1, "null": 0}
NO_POLLING = {"OVS_SHM_SPIN_NS": "0"}


def _disk(volume: str, socket: Path, copies: int, events: bool) -> Disk:
    env = NO_POLLING if events else {}
    qemu = QemuDisk(f"openvstorage:{volume}:socket={socket}", prefix=(str(OVS_QEMU),), env=env)
    if not FIO_ENGINE.exists():
        return Disk(qemu)
    arguments = [f"--ioengine=external:{FIO_ENGINE}", f"--filename={volume}", f"--socket={socket}"]
    arguments += ["--poll=0"] if events else []
    return Disk(qemu, FioDisk(tuple(arguments), copies={"read": copies, "write": copies}))


@contextmanager
def shm(
    store: str,
    volumes: int,
    size_bytes: int,
    scratch: Path,
    *,
    name: str | None = None,
    events: bool = False,
    cwd: Path | None = None,
) -> Iterator[Peer]:
    """``events``: neither side ever polls; ``cwd``: where the module of a store in Python is."""
    if not OVS_QEMU.exists():
        raise PeerUnavailable(f"{OVS_QEMU} is not built: make preload")
    with scratch_directory(scratch) as directory:
        socket, ready, pool = directory / "s", directory / "ready", directory / "pool"
        pool.mkdir()
        server = [sys.executable, "-m", "shmserver", "--store", store, "--socket", str(socket)]
        server += ["--pool", str(pool), "--ready-file", str(ready), "--log-level", "error"]
        server += ["--spin-max", "0"] if events else []
        with running(server, ready.exists, cwd) as process:
            names = [f"bench{number}" for number in range(volumes)]
            with shmclient.connect(socket) as connection:
                for volume in names:
                    connection.create(volume, size_bytes)
            copies = STORE_COPIES.get(store, 1)
            yield Peer(
                name or f"shm {store}" + (" events" if events else ""),
                "shm",
                STORES.get(store, "memory"),
                tuple(_disk(volume, socket, copies, events) for volume in names),
                (process.pid,),
                variant="sleeps, never polls" if events else "self-tuning polling",
                server_socket=socket,
                copies={"read": copies + 1, "write": copies + 1},
            )
