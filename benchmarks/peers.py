# SPDX-License-Identifier: MIT
"""Things that serve a disk to ``qemu-img bench``, each started and stopped as a context manager.

All use the distribution's unmodified QEMU. A peer says how qemu-img names its disk and which
processes serve it, so that their CPU can be counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
OVS_QEMU = str(TOP / "build/qemu/ovs-qemu")
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Peer:
    """A disk for qemu-img: ``prefix qemu-img bench options filename``."""

    name: str
    filename: str
    server_pids: tuple[int, ...] = ()
    prefix: tuple[str, ...] = ()
    options: tuple[str, ...] = ("-f", "raw")
    env: dict[str, str] = field(default_factory=dict)


class PeerUnavailable(Exception):
    """A peer cannot run on this machine; the text says why."""


def _need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise PeerUnavailable(f"{program} is not installed")
    return path


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            raise PeerUnavailable(f"{what} ended with status {process.returncode}")
        if time.monotonic() > deadline:
            raise PeerUnavailable(f"{what} was not ready within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.01)


@contextmanager
def running(
    argv: list[str], ready: Callable[[], bool], cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=cwd)
    try:
        _wait_until(ready, process, argv[0])
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def shm(
    store: str, size_bytes: int, scratch: Path, *, name: str | None = None, cwd: Path | None = None
) -> Iterator[Peer]:
    """Our server on a store of its own; cwd: where the module of a store in Python is."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="shm-") as directory:
        pool = Path(directory)
        socket = pool / "shm.sock"
        (pool / "pool").mkdir()
        ready = pool / "ready"
        server = [sys.executable, "-m", "shmserver", "--store", store, "--socket", str(socket)]
        server += ["--pool", str(pool / "pool"), "--ready-file", str(ready), "--log-level", "error"]
        env = {"OVS_SHM_SOCKET": str(socket)}
        with running(server, ready.exists, cwd) as process:
            create = [OVS_QEMU, "qemu-img", "create", "-q", "openvstorage:bench", str(size_bytes)]
            subprocess.run(create, check=True, env=os.environ | env, timeout=START_TIMEOUT_S)
            yield Peer(
                name or f"shm {store}",
                "openvstorage:bench",
                (process.pid,),
                prefix=(OVS_QEMU,),
                env=env,
            )


@contextmanager
def nbdkit(plugin: str, size_bytes: int, scratch: Path, *more: str) -> Iterator[Peer]:
    """nbdkit over a Unix socket: plugin "memory", "file" on a sparse file, or "python"; `more`:
    further arguments of the plugin."""
    _need("nbdkit")
    with tempfile.TemporaryDirectory(dir=scratch, prefix="nbd-") as name:
        socket = Path(name) / "nbd.sock"
        arguments = [str(size_bytes)]
        if plugin == "file":
            image = Path(name) / "image"
            image.touch()
            os.truncate(image, size_bytes)
            arguments = [str(image)]
        elif plugin == "python":
            arguments = [str(TOP / "benchmarks/nbdkit_memory.py"), f"size={size_bytes}"]
        argv = ["nbdkit", "-f", "-U", str(socket), plugin, *arguments, *more]
        with running(argv, socket.exists) as process:
            title = " ".join(["nbdkit", plugin, *more])
            yield Peer(title, f"nbd+unix:///?socket={socket}", (process.pid,))


@contextmanager
def qsd_fuse(size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """qemu-storage-daemon's FUSE export of a sparse file; direct, native asynchronous I/O."""
    _need("qemu-storage-daemon")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise PeerUnavailable("/dev/fuse cannot be opened")
    with tempfile.TemporaryDirectory(dir=scratch, prefix="fuse-") as name:
        image, mount = Path(name) / "image", Path(name) / "export"
        image.touch()
        os.truncate(image, size_bytes)
        mount.touch()
        export = f"type=fuse,id=e,node-name=n,mountpoint={mount},writable=on,allow-other=off"
        argv = ["qemu-storage-daemon", "--blockdev"]
        argv += [f"driver=file,node-name=n,filename={image}", "--export", export]
        with running(argv, lambda: mount.stat().st_size == size_bytes) as process:
            options = ("-f", "raw", "-t", "none", "-n")
            yield Peer("FUSE (qsd)", str(mount), (process.pid,), options=options)


@contextmanager
def null_co(size_bytes: int, scratch: Path) -> Iterator[Peer]:
    """QEMU's own ceiling: a driver that does nothing, in qemu-img's process."""
    del scratch
    node = {"driver": "raw", "file": {"driver": "null-co", "size": size_bytes}}
    yield Peer("null-co", "json:" + json.dumps(node), options=())
