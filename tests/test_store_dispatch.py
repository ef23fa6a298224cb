# SPDX-License-Identifier: MIT
"""shmserver.dispatch without a server: requests of a fake one, run in every way there is."""

import asyncio
import errno
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from shmserver.dispatch import Dispatcher
from shmserver.manage import OpenVolume
from shmserver.store import Extent, Op, Snapshot, Store

WAIT_S = 30
VOLUME = OpenVolume("vol", "handle", 1 << 20)


class FakeRequest:
    """A request as a server makes it; result: 0 or -errno, then the extents."""

    def __init__(self, at: Dispatcher, op: Op, data: bytes | int = 0, **changes: Any) -> None:
        self._at = at
        self.op = op
        self.opened = VOLUME
        self.volume = VOLUME.handle
        self.offset_bytes = 4096
        self.length_bytes = data if isinstance(data, int) else len(data)
        self.memory = bytearray(data)
        has_buffer = op in (Op.READ, Op.WRITE)
        self.buffer = memoryview(self.memory) if has_buffer else None
        self.fua = False
        self.may_unmap = False
        self.extents_max = 8
        self.ended = False
        self.done = threading.Event()
        self.result: int | None = None
        self.extents: list[Extent] = []
        self.__dict__.update(changes)

    def complete(self, extents: Iterable[Extent] = ()) -> None:
        if self.ended:
            return
        if self.op is Op.BLOCK_STATUS:
            try:
                self.extents = self._at.extents(extents, self.length_bytes, self.extents_max)
            except BaseException as error:
                self.fail(error)
                return
        self._end(0)

    def fail(self, error: BaseException) -> None:
        if not self.ended:
            self._end(-self._at.failed(self.op, self.opened, error))

    def _end(self, result: int) -> None:
        self.ended, self.result = True, result
        self.done.set()


class Harness:
    def __init__(self, store: Store, **options: Any) -> None:
        self.at = Dispatcher(store, **options)
        self.at.start()

    def request(self, op: Op, data: bytes | int = 0, **changes: Any) -> FakeRequest:
        return FakeRequest(self.at, op, data, **changes)

    def run(self, op: Op, data: bytes | int = 0, **changes: Any) -> FakeRequest:
        """One request, to its end."""
        request = self.request(op, data, **changes)
        self.at.submit([request])
        assert request.done.wait(WAIT_S)
        return request


@pytest.fixture
def serve() -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(store: Store, **options: Any) -> Harness:
        made.append(Harness(store, **options))
        return made[-1]

    yield make
    for harness in made:
        assert harness.at.stop()


class Plain(Store):
    """Remembers what was called in which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.seen: set[str] = set()

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        self.seen.add(threading.current_thread().name)

    def pread(self, volume, buffer, offset_bytes):
        self.note("pread", volume, len(buffer), offset_bytes)
        buffer[:] = b"r" * len(buffer)

    def pwrite(self, volume, buffer, offset_bytes, **more):
        self.note("pwrite", volume, bytes(buffer), offset_bytes, more)

    def flush(self, volume):
        self.note("flush", volume)

    def discard(self, volume, length_bytes, offset_bytes):
        self.note("discard", volume, length_bytes, offset_bytes)

    def write_zeroes(self, volume, length_bytes, offset_bytes, may_unmap, **more):
        self.note("write_zeroes", volume, length_bytes, offset_bytes, may_unmap, more)

    def block_status(self, volume, length_bytes, offset_bytes):
        self.note("block_status", volume, length_bytes, offset_bytes)
        return [Extent(512), (512, True), Extent(1 << 40, True, True)]


class Threads(Plain):
    threads = 2


class OnDeadline(Plain):
    deadline_s = 1000


class Async(Store):
    def __init__(self) -> None:
        self.inner = Plain()

    @property
    def calls(self):
        return self.inner.calls

    @property
    def seen(self):
        return self.inner.seen

    async def pread(self, *words):
        return self.inner.pread(*words)

    async def pwrite(self, *words):
        return self.inner.pwrite(*words)

    async def flush(self, *words):
        return self.inner.flush(*words)

    async def discard(self, *words):
        return self.inner.discard(*words)

    async def write_zeroes(self, *words):
        return self.inner.write_zeroes(*words)

    async def block_status(self, *words):
        return self.inner.block_status(*words)


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


# ---- management ----


class Volumes(Store):
    def __init__(self, names: Any = ()) -> None:
        self.names = names

    def list(self):
        return self.names

    def size(self, name):
        return 1000


def test_list_comes_in_pages_in_order_of_bytes(serve):
    names = ["b", "ä", "\U0001f600", "a/b", "a", "z", "\ue000", "\udcff"]
    manage = serve(Volumes(names)).at.manage
    seen: list[str] = []
    while page := manage.list(seen[-1] if seen else "", 2):
        seen += [stat.name for stat in page]
    assert seen == sorted(names, key=os.fsencode)
    assert manage.list("a/c", 1)[0].name == "b"
    assert manage.list("", 1)[0].size_bytes == 1000  # to the byte


def test_long_list_asks_the_store_once(serve):
    class Counting(Volumes):
        asked = 0

        def list(self):
            self.asked += 1
            return self.names

    store = Counting([f"v{number}" for number in range(5000)])
    manage = serve(store).at.manage
    count, last = 0, ""
    while page := manage.list(last, 100):
        count, last = count + len(page[:99]), page[:99][-1].name  # as who asks for one too many
    assert (count, store.asked) == (5000, 1)
    manage.list("", 100)
    assert store.asked == 2


def test_names_that_break_the_rules_are_left_out(serve, caplog):
    bad = [
        "",
        "/a",
        "a//b",
        "..",
        "a/.openvstorage",
        "x" * 255,
        "a\nb",
        "\ud800",
        None,
        5,
        b"b",
        [],
    ]
    manage = serve(Volumes([*bad[:-1], "good", "good"])).at.manage
    assert [stat.name for stat in manage.list("", 100)] == ["good"]
    assert "left out" in caplog.text


def test_endless_list_is_cut(serve, monkeypatch, caplog):
    monkeypatch.setattr("shmserver.manage.VOLUMES_MAX", 10)
    manage = serve(Volumes(f"v{number:03}" for number in itertools.count())).at.manage
    assert [stat.name for stat in manage.list("", 100)] == [f"v{number:03}" for number in range(10)]
    assert "all but the first 10" in caplog.text


@pytest.mark.parametrize("size", [-1, 2**63, 1.5, None, "512", ...], ids=repr)
def test_size_that_is_none_is_eio(serve, size):
    class Odd(Volumes):
        def size(self, name):
            return size

    with pytest.raises(OSError, match="size") as info:
        serve(Odd()).at.manage.stat("vol")
    assert info.value.errno == errno.EIO


def test_volume_that_cannot_be_sized_does_not_hide_the_others(serve):
    class Partial(Volumes):
        def size(self, name):
            if name == "broken":
                raise RuntimeError
            if name == "gone":
                raise KeyError(name)
            return 512

    manage = serve(Partial(["broken", "gone", "ok"])).at.manage
    assert [stat.name for stat in manage.list("", 100)] == ["ok"]


def test_missing_volume_is_enoent_by_key_error_too(serve):
    class Dict(Volumes):
        def size(self, name):
            return {}[name]

    manage = serve(Dict()).at.manage
    for call in (manage.stat, manage.open, manage.remove):
        with pytest.raises(FileNotFoundError):
            call("vol")


def test_renames_and_sizes_to_the_byte_reach_the_store(serve):
    class Renaming(Volumes):
        calls: Any = ()

        def truncate(self, name, size_bytes):
            self.calls = [*self.calls, ("truncate", name, size_bytes)]

        def rename(self, name, new_name):
            self.calls = [*self.calls, ("rename", name, new_name)]

        def size(self, name):
            return {"vol": 1000}[name]

    store = Renaming()
    serving = serve(store).at
    assert serving.ability.rename
    assert serving.ability.truncate
    assert serving.manage.truncate("vol", 5) == 1000  # what it says, not what was asked for
    serving.manage.rename("vol", "new")
    assert store.calls == [("truncate", "vol", 5), ("rename", "vol", "new")]
    with pytest.raises(FileNotFoundError):
        serving.manage.rename("none", "vol")
    assert len(store.calls) == 2
    plain = serve(Volumes()).at
    assert not plain.ability.rename
    assert not plain.ability.truncate


def test_create_is_only_called_for_new_names(serve):
    class Creating(Volumes):
        def create(self, name, size_bytes):
            pytest.fail("called")

    with pytest.raises(FileExistsError):
        serve(Creating()).at.manage.create("vol", 512)


def test_snapshot_calls_are_only_made_where_they_make_sense(serve):
    class Snapshots(Volumes):
        def snapshot_create(self, name, snapshot, timeout_s):
            self.calls = [*self.calls, ("create", snapshot)]

        def snapshot_remove(self, name, snapshot):
            self.calls = [*self.calls, ("remove", snapshot)]

        def snapshot_list(self, name):
            return [Snapshot("old", 512), ("new", 1024), ("a/b", 1), 5]

        calls: Any = ()

    store = Snapshots()
    manage = serve(store).at.manage
    with pytest.raises(FileExistsError):
        manage.snapshot_create("vol", "old", 0)
    manage.snapshot_create("vol", "newer", 0)
    with pytest.raises(FileNotFoundError):
        manage.snapshot_remove("vol", "none")
    manage.snapshot_remove("vol", "new")
    assert store.calls == [("create", "newer"), ("remove", "new")]
    assert [one.name for one in manage.snapshot_list("vol", "", 10)] == ["old", "new"]
    assert [one.name for one in manage.snapshot_list("vol", "old", 10)] == ["new"]
    with pytest.raises(FileNotFoundError):
        manage.snapshot_list("vol", "none", 10)
    assert manage.snapshot_is_synced("vol", "old") is True
    assert manage.stat("vol").snapshots == 2


def test_async_management(serve):
    class Remote(Store):
        up = False

        async def startup(self):
            self.up = True

        async def shutdown(self):
            self.up = False

        async def size(self, name):
            assert self.up
            return 4096

        async def list(self):
            return ["one"]

    store = Remote()
    manage = serve(store).at.manage
    assert store.up
    assert [(s.name, s.size_bytes, s.allocated_bytes) for s in manage.list("", 9)] == [
        ("one", 4096, 4096)
    ]


def test_threads_end_with_the_dispatcher():
    before = set(threading.enumerate())
    for store in (Threads(), OnDeadline(), Async()):
        dispatcher = Dispatcher(store)
        dispatcher.start()
        assert set(threading.enumerate()) > before
        assert dispatcher.stop()
        assert set(threading.enumerate()) == before


def test_stop_does_not_wait_for_ever():
    go = threading.Event()

    class Blocks(Plain):
        def flush(self, volume):
            go.wait(WAIT_S)

    harness = Harness(Blocks(), deadline_s=0.05)
    harness.run(Op.FLUSH)
    try:
        assert harness.at.stop(timeout_s=0.05) is False
    finally:
        go.set()


def test_snapshot_waits_for_a_write_that_timed_out(serve):
    go = threading.Event()
    events: list[str] = []

    class Slow(Volumes):
        def pwrite(self, volume, buffer, offset_bytes):
            assert go.wait(WAIT_S)
            events.append("write")

        def snapshot_create(self, name, snapshot, timeout_s):
            events.append("snapshot")

    harness = serve(Slow(), deadline_s=0.05)
    volume = harness.at.manage.open("vol")
    assert harness.run(Op.WRITE, b"data", opened=volume).result == -errno.ETIMEDOUT
    threading.Timer(0.05, go.set).start()
    harness.at.manage.snapshot_create("vol", "snap", 0)
    assert events == ["write", "snapshot"]
    harness.at.manage.close(volume)


def test_volume_with_late_requests_is_busy_and_not_opened_twice(serve, monkeypatch):
    monkeypatch.setattr("shmserver.manage.LATE_S", 0.05)
    go = threading.Event()

    class Slow(Volumes):
        def pread(self, volume, buffer, offset_bytes):
            assert go.wait(WAIT_S)

    manage = (harness := serve(Slow(), deadline_s=0.05)).at.manage
    volume = manage.open("vol")
    assert harness.run(Op.READ, 4, opened=volume).result == -errno.ETIMEDOUT
    manage.close(volume)
    for call in (manage.open, manage.remove, lambda name: manage.snapshot_create(name, "s", 0)):
        with pytest.raises(OSError, match="timed out") as info:
            call("vol")
        assert info.value.errno == errno.EBUSY
    monkeypatch.setattr("shmserver.manage.LATE_S", WAIT_S)
    go.set()
    manage.close(manage.open("vol"))
