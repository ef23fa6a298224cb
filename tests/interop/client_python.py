# SPDX-License-Identifier: MIT
"""The clients with the surface of shmclient, by the names of their implementations."""

from __future__ import annotations

import asyncio
import errno
import inspect
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import shmclient
import shmclient.aio
import shmclient.reference
from interop import client
from interop.client import ARENA_BYTES, WAIT_S, Event, Extent, Hello, Info, Request, Snapshot


def _hello(hello: Any) -> Hello:
    return Hello(
        hello.store,
        frozenset(hello.capabilities),
        hello.depth_max,
        hello.request_bytes_max,
        hello.range_bytes_max,
    )


def _info(info: Any) -> Info:
    return Info(
        info.name,
        info.size_bytes,
        info.block_bytes,
        info.writers,
        info.readers,
        info.snapshots,
    )


def _extents(found: Sequence[Any]) -> list[Extent]:
    """As they come: the surface itself promises to merge."""
    return [Extent(one.length_bytes, one.hole, one.zero) for one in found]


WORDS: dict[str, Any] = {"native": shmclient, "reference": shmclient.reference}


def _requests(words: Any, requests: Sequence[Request]) -> tuple[list[Any], list[bytearray | None]]:
    """In the words of shmclient, and the buffers of those that read."""
    buffers: list[bytearray | None] = []
    found: list[Any] = []
    for request in requests:
        buffer = None
        match request:
            case client.Read(length, offset):
                buffer = bytearray(length)
                found.append(words.Read(buffer, offset))
            case client.Write(data, offset, fua):
                found.append(words.Write(data, offset, fua=fua))
            case client.Flush():
                found.append(words.Flush())
            case client.Discard(length, offset):
                found.append(words.Discard(length, offset))
            case client.WriteZeroes(length, offset):
                found.append(words.WriteZeroes(length, offset))
        buffers.append(buffer)
    return found, buffers


def _results(results: Sequence[int], buffers: Sequence[bytearray | None]) -> list[bytes | int]:
    return [
        result if buffer is None or result < 0 else bytes(buffer[:result])
        for result, buffer in zip(results, buffers, strict=True)
    ]


class Connection(client.Connection):
    """connect() of shmclient with one of its implementations."""

    def __init__(self, socket: str, implementation: str = "native") -> None:
        self._words = WORDS[implementation]
        self._connection: Any = shmclient.connect(socket, implementation=implementation)

    def close(self) -> None:
        self._connection.close()

    def hello(self) -> Hello:
        return _hello(self._connection.hello)

    def create(self, name: str, size_bytes: int) -> None:
        self._connection.create(name, size_bytes)

    def remove(self, name: str) -> None:
        self._connection.remove(name)

    def resize(self, name: str, size_bytes: int) -> None:
        self._connection.resize(name, size_bytes)

    def stat(self, name: str) -> Info:
        return _info(self._connection.stat(name))

    def list(self) -> list[Info]:
        return [_info(info) for info in self._connection.list()]

    def names(self) -> list[str]:
        return [info.name for info in self._connection.list()]

    def status(self) -> dict[str, int]:
        return dict(self._connection.status()._asdict())

    def sessions(self) -> list[dict[str, Any]]:
        return [dict(info._asdict()) for info in self._connection.sessions()]

    def snapshot_create(self, volume: str, snapshot: str, timeout_s: int = 0) -> None:
        self._connection.snapshot_create(volume, snapshot, timeout_s=timeout_s)

    def snapshot_rollback(self, volume: str, snapshot: str) -> None:
        self._connection.snapshot_rollback(volume, snapshot)

    def snapshot_remove(self, volume: str, snapshot: str) -> None:
        self._connection.snapshot_remove(volume, snapshot)

    def snapshot_is_synced(self, volume: str, snapshot: str) -> bool:
        synced = self._connection.snapshot_is_synced(volume, snapshot)
        assert isinstance(synced, bool)
        return synced

    def snapshots(self, volume: str) -> list[Snapshot]:
        return [
            Snapshot(info.name, info.size_bytes) for info in self._connection.snapshot_list(volume)
        ]

    def open(self, name: str, *, writable: bool = False, depth: int = 0) -> Volume:
        options = {"writable": writable, "depth": depth, "arena_bytes": ARENA_BYTES}
        return Volume(self._connection.open(name, **options), self._words)


class Volume(client.Volume):
    def __init__(self, volume: Any, words: Any) -> None:
        self._volume = volume
        self._words = words

    def close(self) -> None:
        self._volume.close()

    def size(self) -> int:
        return int(self._volume.size_bytes)

    def read(self, length_bytes: int, offset_bytes: int) -> bytes:
        return bytes(self._volume.pread(length_bytes, offset_bytes))

    def write(self, data: bytes, offset_bytes: int, *, fua: bool = False) -> int:
        return int(self._volume.pwrite(data, offset_bytes, fua=fua))

    def flush(self) -> None:
        self._volume.flush()

    def readv(self, lengths: Sequence[int], offset_bytes: int) -> list[bytes]:
        parts = [bytearray(length) for length in lengths]
        assert self._volume.preadv(parts, offset_bytes) == sum(lengths)
        return [bytes(part) for part in parts]

    def writev(self, chunks: Sequence[bytes], offset_bytes: int) -> int:
        return int(self._volume.pwritev(chunks, offset_bytes))

    def write_shared(self, chunks: Sequence[bytes], offset_bytes: int) -> int:
        with ExitStack() as stack:
            buffers = [stack.enter_context(self._volume.buffer(len(chunk))) for chunk in chunks]
            for buffer, chunk in zip(buffers, chunks, strict=True):
                memoryview(buffer)[:] = chunk
            return int(self._volume.pwritev(buffers, offset_bytes))

    def discard(self, length_bytes: int, offset_bytes: int) -> None:
        self._volume.discard(length_bytes, offset_bytes)

    def write_zeroes(
        self, length_bytes: int, offset_bytes: int, *, may_unmap: bool = True, fua: bool = False
    ) -> None:
        self._volume.write_zeroes(length_bytes, offset_bytes, may_unmap=may_unmap, fua=fua)

    def block_status(self, length_bytes: int, offset_bytes: int) -> list[Extent]:
        return _extents(list(self._volume.block_status(length_bytes, offset_bytes)))

    def resize(self, size_bytes: int) -> None:
        self._volume.resize(size_bytes)

    def set_writable(self, writable: bool) -> None:
        self._volume.set_writable(writable)

    def pending_events(self) -> list[Event]:
        return [Event(event.kind, event.value) for event in self._volume.events()]

    def next_event(self) -> Event | None:
        try:
            event = self._volume.wait_event(WAIT_S)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.ESHUTDOWN):
                return None
            raise
        return event and Event(event.kind, event.value)

    def batch(self, requests: Sequence[Request]) -> list[bytes | int]:
        said, buffers = _requests(self._words, requests)
        return _results(self._volume.batch(said, check=False), buffers)


# ---- asyncio ----


class _Loop:
    """An event loop in a thread; stopped when the last of its users has closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asyncio")
        self._users = 1
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(3 * WAIT_S)

    def use(self) -> _Loop:
        self._users += 1
        return self

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class _Plain:
    """An object of shmclient.aio, each call of it made on its loop and waited for."""

    def __init__(self, loop: _Loop, inner: Any) -> None:
        self._loop = loop
        self._inner = inner
        self._open = True

    def __getattr__(self, name: str) -> Any:
        async def get() -> Any:
            return getattr(self._inner, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            result = getattr(self._inner, name)(*arguments, **options)
            if hasattr(result, "__aiter__"):
                return [one async for one in result]
            return await result if inspect.isawaitable(result) else result

        if callable(getattr(type(self._inner), name)):
            return lambda *arguments, **options: self._loop.run(call(*arguments, **options))
        return self._loop.run(get())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, name: str, **options: Any) -> _Plain:
        inner = self._loop.run(self._inner.open(name, **options))  # refused: no user more
        return _Plain(self._loop.use(), inner)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.__getattr__("close")()
            self._loop.leave()


def aio_as_plain(socket: str, beside: _Plain | None = None) -> _Plain:
    """A connection of shmclient.aio as if it were one of shmclient; on the loop of another?"""

    async def connect() -> Any:
        return await shmclient.aio.connect(socket)

    loop = beside._loop.use() if beside else _Loop()
    try:
        return _Plain(loop, loop.run(connect()))
    except BaseException:
        loop.leave()
        raise


class AioConnection(Connection):
    """shmclient.aio."""

    def __init__(self, socket: str) -> None:
        self._words = shmclient
        self._connection = aio_as_plain(socket)
