# SPDX-License-Identifier: MIT
"""Stores in Python for tests, and fixtures that serve them to real clients by the C server."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import shmclient
from shmserver import Extent, Server, Store

WAIT_S = 30
SIZE = 1 << 20


class One(Store):
    """One volume "vol" that reads as "r"."""

    def size(self, name):
        return {"vol": SIZE}[name]

    def list(self):
        return ["vol"]

    def pread(self, volume, buffer, offset_bytes):
        buffer[:] = b"r" * len(buffer)

    def pwrite(self, volume, buffer, offset_bytes):
        pass


@pytest.fixture
def path(short_dir: Path) -> Path:
    return short_dir / "s.sock"


@pytest.fixture
def serve(path: Path, cleanup: ExitStack) -> Callable[..., Server]:
    def make(store: Any, **options: Any) -> Server:
        return cleanup.enter_context(Server(store, socket=path, **options))

    return make


def opened(path: Path, stack: ExitStack, *, writable: bool = True) -> Any:
    connection = stack.enter_context(shmclient.connect(path))
    return stack.enter_context(connection.open("vol", writable=writable))


@pytest.fixture
def volume(path: Path, cleanup: ExitStack) -> Callable[..., Any]:
    """Opens "vol"; it is closed before the server is."""
    return lambda **options: opened(path, cleanup, **options)


def wait_unused(server: Server) -> None:
    """Until the server knows that its clients have gone."""
    with shmclient.connect(server.socket) as connection:
        for _ in range(10**6):
            if server.status()["sessions"] == 0:
                return
            connection.stat("vol")
    pytest.fail("the session does not end")


class AsyncOne(One):
    async def pread(self, volume, buffer, offset_bytes):
        await asyncio.sleep(0)
        buffer[:] = b"a" * len(buffer)


class ThreadedOne(One):
    threads = 2


class Everything(One):
    """All ops and calls, noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.sizes = {"vol": SIZE}

    def size(self, name):
        return self.sizes[name]

    def allocated(self, name):
        return 4096

    def create(self, name, size_bytes):
        self.sizes[name] = size_bytes

    def remove(self, name):
        del self.sizes[name]

    def list(self):
        return iter(self.sizes)

    def resize(self, name, size_bytes):
        self.sizes[name] = size_bytes

    def open(self, name):
        self.calls.append(("open", name))
        return self

    def close(self, volume):
        assert volume is self
        self.calls.append(("close",))

    def flush(self, volume):
        self.calls.append(("flush",))

    def discard(self, volume, length_bytes, offset_bytes):
        self.calls.append(("discard", length_bytes, offset_bytes))

    def write_zeroes(self, volume, length_bytes, offset_bytes, may_unmap):
        self.calls.append(("write_zeroes", length_bytes, offset_bytes, may_unmap))

    def block_status(self, volume, length_bytes, offset_bytes):
        yield Extent(512)
        yield Extent(SIZE, hole=True, zero=True)


MANAGEMENT = {
    "create": lambda connection: connection.create("new", 512),
    "size": lambda connection: connection.stat("vol"),
    "list": lambda connection: connection.list(),
    "open": lambda connection: connection.open("vol"),
    "remove": lambda connection: connection.remove("vol"),
    "resize": lambda connection: connection.resize("vol", 2 * SIZE),
    "allocated": lambda connection: connection.stat("vol"),
}
