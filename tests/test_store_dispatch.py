# SPDX-License-Identifier: MIT
"""shmserver.dispatch without a server: requests of a fake one, run in every way there is."""

import asyncio
import errno
import itertools
import logging
import threading
from typing import Any

import pytest
from store_harness import WAIT_S, Async, OnDeadline, Plain, Threads, serve

from shmserver.dispatch import Dispatcher
from shmserver.store import Extent, Op, Store

__all__ = ["serve"]

KINDS = {Plain: "MainThread", Threads: "Threads-", OnDeadline: "OnDeadline-0", Async: "Async-loop"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_op_reaches_its_method(serve, kind):
    store = kind()
    harness = serve(store)
    read = harness.run(Op.READ, 3)
    assert (read.result, read.memory) == (0, b"rrr")
    assert harness.run(Op.WRITE, b"data").result == 0
    assert harness.run(Op.FLUSH).result == 0
    assert harness.run(Op.DISCARD, 512).result == 0
    assert harness.run(Op.WRITE_ZEROES, 512, may_unmap=True).result == 0
    status = harness.run(Op.BLOCK_STATUS, 4096)
    assert status.extents == [Extent(512), Extent(512, True), Extent(3072, True, True)]
    assert store.calls == [
        ("pread", "handle", 3, 4096),
        ("pwrite", "handle", b"data", 4096, {}),
        ("flush", "handle"),
        ("discard", "handle", 512, 4096),
        ("write_zeroes", "handle", 512, 4096, True, {}),
        ("block_status", "handle", 4096, 4096),
    ]
    assert all(name.startswith(KINDS[kind]) for name in store.seen)


@pytest.mark.parametrize("kind", KINDS)
def test_fua_is_a_flush_for_a_store_without(serve, kind):
    store = kind()
    harness = serve(store)
    assert harness.run(Op.WRITE, b"data", fua=True).result == 0
    assert harness.run(Op.WRITE_ZEROES, 512, fua=True).result == 0
    assert [call[0] for call in store.calls] == ["pwrite", "flush", "write_zeroes", "flush"]


def test_fua_is_passed_to_a_store_with(serve):
    class Fua(Plain):
        can_fua = True

    store = Fua()
    harness = serve(store)
    harness.run(Op.WRITE, b"data", fua=True)
    harness.run(Op.WRITE_ZEROES, 512, fua=True)
    assert [call[-1] for call in store.calls] == [{"fua": True}] * 2


def test_failed_flush_fails_the_fua_write(serve):
    class Full(Plain):
        def flush(self, volume):
            raise OSError(errno.ENOSPC, "full")

    assert serve(Full()).run(Op.WRITE, b"data", fua=True).result == -errno.ENOSPC


RAISED = {
    OSError(errno.ENOSPC, "full"): errno.ENOSPC,
    OSError("no number"): errno.EIO,
    OSError(-5, "negative"): errno.EIO,
    OSError(2**70, "huge"): errno.EIO,
    TimeoutError(): errno.ETIMEDOUT,
    NotImplementedError(): errno.EOPNOTSUPP,
    MemoryError(): errno.ENOMEM,
    KeyError("not a volume here"): errno.EIO,
    ValueError("bug"): errno.EIO,
    RecursionError(): errno.EIO,
    StopIteration(): errno.EIO,
    SystemExit(1): errno.EIO,
    KeyboardInterrupt(): errno.EIO,
    BaseException(): errno.EIO,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_what_is_raised_becomes_an_errno(serve, kind, error):
    class Raising(kind):
        if kind is Async:

            async def pread(self, *_):
                raise error
        else:

            def pread(self, *_):
                raise error

    harness = serve(Raising())
    expected = errno.EIO if kind is Async and isinstance(error, StopIteration) else RAISED[error]
    assert harness.run(Op.READ, 512).result == -expected
    assert harness.run(Op.WRITE, b"on").result == 0


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError

    @property
    def errno(self):
        raise RuntimeError


@pytest.mark.parametrize("answer", [1, 4097, -1, "x", 1.5, [], Unprintable()], ids=repr)
def test_short_and_strange_answers_are_eio(serve, answer):
    class Short(Plain):
        def pread(self, *_):
            return answer

    assert serve(Short()).run(Op.READ, 4096).result == -errno.EIO


def test_data_that_is_returned_instead_of_filled_in_is_named(serve, caplog):
    class Returns(Plain):
        def pread(self, volume, buffer, offset_bytes):
            return b"secret" * len(buffer)

    assert serve(Returns()).run(Op.READ, 4096).result == -errno.EIO
    assert "returned bytes; what is read goes into the buffer" in caplog.text
    assert "secret" not in caplog.text


def test_exact_count_is_fine(serve):
    class Counting(Plain):
        def pread(self, volume, buffer, offset_bytes):
            return len(buffer)

    assert serve(Counting()).run(Op.READ, 4096).result == 0


def test_plain_method_that_returns_an_awaitable_is_named(serve, caplog):
    class Wrapped(Plain):
        def pread(self, *_):
            async def later():
                pass

            return later()

    assert serve(Wrapped()).run(Op.READ, 512).result == -errno.EIO
    assert "async def" in caplog.text


def test_exception_that_cannot_be_printed_is_logged(serve, caplog):
    class Bad(Plain):
        def pread(self, *_):
            raise Unprintable

    assert serve(Bad()).run(Op.READ, 512).result == -errno.EIO
    assert "Unprintable" in caplog.text


BAD_EXTENTS = [
    [],
    [Extent(0)],
    [Extent(-1)],
    None,
    5,
    [None],
    [Extent("x")],
    [(1, 2, 3, 4)],
    pytest.param((Extent(1 // number) for number in (0, 1)), id="raises"),
]


@pytest.mark.parametrize("extents", BAD_EXTENTS, ids=str)
def test_extents_that_are_none_are_eio(serve, extents):
    class Bad(Plain):
        def block_status(self, *_):
            return extents

    assert serve(Bad()).run(Op.BLOCK_STATUS, 4096).result == -errno.EIO


def test_endless_extents_are_cut(serve):
    class Endless(Plain):
        def block_status(self, *_):
            return (Extent(1) for _ in itertools.count())

    request = serve(Endless()).run(Op.BLOCK_STATUS, 4096)
    assert request.extents == [Extent(1)] * 8


def test_same_complaint_does_not_fill_the_log(serve, caplog):
    class Broken(Plain):
        def pread(self, *_):
            raise ValueError("bug")

    harness = serve(Broken())
    with caplog.at_level(logging.DEBUG, "shmserver"):
        for _ in range(1000):
            harness.run(Op.READ, 512)
    assert len(caplog.records) == 1
    assert "store \"Broken\": pread of 'vol'" in caplog.text
    assert "Traceback" in caplog.text


def test_os_error_is_one_line_without_traceback(serve, caplog):
    class Full(Plain):
        def pwrite(self, *_):
            raise OSError(errno.ENOSPC, "full")

    serve(Full()).run(Op.WRITE, b"data")
    assert "full" in caplog.text
    assert "Traceback" not in caplog.text


# ---- submit() ----


class Batches(Store):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.arrived = threading.Semaphore(0)

    def submit(self, requests):
        self.given.append(requests)
        self.arrived.release(len(requests))


class AsyncBatches(Batches):
    async def submit(self, requests):
        super().submit(requests)


@pytest.mark.parametrize("kind", [Batches, AsyncBatches])
def test_batch_is_handed_over_whole(serve, kind):
    store = kind()
    harness = serve(store)
    batch = [harness.request(Op.READ, 512), harness.request(Op.FLUSH)]
    harness.at.submit(batch)
    for _ in batch:
        assert store.arrived.acquire(timeout=WAIT_S)
    assert store.given == [batch]
    for request in reversed(batch):
        request.complete()
        request.complete()
        request.fail(OSError())
        assert request.result == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_what_submit_raises_fails_those_not_ended(serve, is_async):
    def submit(requests):
        requests[0].complete()
        raise OSError(errno.ENOSPC, "full")

    class Failing(Store):
        if is_async:

            async def submit(self, requests):
                submit(requests)
        else:

            def submit(self, requests):
                submit(requests)

    harness = serve(Failing())
    batch = [harness.request(Op.READ, 512) for _ in range(3)]
    harness.at.submit(batch)
    assert all(request.done.wait(WAIT_S) for request in batch)
    assert [request.result for request in batch] == [0, -errno.ENOSPC, -errno.ENOSPC]


# ---- deadlines ----


def test_late_request_times_out_and_its_data_goes_nowhere(serve):
    go = threading.Event()
    done = threading.Event()

    class Slow(Plain):
        def pread(self, volume, buffer, offset_bytes):
            assert go.wait(WAIT_S)
            buffer[:] = b"late"
            done.set()

    harness = serve(Slow(), deadline_s=0.05)
    request = harness.run(Op.READ, 4)
    assert request.result == -errno.ETIMEDOUT
    go.set()
    assert done.wait(WAIT_S)
    assert request.memory == bytes(4)


def test_deadline_cancels_a_coroutine(serve):
    cancelled = threading.Event()

    class Never(Store):
        async def pread(self, volume, buffer, offset_bytes):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    assert serve(Never(), deadline_s=0.05).run(Op.READ, 4).result == -errno.ETIMEDOUT
    assert cancelled.wait(WAIT_S)


def test_request_held_by_submit_times_out(serve):
    store = Batches()
    harness = serve(store, deadline_s=0.05)
    request = harness.run(Op.WRITE, b"data")
    assert request.result == -errno.ETIMEDOUT
    store.given[0][0].complete()
    assert request.result == -errno.ETIMEDOUT


def test_those_behind_a_stuck_one_time_out_and_are_not_run_late(serve):
    go = threading.Event()

    class Stuck(Plain):
        def flush(self, volume):
            assert go.wait(WAIT_S)

    store = Stuck()
    harness = serve(store, deadline_s=0.05)
    batch = [harness.request(Op.FLUSH), harness.request(Op.READ, 4)]
    harness.at.submit(batch)
    assert all(request.done.wait(WAIT_S) for request in batch)
    assert {request.result for request in batch} == {-errno.ETIMEDOUT}
    go.set()
    assert harness.run(Op.WRITE, b"on").result == 0
    assert [call[0] for call in store.calls] == ["pwrite"]


def test_close_comes_after_the_request_that_timed_out(serve):
    go = threading.Event()
    events: list[str] = []

    class Slow(Plain):
        def size(self, name):
            return 512

        def pread(self, volume, buffer, offset_bytes):
            assert go.wait(WAIT_S)
            events.append("read")

        def close(self, volume):
            events.append("close")
            closed.set()

    closed = threading.Event()
    harness = serve(Slow(), deadline_s=0.05)
    volume = harness.at.manage.open("vol")
    assert harness.run(Op.READ, 4, opened=volume).result == -errno.ETIMEDOUT
    harness.at.manage.close(volume)
    assert events == []
    go.set()
    assert closed.wait(WAIT_S)
    assert events == ["read", "close"]
    harness.at.manage.open("vol")


def test_store_that_declares_nonsense_is_refused():
    for name, value in (
        ("block_bytes", 3),
        ("block_bytes", 0),
        ("threads", -1),
        ("deadline_s", 0),
        ("deadline_s", -1),
    ):
        store = Plain()
        setattr(store, name, value)
        with pytest.raises(ValueError, match="must be"):
            Dispatcher(store)
