# SPDX-License-Identifier: MIT
"""What a peer is, and what all of them share: programs started, watched and stopped in time.

A peer serves disks to load generators. It says how each loader names a disk, which processes serve
it (so that their CPU can be counted), and how often it copies the payload.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

TMPFS = Path("/dev/shm")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0

Family = Literal["shm", "fuse", "nbd", "vhost-user", "historical", "file", "null"]
Store = Literal["memory", "file", "null", "none"]


@dataclass(frozen=True)
class QemuDisk:
    """``prefix qemu-img bench options filename``, and the same with qemu-io."""

    filename: str
    prefix: tuple[str, ...] = ()
    options: tuple[str, ...] = ("-f", "raw")
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FioDisk:
    """``prefix fio arguments``, without what makes the load."""

    arguments: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    copies: Mapping[str, float] | None = None
    """Where they differ from the peer's."""
    flush: Literal["fdatasync", "fsync"] = "fdatasync"
    """Which of fio's options its engine takes."""


@dataclass(frozen=True)
class Disk:
    """One volume, for each loader that can use it."""

    qemu: QemuDisk | None = None
    fio: FioDisk | None = None


@dataclass(frozen=True)
class Peer:
    """A running way to serve disks."""

    name: str
    family: Family
    store: Store
    disks: tuple[Disk, ...]
    server_pids: tuple[int, ...] = ()
    variant: str = ""
    """How it is set up, in words."""

    server_socket: Path | None = None
    """Of our own server, which counts doorbells."""

    copies: Mapping[str, float] = field(default_factory=dict)
    """Times a CPU copies the payload of a "read" and of a "write", kernel and client included."""


Maker = Callable[[int, int, Path], AbstractContextManager[Peer]]
"""(volumes, bytes of each, scratch directory) -> the running peer."""


class PeerUnavailable(Exception):
    """A peer cannot run on this machine; the text says why."""


def need(program: str) -> str:
    """Path of a program; PeerUnavailable when it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise PeerUnavailable(f"{program} is not installed")
    return path


def need_fuse() -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise PeerUnavailable("/dev/fuse cannot be opened")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")


def _wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str, log: Path
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            status = process.returncode
            raise PeerUnavailable(f"{what} ended with status {status}{_last_line(log)}")
        if time.monotonic() > deadline:
            limit = f"{START_TIMEOUT_S:.0f} s"
            raise PeerUnavailable(f"{what} was not ready within {limit}{_last_line(log)}")
        time.sleep(0.01)


def listening(socket: Path) -> bool:
    """There is a moment when the file is there and nobody listens yet. Connects to nobody."""
    accepting = "00010000"  # __SO_ACCEPTCON
    sockets = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    words = (line.split() for line in sockets if line.endswith(f" {socket}"))
    return any(one[3] == accepting for one in words)


@contextmanager
def running(
    argv: list[str],
    ready: Callable[[], bool],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server; PeerUnavailable with its last words when it does not get ready in time."""
    with tempfile.NamedTemporaryFile(prefix="ovs-bench-log-") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
        try:
            _wait_until(ready, process, Path(argv[0]).name, Path(log.name))
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """With a short name: sockets are in it."""
    with tempfile.TemporaryDirectory(dir=parent, prefix="peer-") as name:
        yield Path(name)


def tmpfs_directory() -> AbstractContextManager[Path]:
    """For a peer whose memory store is a file."""
    if not TMPFS.is_dir():
        raise PeerUnavailable(f"there is no {TMPFS}")
    return scratch_directory(TMPFS)


def sparse_file(path: Path, size_bytes: int) -> Path:
    path.touch()
    os.truncate(path, size_bytes)
    return path


def unmount_left(*mounts: Path) -> None:
    """What a server that had to be killed leaves."""
    mounted = Path("/proc/self/mounts").read_text().split()
    for mount in mounts:
        if str(mount) in mounted:
            subprocess.run(["umount", "--lazy", str(mount)], timeout=STOP_TIMEOUT_S, check=False)


def _pin(pid: int, cpu: int) -> None:
    """All threads; those still to come inherit it. Again until no thread is new."""
    seen: set[str] = set()
    while new := {task.name for task in Path(f"/proc/{pid}/task").iterdir()} - seen:
        for thread in new:
            os.sched_setaffinity(int(thread), {cpu})
        seen |= new


def _client_on(disk: Disk, cpu: int) -> Disk:
    taskset = (need("taskset"), "-c", str(cpu))
    qemu = disk.qemu and replace(disk.qemu, prefix=(*taskset, *disk.qemu.prefix))
    fio = disk.fio and replace(disk.fio, prefix=(*taskset, *disk.fio.prefix))
    return Disk(qemu, fio)


def pinned(maker: Maker, name: str, *, apart: bool) -> Maker:
    """The same with client and server on one CPU, or each on one of its own (``apart``)."""

    @contextmanager
    def make(volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
        cpus = sorted(os.sched_getaffinity(0))
        if apart and len(cpus) < 2:
            raise PeerUnavailable("there is only one CPU")
        client, server = cpus[0], cpus[1 if apart else 0]
        with maker(volumes, size_bytes, scratch) as peer:
            for pid in peer.server_pids:
                _pin(pid, server)
            where = "one CPU each" if apart else "both ends on one CPU"
            yield replace(
                peer,
                name=name,
                variant=", ".join(filter(None, [peer.variant, where])),
                disks=tuple(_client_on(disk, client) for disk in peer.disks),
            )

    return make
