# SPDX-License-Identifier: MIT
"""Volumes over shared memory for asyncio.

    async with shmclient.aio.connect() as server:
        async with await server.open("demo", writable=True) as volume:
            await volume.pwrite(b"hello", 0)
            blocks = await asyncio.gather(*(volume.pread(4096, n * 4096) for n in range(1000)))

The names are those of shmclient.  What waits for the server is awaited; what does not is called as
there.  Connections and volumes belong to the loop they were made in: from another thread there is
a RuntimeError.

Reading and writing costs no thread: requests go straight into the queue, any number of them may be
on their way (those beyond its depth wait for room in order), and the loop is woken when they are
done.  The rare calls about whole volumes, and those of a connection, are made in threads.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import suppress
from os import PathLike
from typing import Any, Self, TypeVar

import shmclient
from shmclient._native import Future, LoopVolume

__all__ = ["Connection", "Future", "Volume", "connect"]

Request = (
    shmclient.Read | shmclient.Write | shmclient.Flush | shmclient.Discard | shmclient.WriteZeroes
)
Result = TypeVar("Result")


async def _in_thread(call: Callable[[], Result]) -> Result:
    """Make a call that blocks, in a thread that neither cancellation nor exit waits for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="shmclient.aio", daemon=True).start()
    return await future


class Connection:
    """A connection to a server, for management: shmclient.Connection with calls to be awaited.

    Made by connect().  Sizes, names and errors are as there.  A call that is cancelled may still be
    done.
    """

    def __init__(self, connection: shmclient.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close it; again is fine."""
        self._connection.close()

    @property
    def closed(self) -> bool:
        """Has it been closed?"""
        return self._connection.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def hello(self) -> shmclient.Hello:
        """What the server said when the connection was made."""
        return self._connection.hello

    async def status(self) -> shmclient.Status:
        """Totals since the server started."""
        return await _in_thread(self._connection.status)

    async def sessions(self) -> builtins.list[shmclient.SessionInfo]:
        """Who has which volume open, and what they have done since."""
        return await _in_thread(self._connection.sessions)

    async def create(self, name: str, size_bytes: int) -> None:
        """Create a volume that reads as zeroes; size_bytes is a multiple of 512."""
        await _in_thread(lambda: self._connection.create(name, size_bytes))

    async def remove(self, name: str) -> None:
        """Remove a volume and its snapshots.  EBUSY while anybody has it open."""
        await _in_thread(lambda: self._connection.remove(name))

    async def resize(self, name: str, size_bytes: int) -> None:
        """Grow a volume, also while it is open."""
        await _in_thread(lambda: self._connection.resize(name, size_bytes))

    async def stat(self, name: str) -> shmclient.VolumeInfo:
        """One volume."""
        return await _in_thread(lambda: self._connection.stat(name))

    async def list(self) -> builtins.list[shmclient.VolumeInfo]:
        """All volumes in order of name."""
        return await _in_thread(self._connection.list)

    async def snapshot_create(self, volume: str, snapshot: str, *, timeout_s: int = 0) -> None:
        """Make a snapshot, also while the volume is in use.

        timeout_s: wait at most so many seconds for it to be safe, else TimeoutError; 0: for ever,
        below 0: not at all.
        """
        await _in_thread(
            lambda: self._connection.snapshot_create(volume, snapshot, timeout_s=timeout_s)
        )

    async def snapshot_rollback(self, volume: str, snapshot: str) -> None:
        """Put contents and size back to what they were.  Newer snapshots are dropped."""
        await _in_thread(lambda: self._connection.snapshot_rollback(volume, snapshot))

    async def snapshot_remove(self, volume: str, snapshot: str) -> None:
        """Remove one snapshot."""
        await _in_thread(lambda: self._connection.snapshot_remove(volume, snapshot))

    async def snapshot_is_synced(self, volume: str, snapshot: str) -> bool:
        """Is it safe in the store?"""
        return await _in_thread(lambda: self._connection.snapshot_is_synced(volume, snapshot))

    async def snapshot_list(self, volume: str) -> builtins.list[shmclient.SnapshotInfo]:
        """The snapshots of a volume, oldest first."""
        return await _in_thread(lambda: self._connection.snapshot_list(volume))

    async def open(
        self, name: str, *, writable: bool = False, depth: int = 0, arena_bytes: int = 0
    ) -> Volume:
        """Open a Volume, on a session of its own that outlives this connection.

        writable: one client at a time may write, else EBUSY; EROFS: nobody may.
        depth: requests with the server at a time; arena_bytes: shared memory, a multiple of 4096,
        for Buffers and for requests on other memory; 0 for the defaults (256 and 64 MiB, or the
        server's limit if that is less).
        """
        return Volume(
            await _in_thread(
                lambda: self._connection.open(
                    name, writable=writable, depth=depth, arena_bytes=arena_bytes
                )
            ),
            asyncio.get_running_loop(),
        )


class connect:  # noqa: N801 (a function to those who use it)
    """Connect to the server at a socket's path, or at the default one.

    To be awaited, or used in `async with`, for a Connection.  Errors are those of
    shmclient.connect().
    """

    def __init__(self, socket: str | PathLike[str] | None = None) -> None:
        self._socket = socket

    async def _connect(self) -> Connection:
        return Connection(await _in_thread(lambda: shmclient.connect(self._socket)))

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._connect().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._connect()
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()


class Volume(LoopVolume):
    """An open volume, made by Connection.open(); an asynchronous context manager.

    pread(), preadinto(), preadv(), pwrite(), pwritev(), flush(), discard() and write_zeroes() take
    what they take in shmclient.Volume and return a Future of what they return there.  The request
    is on its way as soon as it has been called; whoever awaits it runs as soon as it is done.

    Memory of the caller is used until the request is done.  A Future that is cancelled, as by
    asyncio.timeout(), gives up waiting: the memory stays in use, and alive, until the server has
    answered.  When the volume is closed, what is on its way ends with OSError ENOTCONN.

    Close it before its loop ends; it belongs to that loop and its thread.
    """

    def __init__(self, volume: shmclient.Volume, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(volume, loop)
        self._loop = loop
        self._news = asyncio.Event()
        loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        self._news.set()
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; requests on their way end with OSError ENOTCONN.  Again is fine."""
        # After fork() the loop's own descriptor is the parent's too.
        if not self.closed and self._here and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)  # refuses other threads
        super().close()
        self._news.set()

    def buffer(self, length_bytes: int) -> shmclient.Buffer:
        """Allocate a Buffer in shared memory: requests on it are not copied.

        OSError ENOMEM when the arena has no room; see arena_bytes of Connection.open().
        """
        return super().buffer(length_bytes)

    def events(self) -> list[shmclient.Event]:
        """What the server has said since the last call.  Only the last 16 Events are kept."""
        return super().events()

    async def _control(self, call: Callable[[], Result]) -> Result:
        result = await _in_thread(call)
        self._news.set()  # it may have received an event while it waited for its reply
        return result

    async def stat(self) -> shmclient.VolumeInfo:
        """Ask the server about the volume."""
        return await self._control(self._stat())

    async def resize(self, size_bytes: int) -> None:
        """Grow it to size_bytes, a multiple of 512.  PermissionError to shrink."""
        await self._control(self._resize(size_bytes))

    async def set_writable(self, writable: bool) -> None:
        """Take the writer's role, or give it up.  EBUSY: somebody else has it; EROFS."""
        await self._control(self._set_writable(writable))

    async def wait_event(self, timeout_s: float | None = None) -> shmclient.Event | None:
        """Wait for the next Event; None after timeout_s seconds (None: no limit).

        OSError ENOTCONN when the session is over and all has been said.
        """
        if timeout_s is not None and not timeout_s >= 0:
            raise ValueError("timeout_s must not be negative")
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._news.clear()
                    event = self._next_event()
                    if event is not None:
                        return event
                    await self._news.wait()
                    if self.closed:
                        raise OSError(errno.ENOTCONN, "the volume was closed")
        except TimeoutError:
            return None

    async def block_status(
        self, length_bytes: int | None = None, offset_bytes: int = 0
    ) -> AsyncIterator[shmclient.Extent]:
        """Iterate over the Extents of a range; by default of the whole volume.

        Neighbours differ in kind, and together they cover the range as far as the volume goes.
        They are asked for in portions, so that what is written meanwhile may show.  EOPNOTSUPP:
        the store cannot tell.
        """
        end = self.size_bytes
        if offset_bytes < 0 or (length_bytes is not None and length_bytes < 0):
            raise ValueError("offset and length must not be negative")
        slack = -end % self.limits.block_bytes  # requests are of whole blocks
        if length_bytes is not None and offset_bytes + length_bytes < end:
            end, slack = offset_bytes + length_bytes, 0
        found: shmclient.Extent | None = None
        while offset_bytes < end:
            page = await self._extents(end - offset_bytes + slack, offset_bytes)
            if not page:
                break  # the volume has become shorter meanwhile
            for one in page:
                length = min(one.length_bytes, end - offset_bytes)
                offset_bytes += length
                if found and (found.hole, found.zero) == (one.hole, one.zero):
                    length += found.length_bytes
                elif found:
                    yield found
                start = offset_bytes - length
                found = shmclient.Extent(start, length, one.hole, one.zero)
        if found:
            yield found

    async def batch(self, requests: Iterable[Request], *, check: bool = True) -> list[int]:
        """Start many requests with one call; their results in order, when all are done.

        See shmclient.Volume.batch(): requests, check, and what is raised are as there.
        """
        results: list[int] = []
        failure: OSError | None = None
        for future in self._submit(requests):
            try:
                results.append(await future)
            except OSError as error:
                results.append(-(error.errno or errno.EIO))
                failure = failure or error
        if check and failure:
            failure.results = results  # type: ignore[attr-defined]
            raise failure
        return results
