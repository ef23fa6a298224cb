# SPDX-License-Identifier: MIT
"""Stores in Python: the memory of requests, which is shared with a client."""

import errno
import gc
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from python_stores import WAIT_S, AsyncOne, One, ThreadedOne, path, serve, volume, wait_unused

__all__ = ["path", "serve", "volume"]


class Keeper(One):
    """Keeps every buffer it sees."""

    def __init__(self) -> None:
        self.kept: list[memoryview] = []

    def pread(self, volume, buffer, offset_bytes):
        buffer[:] = b"r" * len(buffer)
        self.kept.append(buffer)

    def pwrite(self, volume, buffer, offset_bytes):
        self.kept.append(buffer)


def test_buffers_are_flat_bytes_that_only_reads_may_fill(serve, volume):
    store = Keeper()
    serve(store)
    vol = volume()
    vol.pread(512, 0)
    vol.pwrite(b"w" * 512, 0)
    filled, given = store.kept
    for view in (filled, given):
        assert (view.nbytes, view.ndim, view.format, view.contiguous) == (512, 1, "B", True)
    assert not filled.readonly
    assert given.readonly
    with pytest.raises(TypeError):
        given[0] = 1


def client_memory() -> set[str]:
    """Mappings of memory that is shared with clients."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[0] for line in lines if "/memfd:ovsshm " in line}


def run_client(path: Path, code: str) -> None:
    """A client in a process of its own, which has ended, not closed its volume, on return."""
    text = (
        "import os, shmclient\n"
        f"connection = shmclient.connect({str(path)!r})\n"
        "volume = connection.open('vol', writable=True)\n"
        f"{code}\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=WAIT_S)


def test_view_outlives_request_client_and_server(serve):
    store = Keeper()
    before = client_memory()
    server = serve(store)
    run_client(Path(server.socket), "volume.pread(4096, 0); volume.pwrite(b'w' * 4096, 0)")
    wait_unused(server)
    assert len(client_memory() - before) == 1
    read, written = store.kept
    assert bytes(written[:4]) == b"wwww"
    server.close()
    part = memoryview(read)[1:2]
    store.kept.clear()
    read[1] = 7
    del read, written
    assert part[0] == 7
    assert len(client_memory() - before) == 1
    del part
    assert client_memory() == before


def test_view_kept_by_a_traceback_is_safe(serve, volume):
    class Raising(One):
        def pread(self, volume, buffer, offset_bytes):
            self.error = ValueError()
            raise self.error

    store = Raising()
    server = serve(store)
    vol = volume()
    with pytest.raises(OSError, match="Input/output"):
        vol.pread(4096, 0)
    vol.close()
    server.close()
    frames = list(traceback.walk_tb(store.error.__traceback__))
    assert len(bytes(frames[-1][0].f_locals["buffer"])) == 4096


def test_exporter_gives_no_memory_after_its_request(serve, volume):
    class Sly(One):
        objects: list[Any] = []  # noqa: RUF012

        def pread(self, volume, buffer, offset_bytes):
            self.objects.append(buffer.obj)

    serve(Sly())
    vol = volume()
    vol.pread(512, 0)
    vol.pread(512, 0)
    first, second = Sly.objects
    assert first is not second
    for exporter in (first, second):
        with pytest.raises(BufferError):
            memoryview(exporter)


def test_view_that_the_store_releases_itself(serve, volume):
    class Releasing(One):
        def pread(self, volume, buffer, offset_bytes):
            super().pread(volume, buffer, offset_bytes)
            buffer.release()

    serve(Releasing())
    vol = volume()
    for _ in range(3):
        assert vol.pread(16, 0) == b"r" * 16


def leaks(run: Callable[[int], None], count: int) -> tuple[int, int]:
    """Growth of objects and of bytes over `count` runs, after a few to fill caches."""

    def now() -> tuple[int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return sys.getallocatedblocks(), pages * 4096

    run(count // 10)
    before = now()
    run(count)
    after = now()
    return after[0] - before[0], after[1] - before[1]


class Batched(One):
    def submit(self, requests):
        for request in requests:
            buffer = request.buffer
            buffer[:] = b"b" * len(buffer)
            request.complete()


class TimedOne(One):
    deadline_s = 1000.0


class FailingOne(One):
    def pread(self, volume, buffer, offset_bytes):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize(
    ("store", "count"),
    [
        (One(), 100_000),
        (Batched(), 10_000),
        (AsyncOne(), 5_000),
        (ThreadedOne(), 5_000),
        (TimedOne(), 5_000),
        (FailingOne(), 5_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_requests_leave_nothing_behind(serve, volume, store, count):
    serve(store)
    vol = volume()
    data = bytearray(4096)

    def run(count: int) -> None:
        for _ in range(count):
            with suppress(OSError):
                vol.preadinto(data, 0)

    blocks, size = leaks(run, count)
    assert blocks < 500
    assert size < 2 << 20
