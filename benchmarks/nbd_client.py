# SPDX-License-Identifier: MIT
"""Reads with libnbd's Python binding, as fast as it goes: the peer of python_clients.py.

    /usr/bin/python3 benchmarks/nbd_client.py SOCKET MODE DEPTH SECONDS

MODE: "loop", the binding's own event loop with a callback per request; "asyncio", its descriptor in
an asyncio loop and a future per request.  Prints requests per second and CPU in us per request.
Runs with the system's Python, whose package python3-libnbd is.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import nbd

BLOCK_BYTES = 4096


def fill(handle: Any) -> None:
    """What was never written is answered without looking."""
    chunk = bytearray(b"x" * (1 << 20))
    for offset in range(0, handle.get_size(), len(chunk)):
        handle.pwrite(chunk, offset)


def run_loop(handle: Any, depth: int, seconds: float) -> int:
    buffers = [nbd.Buffer(BLOCK_BYTES) for _ in range(depth)]
    free = list(range(depth))

    def done(index: int) -> Callable[[int], int]:
        def callback(_: int) -> int:
            free.append(index)
            return 1  # the binding forgets the request

        return callback

    callbacks = [done(index) for index in range(depth)]
    size = handle.get_size()
    offset = count = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while free:
            index = free.pop()
            handle.aio_pread(buffers[index], offset, callbacks[index])
            offset = (offset + BLOCK_BYTES) % size
            count += 1
        handle.poll(-1)
    while len(free) < depth:
        handle.poll(-1)
    return count


def run_asyncio(handle: Any, depth: int, seconds: float) -> int:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        fd = handle.aio_get_fd()
        writing = False

        def watch() -> None:
            """The library says what it waits for after each step."""
            nonlocal writing
            wants = bool(handle.aio_get_direction() & nbd.AIO_DIRECTION_WRITE)
            if wants and not writing:
                loop.add_writer(fd, writable)
            elif writing and not wants:
                loop.remove_writer(fd)
            writing = wants

        def readable() -> None:
            if handle.aio_get_direction() & nbd.AIO_DIRECTION_READ:
                handle.aio_notify_read()
            watch()

        def writable() -> None:
            if handle.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
                handle.aio_notify_write()
            watch()

        def pread(buffer: Any, offset: int) -> asyncio.Future[None]:
            future = loop.create_future()

            def callback(_: int) -> int:
                future.set_result(None)
                return 1

            handle.aio_pread(buffer, offset, callback)
            watch()
            return future

        size = handle.get_size()
        end = time.monotonic() + seconds

        async def read(start: int) -> int:
            buffer = nbd.Buffer(BLOCK_BYTES)
            offset, count = start, 0
            while time.monotonic() < end:
                await pread(buffer, offset % size)
                offset += depth * BLOCK_BYTES
                count += 1
            return count

        loop.add_reader(fd, readable)
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(loop.remove_reader, fd)
            return sum(await asyncio.gather(*(read(i * BLOCK_BYTES) for i in range(depth))))

    return asyncio.run(main())


def main() -> None:
    socket, mode, depth, seconds = sys.argv[1:]
    run = {"loop": run_loop, "asyncio": run_asyncio}[mode]
    handle = nbd.NBD()
    handle.connect_unix(socket)
    if handle.pread(1, 0) == b"\0":
        fill(handle)
    run(handle, int(depth), float(seconds) / 10)  # warm
    cpu, start = time.process_time(), time.monotonic()
    count = run(handle, int(depth), float(seconds))
    elapsed = time.monotonic() - start
    print(count / elapsed, (time.process_time() - cpu) * 1e6 / count)


if __name__ == "__main__":
    main()
