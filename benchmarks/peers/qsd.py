# SPDX-License-Identifier: MIT
"""Exports of qemu-storage-daemon: FUSE, and vhost-user-blk with libblkio's driver for clients."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import TOP
from benchmarks.peers.base import (
    Disk,
    Peer,
    PeerUnavailable,
    QemuDisk,
    Store,
    listening,
    need_fuse,
    running,
    scratch_directory,
    sparse_file,
    tmpfs_directory,
    unmount_left,
)
from benchmarks.peers.local import direct_disk

QEMU10_TIMEOUT_S = 180.0  # downloads 50 MB at the first use
POLL_NS = 100_000  # as our server's --spin-max


def _qemu10() -> str:
    """The directory of the programs of a QEMU that can do what both exports need."""
    try:
        done = subprocess.run(
            [str(TOP / "scripts/qemu10")], capture_output=True, text=True, timeout=QEMU10_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        limit = f"{QEMU10_TIMEOUT_S:.0f} s"
        raise PeerUnavailable(f"QEMU 10 could not be downloaded within {limit}") from None
    if done.returncode:
        reason = " ".join(done.stderr.split("\n")[-2:]).strip()
        raise PeerUnavailable(f"there is no QEMU 10: {reason}")
    return done.stdout.strip()


def _version() -> str:
    argv = [f"{_qemu10()}/qemu-storage-daemon", "--version"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "10"


def _backend(store: Store, number: int, size_bytes: int, images: Path) -> str:
    node = f"node-name=n{number}"
    if store == "null":
        return f"driver=null-co,{node},size={size_bytes},read-zeroes=off"
    image = sparse_file(images / f"image{number}", size_bytes)
    aio = "aio=native,cache.direct=on" if store == "memory" else "aio=io_uring"
    return f"driver=file,{node},filename={image},{aio}"


def _daemon(volumes: int) -> tuple[list[str], int]:
    """Its command with iothreads t0, t1, ..., which poll; and how many these are."""
    threads = min(volumes, len(os.sched_getaffinity(0)))
    argv = [f"{_qemu10()}/qemu-storage-daemon"]
    for number in range(threads):
        argv += ["--object", f"iothread,id=t{number},poll-max-ns={POLL_NS}"]
    return argv, threads


@contextmanager
def qsd_fuse(store: Store, volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """Its FUSE export. Store "memory": files on tmpfs; "file": in scratch, in the page cache.

    Of QEMU 10: the export of Debian 12's QEMU 7.2 mixes up data of writes that are in flight at the
    same time, which `fio --verify` finds at once.
    """
    need_fuse()
    argv, threads = _daemon(volumes)
    memory = store == "memory"
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory(scratch))
        images = stack.enter_context(tmpfs_directory()) if memory else directory
        mounts = [directory / f"export{number}" for number in range(volumes)]
        stack.callback(unmount_left, *mounts)
        for number, mount in enumerate(mounts):
            mount.touch()
            argv += ["--blockdev", _backend(store, number, size_bytes, images)]
            argv += ["--export", f"type=fuse,id=e{number},node-name=n{number},writable=on,"]
            argv[-1] += f"iothread=t{number % threads},allow-other=off,mountpoint={mount}"

        backing = "tmpfs, native aio" if memory else "page cache, io_uring"

        def ready() -> bool:
            return all(mount.stat().st_size == size_bytes for mount in mounts)

        process = stack.enter_context(running(argv, ready))
        yield Peer(
            "qsd FUSE" if memory else "qsd FUSE file",
            "fuse",
            store,
            tuple(direct_disk(mount) for mount in mounts),
            (process.pid,),
            variant=f"QEMU {_version()}, polling iothread, {backing}",
            copies={"read": 2, "write": 2},
        )


@contextmanager
def vhost_user_blk(store: Store, volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """QEMU 10 on both sides. Store "memory": files on tmpfs; "null": the daemon does nothing."""
    argv, threads = _daemon(volumes)
    env = {"PATH": f"{Path(argv[0]).parent}:{os.environ['PATH']}"}
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory(scratch))
        images = stack.enter_context(tmpfs_directory()) if store == "memory" else directory
        sockets = [directory / f"s{number}" for number in range(volumes)]
        for number, socket in enumerate(sockets):
            argv += ["--blockdev", _backend(store, number, size_bytes, images), "--export"]
            argv += [f"type=vhost-user-blk,id=e{number},node-name=n{number},writable=on,"]
            argv[-1] += f"iothread=t{number % threads},addr.type=unix,addr.path={socket}"

        def ready() -> bool:
            return all(listening(socket) for socket in sockets)

        process = stack.enter_context(running(argv, ready))
        client = "driver=virtio-blk-vhost-user,cache.direct=on,path="
        null = store == "null"
        backing = "null-co" if null else "tmpfs, native aio"
        yield Peer(
            "vhost-user-blk null" if null else "vhost-user-blk",
            "vhost-user",
            store,
            tuple(
                Disk(QemuDisk(f"{client}{socket}", options=("--image-opts",), env=env))
                for socket in sockets
            ),
            (process.pid,),
            variant=f"QEMU {_version()}, polling iothread, {backing}",
            # The client's own, through a bounce buffer in shared memory; and that of tmpfs.
            copies={"read": 1 if null else 2, "write": 1 if null else 2},
        )
