# SPDX-License-Identifier: MIT
"""shmclient.aio: every call awaited, thousands on their way, cancelled, closed, lost."""

import asyncio
import contextlib
import errno
import gc
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import ServerProcess

import shmclient
from shmclient import Discard, Flush, Read, Write, WriteZeroes, aio
from shmserver import Server

MIB = 1 << 20
WAIT_S = 60

Body = Callable[[aio.Volume], Awaitable[Any]]


@pytest.fixture
def path(short_dir: Path, cleanup) -> Path:
    cleanup.enter_context(Server("memory", socket=short_dir / "s.sock"))
    return short_dir / "s.sock"


@pytest.fixture
def never(server: Callable[..., ServerProcess]) -> Iterator[Path]:
    """A server that completes writes and no reads, and would wait for them when it is stopped."""
    process = server("--store", "fault", "--store-option", "never-op=read")
    yield process.socket
    process.kill()


@asynccontextmanager
async def volume_of(path: Path, **options: Any) -> AsyncIterator[aio.Volume]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(aio.connect(path))
        await server.create("vol", 4 * MIB)
        yield await stack.enter_async_context(await server.open("vol", writable=True, **options))


def on_volume(path: Path, body: Body, **options: Any) -> Any:
    """Runs a coroutine function on an open volume, with a time limit."""

    async def main() -> Any:
        async with asyncio.timeout(WAIT_S), volume_of(path, **options) as volume:
            return await body(volume)

    return asyncio.run(main())


# ---- what the calls do ----


def test_every_request_can_be_awaited(path):
    async def body(volume):
        data = os.urandom(100_001)
        assert await volume.pwrite(data, 12_345) == len(data)
        assert await volume.pwrite(memoryview(data)[:512], 0, fua=True) == 512
        assert await volume.flush() is None
        assert await volume.pread(len(data), 12_345) == data
        buffer = bytearray(600)
        assert await volume.preadinto(buffer, 0) == 600
        assert buffer == data[:512] + bytes(88)
        assert await volume.pwritev([b"one", b"two"], 0) == 6
        parts = [bytearray(2), bytearray(4)]
        assert await volume.preadv(parts, 0) == 6
        assert parts == [b"on", b"etwo"]
        assert await volume.write_zeroes(3, 1, may_unmap=False) is None
        assert await volume.pread(6, 0) == b"o\0\0\0wo"
        assert await volume.discard(4096, 0) is None
        assert await volume.pread(0, 0) == b""
        assert await volume.pread(100, 4 * MIB - 1) == b"\0"
        with volume.buffer(4096) as shared:
            memoryview(shared)[:] = b"s" * 4096
            assert await volume.pwrite(shared, 8192) == 4096
            assert await volume.preadinto(memoryview(shared)[1:], 8192) == 4095
        assert (volume.name, volume.writable, volume.size_bytes) == ("vol", True, 4 * MIB)
        assert volume.limits.depth == 256

    on_volume(path, body)


def test_calls_of_connection_and_volume_can_be_awaited(path):
    async def main():
        server = await aio.connect(path)
        assert server.hello.store == "memory"
        await server.create("a", MIB)
        await server.create("b", MIB)
        await server.resize("b", 2 * MIB)
        assert [one.name for one in await server.list()] == ["a", "b"]
        assert (await server.stat("b")).size_bytes == 2 * MIB
        await server.snapshot_create("a", "s", timeout_s=5)
        assert await server.snapshot_is_synced("a", "s")
        assert [one.name for one in await server.snapshot_list("a")] == ["s"]
        await server.snapshot_rollback("a", "s")
        await server.snapshot_remove("a", "s")
        async with await server.open("b", depth=3) as volume:
            assert volume.limits.depth == 3
            assert not volume.writable
            await volume.set_writable(True)
            assert volume.writable
            await volume.resize(3 * MIB)
            assert (await volume.stat()).size_bytes == 3 * MIB
            assert [one.volume for one in await server.sessions()] == ["b"]
            with pytest.raises(OSError, match="open") as caught:
                await server.remove("b")
            assert caught.value.errno == errno.EBUSY
        await server.remove("a")
        assert (await server.status()).requests == 0
        server.close()
        assert server.closed
        with pytest.raises(ValueError, match="closed"):
            await server.list()
        with pytest.raises(FileNotFoundError):
            await aio.connect(path.with_name("none"))

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_batch_and_block_status(path):
    async def body(volume):
        into = bytearray(512)
        requests = [Write(b"x" * 512, 0), WriteZeroes(512, 512), Discard(512, 1024), Flush()]
        assert await volume.batch(requests) == [512, 0, 0, 0]
        assert await volume.batch([Read(into, 0)]) == [512]
        assert into == b"x" * 512
        bad = [Read(into, 0), Write(b"x", 4 * MIB), Read(into, 2**63 - 1)]
        expected = [512, -errno.EFBIG, -errno.EINVAL]
        assert await volume.batch(bad, check=False) == expected
        with pytest.raises(OSError, match="write of 1 bytes at 4194304") as caught:
            await volume.batch(bad)
        assert caught.value.results == expected
        with pytest.raises(BufferError):
            await volume.batch([Write(b"y" * 512, 0), Read(b"const", 0)])
        assert await volume.pread(1, 0) == b"x"

        await volume.batch([Write(b"x" * 4096, at) for at in range(0, 4 * MIB, 8192)])
        extents = [one async for one in volume.block_status()]
        assert len(extents) == 4 * MIB // 4096
        for before, after in pairwise(extents):
            assert before.offset_bytes + before.length_bytes == after.offset_bytes
            assert before.hole != after.hole
        part = [one async for one in volume.block_status(8192, 4096 + 512)]
        assert [(one.offset_bytes, one.length_bytes, one.hole) for one in part] == [
            (4608, 3584, True),
            (8192, 4096, False),
            (12288, 512, True),
        ]
        assert [one async for one in volume.block_status(1, 4 * MIB)] == []
        for bad_range in ((-1, 0), (1, -1)):
            with pytest.raises(ValueError, match="negative"):
                _ = [one async for one in volume.block_status(*bad_range)]

    on_volume(path, body)


def test_events_are_awaited(path):
    async def body(volume):
        assert await volume.wait_event(0) is None
        with pytest.raises(ValueError, match="negative"):
            await volume.wait_event(-1)
        with shmclient.connect(path) as other:
            waiting = [asyncio.ensure_future(volume.wait_event()) for _ in range(2)]
            await asyncio.sleep(0)
            other.resize("vol", 8 * MIB)
            done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            (event,) = (one.result() for one in done)
            assert (event.kind, event.value) == ("resized", 8 * MIB)
            other.resize("vol", 9 * MIB)
            (late,) = pending
            assert (await late).value == 9 * MIB
        await volume.resize(10 * MIB)
        assert (await volume.wait_event()).value == 10 * MIB
        await volume.resize(11 * MIB)
        assert [one.value for one in volume.events()] == [11 * MIB]
        last = asyncio.ensure_future(volume.wait_event())
        await asyncio.sleep(0)
        volume.close()
        with pytest.raises(OSError, match="closed") as caught:
            await last
        assert caught.value.errno == errno.ENOTCONN

    on_volume(path, body)


def test_refusals_are_raised_where_they_are_awaited(path):
    async def body(volume):
        for request, number in (
            (volume.pwrite(b"xx", 4 * MIB - 1), errno.EFBIG),
            (volume.pread(1, 2**63 - 1), errno.EINVAL),
        ):
            with pytest.raises(OSError, match=r"of volume|beyond") as caught:
                await request
            assert caught.value.errno == number
            assert request.exception() is caught.value
        await volume.set_writable(False)
        with pytest.raises(OSError, match="not open for writing") as caught:
            await volume.pwrite(b"x", 0)
        assert caught.value.errno == errno.EBADF

    on_volume(path, body)


# ---- many at once ----


@pytest.mark.parametrize("depth", [1, 5, 256])
def test_thousands_on_their_way_beyond_the_depth_of_the_queue(path, depth):
    async def body(volume):
        count = 4 * MIB // 512
        blocks = [number.to_bytes(4, "little") * 128 for number in range(count)]
        await asyncio.gather(*(volume.pwrite(one, 512 * i) for i, one in enumerate(blocks)))
        found = await asyncio.gather(*(volume.pread(512, 512 * i) for i in range(count)))
        assert found == blocks

    on_volume(path, body, depth=depth)


def test_more_than_the_arena_holds_waits_for_room(path):
    async def body(volume):
        await volume.pwrite(b"z" * MIB, 0)
        found = await asyncio.gather(*(volume.pread(MIB, 0) for _ in range(20)))
        assert set(found) == {b"z" * MIB}
        with volume.buffer(2 * MIB), pytest.raises(OSError, match="arena") as caught:
            await volume.pread(1, 0)
        assert caught.value.errno == errno.ENOMEM

    on_volume(path, body, arena_bytes=2 * MIB)


def test_requests_are_served_in_the_order_they_were_made(path):
    """With room for one at a time, none is overtaken."""

    async def body(volume):
        order: list[int] = []

        async def one(number: int) -> None:
            await volume.pwrite(b"x", number)
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(500)))
        assert order == list(range(500))

    on_volume(path, body, depth=1)


def test_a_busy_volume_does_not_starve_the_loop(path):
    async def body(volume):
        stop = False

        async def read() -> int:
            count = 0
            while not stop:
                await volume.pread(512, 0)
                count += 1
            return count

        readers = [asyncio.ensure_future(read()) for _ in range(64)]
        for _ in range(100):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        stop = True
        counts = await asyncio.gather(*readers)
        assert min(counts) > 0

    on_volume(path, body)


def test_a_slow_store_is_waited_for_asleep(server):
    slow = server("--store", "fault", "--store-option", "delay-ms=30")

    async def body(volume):
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.gather(*(volume.pread(512, 512 * i) for i in range(100)))
        assert loop.time() - before >= 0.03
        for _ in range(3):
            await volume.pwrite(b"x", 0)

    on_volume(slow.socket, body)


# ---- futures ----


def test_futures_have_the_interface_of_asyncio(path):
    async def body(volume):
        future = volume.pread(512, 0)
        assert asyncio.isfuture(future)
        assert future.get_loop() is asyncio.get_running_loop()
        assert not future.done()
        with pytest.raises(asyncio.InvalidStateError):
            future.result()
        calls = []
        future.add_done_callback(lambda one: calls.append(("first", one)))
        future.add_done_callback(lambda one: calls.append(("second", one)))
        forget = lambda one: calls.append(("never", one))  # noqa: E731
        future.add_done_callback(forget)
        assert future.remove_done_callback(forget) == 1
        assert await asyncio.wait_for(future, WAIT_S) == bytes(512)
        assert await future == bytes(512)
        assert future.done()
        assert not future.cancelled()
        assert future.exception() is None
        assert not future.cancel()
        future.add_done_callback(lambda one: calls.append(("late", one)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [(word, one is future) for word, one in calls] == [
            ("first", True),
            ("second", True),
            ("late", True),
        ]
        assert await asyncio.shield(volume.pread(1, 0)) == b"\0"
        done, pending = await asyncio.wait([volume.pread(1, 0), volume.pread(2, 0)])
        assert {one.result() for one in done} == {b"\0", b"\0\0"}
        assert not pending
        both = volume.pread(3, 0)
        assert await asyncio.gather(both, both) == [b"\0" * 3] * 2
        for first in asyncio.as_completed([volume.pread(4, 0)]):
            assert await first == b"\0" * 4
        async with asyncio.TaskGroup() as group:
            task = group.create_task(wait_for_it(volume.pread(5, 0)))
        assert task.result() == b"\0" * 5

    on_volume(path, body)


async def wait_for_it(future: Any) -> Any:
    return await future


def test_removing_one_callback_keeps_who_awaits(path):
    """asyncio.wait() removes its callbacks when its time is over; nobody adds another one then."""

    async def body(volume):
        future = volume.pread(512, 0)
        calls = []
        forget = lambda _: calls.append("never")  # noqa: E731
        future.add_done_callback(lambda _: calls.append("kept"))
        future.add_done_callback(forget)
        assert future.remove_done_callback(forget) == 1
        await volume.pread(512, 0)
        await asyncio.sleep(0)
        assert future.done()
        assert calls == ["kept"]

    on_volume(path, body)


def test_a_failure_that_is_forgotten_leaves_nothing_behind(path):
    """The exception knows the frame, the frame the future, and the future the exception."""

    class Local:
        pass

    async def fail(volume: aio.Volume) -> weakref.ref[Local]:
        local = Local()
        future = volume.discard(512, 4 * MIB)
        with contextlib.suppress(OSError):
            await future
        assert future.exception() is not None
        return weakref.ref(local)

    async def body(volume):
        seen = await fail(volume)
        await asyncio.sleep(0)  # out of the callback that the future has run
        gc.collect()
        assert seen() is None

    on_volume(path, body)


def test_a_callback_that_raises_is_reported_and_stops_nothing(path):
    async def body(volume):
        reports = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        future = volume.pread(1, 0)
        future.add_done_callback(lambda _: 1 / 0)
        assert await volume.pread(2, 0) == b"\0\0"
        (report,) = reports
        assert isinstance(report["exception"], ZeroDivisionError)
        assert report["future"] is future

    on_volume(path, body)


def test_exit_raised_by_a_task_ends_the_loop_and_loses_nothing(path):
    async def leave(volume):
        await volume.pread(1, 0)
        raise SystemExit(7)

    async def main():
        async with volume_of(path) as volume:
            others = [asyncio.ensure_future(wait_for_it(volume.pread(1, 0))) for _ in range(50)]
            asyncio.ensure_future(leave(volume))  # noqa: RUF006
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*others)
                await asyncio.Event().wait()

    with pytest.raises(SystemExit) as caught:
        asyncio.run(main())
    assert caught.value.code == 7


# ---- cancellation ----


def test_cancelled_await_keeps_its_buffer_until_the_completion_came(server):
    slow = server("--store", "fault", "--store-option", "delay-ms=200")

    async def body(volume):
        buffer = volume.buffer(4096)
        array = bytearray(4096)
        pending = [volume.preadinto(buffer, 0), volume.preadinto(array, 0)]
        task = asyncio.ensure_future(wait_for_it(pending[0]))
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert pending[0].cancelled()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await pending[1]
        with pytest.raises(BufferError, match="in use"):
            buffer.release()
        with pytest.raises(BufferError):
            array.extend(b"x")
        await volume.pread(1, 0)
        buffer.release()
        array.extend(b"x")

    on_volume(slow.socket, body)


def test_cancelled_while_waiting_for_room_is_never_sent(path):
    async def body(volume):
        futures = [volume.pwrite(b"x", number) for number in range(100)]
        for future in futures[50:]:
            assert future.cancel()
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert results[:50] == [1] * 50
        assert all(isinstance(one, asyncio.CancelledError) for one in results[50:])
        assert await volume.pread(100, 0) == b"x" * 50 + bytes(50)

    on_volume(path, body, depth=10)


def test_many_cancelled_and_awaited_at_random(path):
    async def body(volume):
        for turn in range(200):
            futures = [volume.pread(512, 512 * i) for i in range(20)]
            for future in futures[turn % 7 :: 3]:
                future.cancel()
            found = await asyncio.gather(*futures, return_exceptions=True)
            for future, result in zip(futures, found, strict=True):
                assert result == bytes(512) or future.cancelled()

    on_volume(path, body, depth=8)


# ---- the end ----


def test_closing_a_volume_ends_who_waits_with_an_error(never):
    async def body(volume):
        tasks = [asyncio.ensure_future(wait_for_it(volume.pread(512, 0))) for _ in range(20)]
        await asyncio.sleep(0)
        volume.close()
        volume.close()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, OSError)
            assert result.errno == errno.ENOTCONN
            assert "closed" in str(result)
        for call in (volume.flush, lambda: volume.pread(1, 0), lambda: volume.size_bytes):
            with pytest.raises(ValueError, match="closed"):
                call()

    on_volume(never, body, depth=8)


def test_a_task_may_close_the_volume_while_others_are_woken(path):
    async def main():
        async with volume_of(path) as volume:

            async def one(number: int) -> None:
                await volume.pread(512, 0)
                if number == 5:
                    volume.close()

            results = await asyncio.gather(*map(one, range(100)), return_exceptions=True)
            assert {type(one) for one in results} <= {type(None), OSError}
            assert results[5] is None

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_a_killed_server_ends_who_waits_with_an_error(server):
    process = server("--store", "fault", "--store-option", "never-op=read")

    async def body(volume):
        assert await volume.pwrite(b"x", 0) == 1
        tasks = [asyncio.ensure_future(wait_for_it(volume.pread(512, 0))) for _ in range(20)]
        listener = asyncio.ensure_future(volume.wait_event())
        await asyncio.sleep(0)
        process.kill()
        for result in await asyncio.gather(*tasks, listener, return_exceptions=True):
            assert isinstance(result, OSError)
            assert result.errno == errno.ENOTCONN
        with pytest.raises(OSError, match="gone") as caught:
            await volume.pwrite(b"x", 0)
        assert caught.value.errno == errno.ENOTCONN

    on_volume(process.socket, body, depth=8)


def test_a_loop_that_ends_with_requests_in_flight_leaves_a_volume_that_can_be_closed(never):
    loop = asyncio.new_event_loop()

    async def start():
        server = await aio.connect(never)
        await server.create("vol", MIB)
        volume = await server.open("vol", writable=True)
        futures = [volume.pread(512, 0), volume.preadinto(bytearray(512), 0)]
        server.close()
        return volume, futures

    volume, futures = loop.run_until_complete(start())
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        volume.pread(1, 0)
    volume.close()
    for future in futures:
        with pytest.raises(OSError, match="closed"):
            future.result()
    del futures, future
    gc.collect()


def test_a_volume_that_is_forgotten_ends_its_session(path):
    async def main():
        async with aio.connect(path) as server:
            await server.create("vol", MIB)
            volume = await server.open("vol", writable=True)
            await volume.pread(1, 0)

    asyncio.run(main())
    gc.collect()
    with shmclient.connect(path) as connection, connection.open("vol") as volume:
        assert volume.pread(1, 0) == b"\0"


def test_caller_in_another_thread_is_refused(path):
    async def body(volume):
        caught = []

        def use() -> None:
            for call in (lambda: volume.pread(1, 0), volume.flush, volume.events, volume.close):
                try:
                    call()
                except RuntimeError as error:
                    caught.append(str(error))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join(WAIT_S)
        assert len(caught) == 4
        assert all("another thread" in text for text in caught)
        assert await volume.pread(1, 0) == b"\0"

    on_volume(path, body)


def test_loops_in_two_threads_have_volumes_of_their_own(path):
    with shmclient.connect(path) as connection:
        connection.create("shared", MIB)
    failures = []

    async def use(number: int) -> None:
        async with aio.connect(path) as server, await server.open("shared") as volume:
            found = await asyncio.gather(*(volume.pread(512, 0) for _ in range(2000)))
            if set(found) != {bytes(512)}:
                failures.append(number)

    threads = [threading.Thread(target=asyncio.run, args=(use(i),)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert failures == []


def test_caller_with_wrong_arguments_gets_the_exception_at_once(path):
    async def body(volume):
        for call, kind in (
            (lambda: volume.pread(-1, 0), ValueError),
            (lambda: volume.pread(1, -1), ValueError),
            (lambda: volume.pread(1, 2**63), OverflowError),
            (lambda: volume.pread("1", 0), TypeError),
            (lambda: volume.preadinto(b"const", 0), BufferError),
            (lambda: volume.preadinto(5, 0), TypeError),
            (lambda: volume.pwrite(memoryview(bytes(10))[::2], 0), BufferError),
        ):
            with pytest.raises(kind):
                call()

    on_volume(path, body)


class Closing:
    """A number, or a buffer's end, that closes a volume."""

    def __init__(self, volume: aio.Volume) -> None:
        self.volume = volume

    def __index__(self) -> int:
        self.volume.close()
        return 0

    def __iter__(self) -> Iterator[Flush]:
        self.volume.close()
        yield Flush()


class LastWords(bytearray):
    volume: aio.Volume

    def __del__(self) -> None:
        self.volume.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda volume: volume.pread(Closing(volume), 0),
        lambda volume: volume.pread(512, Closing(volume)),
        lambda volume: volume.preadinto(bytearray(512), Closing(volume)),
        lambda volume: volume.discard(512, Closing(volume)),
        lambda volume: volume.batch(Closing(volume)),
    ],
)
def test_arguments_that_close_the_volume_crash_nothing(path, call):
    async def body(volume):
        with pytest.raises(ValueError, match="closed"):
            await call(volume)

    on_volume(path, body)


@pytest.mark.parametrize("length_bytes", [0, 512])
def test_memory_that_closes_the_volume_when_it_goes_crashes_nothing(path, length_bytes):
    def last_words(volume: aio.Volume) -> LastWords:
        memory = LastWords(length_bytes)
        memory.volume = volume
        return memory

    async def body(volume):
        first = volume.preadv((last_words(volume) for _ in range(1)), 0)
        if length_bytes == 0:  # that was all the use it had
            assert volume.closed
            assert await first == 0
            return
        others = [volume.pread(512, 0) for _ in range(600)]
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert volume.closed
        assert results[0] == length_bytes
        for result in results[1:]:
            assert result == bytes(512) or result.errno == errno.ENOTCONN

    on_volume(path, body)
