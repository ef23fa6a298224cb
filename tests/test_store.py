# SPDX-License-Identifier: MIT
"""Stores in Python behind the C server, used by real clients.

What a method is called with is tested in test_store_dispatch.py; here it is the memory, the
threads, and what a store must not be able to break.
"""

import asyncio
import ctypes
import errno
import gc
import logging
import os
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import TOP

import shmclient
import shmserver
from shmserver import Extent, Op, Server, Store

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


def reads_at_once(path: Path, count: int, length: int = 4096) -> list[bytes]:
    """As many clients, each with one read in flight."""

    def read(_: int) -> bytes:
        with ExitStack() as stack:
            return opened(path, stack, writable=False).pread(length, 0)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(read, range(count), timeout=WAIT_S))


# ---- memory ----


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


def wait_unused(server: Server) -> None:
    """Until the server knows that its clients have gone."""
    with shmclient.connect(server.socket) as connection:
        for _ in range(10**6):
            if server.status()["sessions"] == 0:
                return
            connection.stat("vol")
    pytest.fail("the session does not end")


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


class AsyncOne(One):
    async def pread(self, volume, buffer, offset_bytes):
        await asyncio.sleep(0)
        buffer[:] = b"a" * len(buffer)


class ThreadedOne(One):
    threads = 2


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


# ---- threads ----


def test_methods_see_one_reactor_thread_unless_they_want_more(serve, path):
    idents: set[int] = set()

    class Noting(One):
        def pread(self, *words):
            idents.add(threading.get_ident())
            super().pread(*words)

    server = serve(Noting())
    assert server.limits["reactors"] == 1
    reads_at_once(path, 4)
    assert len(idents) == 1


def test_thread_local_data_of_a_reactor_lasts(serve, volume):
    class Local(One):
        local = threading.local()

        def pread(self, volume, buffer, offset_bytes):
            self.local.count = getattr(self.local, "count", 0) + 1
            buffer[:] = bytes([self.local.count] * len(buffer))

    serve(Local())
    vol = volume()
    assert [vol.pread(1, 0) for _ in range(3)] == [b"\1", b"\2", b"\3"]


def test_thread_local_data_of_a_reactor_goes_with_it(serve, volume):
    class Local(One):
        local = threading.local()

        def pread(self, volume, buffer, offset_bytes):
            self.local.mine = mine = Local()
            self.seen = weakref.ref(mine)

    store = Local()
    server = serve(store)
    volume().pread(1, 0)
    assert store.seen() is not None
    server.close()
    assert store.seen() is None


def test_several_reactors_need_a_store_that_allows_them(path):
    with pytest.raises(OSError, match="one reactor"):
        Server(One(), socket=path, reactors=2)
    with Server(ThreadedOne(), socket=path, reactors=2) as server:
        assert server.limits["reactors"] == 2
        assert reads_at_once(path, 4) == [b"r" * 4096] * 4


def test_threads_run_several_at_once(serve, path):
    class Together(One):
        threads = 3
        meeting = threading.Barrier(3)

        def pread(self, *words):
            self.meeting.wait(WAIT_S)
            super().pread(*words)

    serve(Together())
    assert reads_at_once(path, 3) == [b"r" * 4096] * 3


def test_coroutines_run_several_at_once(serve, path):
    class Together(One):
        waiting = 0

        async def startup(self):
            self.all_there = asyncio.Event()

        async def pread(self, volume, buffer, offset_bytes):
            self.waiting += 1
            if self.waiting == 8:
                self.all_there.set()
            await self.all_there.wait()
            buffer[:] = b"a" * len(buffer)

    serve(Together())
    assert reads_at_once(path, 8) == [b"a" * 4096] * 8


def test_batches_complete_out_of_order_from_another_thread(serve, path):
    class Reversing(One):
        def __init__(self) -> None:
            self.held: list[Any] = []

        def submit(self, requests):
            self.held += requests
            if len(self.held) == 4:
                threading.Thread(target=self.end_all, args=(self.held[::-1],)).start()
                self.held = []

        def end_all(self, requests):
            for request in requests:
                assert (request.op, request.volume) == (Op.READ, "vol")
                assert (request.offset_bytes, request.length_bytes) == (0, 4096)
                request.buffer[:] = b"o" * request.length_bytes
                request.complete()

    serve(Reversing())
    assert reads_at_once(path, 4) == [b"o" * 4096] * 4


def test_store_may_use_a_client_of_its_own_server(serve, path, volume):
    class Mirror(One):
        threads = 2

        def size(self, name):
            return {"vol": SIZE, "other": SIZE}[name]

        def pread(self, volume, buffer, offset_bytes):
            if volume == "other":
                buffer[:] = b"m" * len(buffer)
                return
            with shmclient.connect(path) as connection, connection.open("other") as other:
                buffer[:] = other.pread(len(buffer), offset_bytes)

    serve(Mirror())
    assert volume().pread(512, 0) == b"m" * 512


# ---- errors ----


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (PermissionError(), errno.EACCES),
        (TimeoutError(), errno.ETIMEDOUT),
        (NotImplementedError(), errno.EOPNOTSUPP),
        (MemoryError(), errno.ENOMEM),
        (KeyError("x"), errno.EIO),
        (RecursionError(), errno.EIO),
        (SystemExit(0), errno.EIO),
        (KeyboardInterrupt(), errno.EIO),
        (StopIteration(), errno.EIO),
        (GeneratorExit(), errno.EIO),
    ],
    ids=repr,
)
def test_exception_is_an_errno_and_a_line_and_the_server_goes_on(
    serve, volume, caplog, error, number
):
    class Raising(One):
        def pread(self, *_):
            raise error

    serve(Raising())
    vol = volume()
    with pytest.raises(OSError, match=os.strerror(number)) as info:
        vol.pread(512, 0)
    assert info.value.errno == number
    assert "store \"Raising\": pread of 'vol'" in caplog.text
    assert vol.pwrite(b"on", 0) == 2


def test_runaway_recursion_is_an_error(serve, volume):
    class Deep(One):
        def pread(self, *words):
            return self.pread(*words)

    serve(Deep())
    vol = volume()
    with pytest.raises(OSError, match="Input/output"):
        vol.pread(512, 0)
    assert vol.pwrite(b"on", 0) == 2


@pytest.mark.parametrize("answer", [0, 511, 513, -1, "512", b"", 512.5], ids=repr)
def test_short_answer_is_eio(serve, volume, answer):
    class Short(One):
        def pread(self, *_):
            return answer

    serve(Short())
    with pytest.raises(OSError, match="Input/output"):
        volume().pread(512, 0)


def test_method_that_a_store_lacks_is_named(serve, path):
    """It can create, so clients are told that volumes can be managed."""

    class Creates(One):
        def create(self, name, size_bytes):
            pass

    serve(Creates())
    with (
        shmclient.connect(path) as connection,
        pytest.raises(OSError, match=r'store "Creates" has no remove\(\)') as info,
    ):
        connection.remove("vol")
    assert info.value.errno == errno.EOPNOTSUPP


def test_ops_that_a_store_lacks_are_not_offered(serve, volume, path):
    serve(One())
    vol = volume()
    assert vol.limits.capabilities == ("write",)
    for call in (
        lambda: vol.discard(512, 0),
        lambda: vol.write_zeroes(512, 0),
        lambda: vol.block_status(512, 0),
        lambda: vol.resize(SIZE * 2),
    ):
        with pytest.raises(OSError, match=r"not supported|cannot resize"):
            list(call() or ())
    vol.flush()


def test_read_only_store(serve, path):
    class Fixed(One):
        read_only = True

    serve(Fixed())
    with shmclient.connect(path) as connection:
        assert "write" not in connection.hello.capabilities
        with pytest.raises(OSError, match="cannot write"):
            connection.open("vol", writable=True)
        with connection.open("vol") as vol:
            assert vol.pread(4, 0) == b"rrrr"


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


def test_every_op_and_call(serve, path):
    store = Everything()
    serve(store)
    with shmclient.connect(path) as connection:
        connection.create("new", 512)
        connection.resize("new", 1024)
        assert connection.stat("new").size_bytes == 1024
        assert connection.stat("new").allocated_bytes == 4096
        assert [info.name for info in connection.list()] == ["new", "vol"]
        connection.remove("new")
        with pytest.raises(FileNotFoundError):
            connection.remove("new")
        with connection.open("vol", writable=True) as vol:
            vol.discard(1024, 512)
            vol.write_zeroes(1024, 512, may_unmap=False)
            vol.write_zeroes(512, 0, may_unmap=True)
            vol.pwrite(b"x", 0, fua=True)
            vol.flush()
            extents = [(e.length_bytes, e.hole, e.zero) for e in vol.block_status(4096, 0)]
            vol.resize(2 * SIZE)
            assert vol.size_bytes == 2 * SIZE
            assert vol.pread(4, 2 * SIZE - 4) == b"rrrr"
    assert extents == [(512, False, False), (3584, True, True)]
    assert [call for call in store.calls if call[0] != "close"] == [
        ("open", "vol"),
        ("discard", 1024, 512),
        ("write_zeroes", 1024, 512, False),
        ("write_zeroes", 512, 0, True),
        ("flush",),
        ("flush",),
    ]


MANAGEMENT = {
    "create": lambda connection: connection.create("new", 512),
    "size": lambda connection: connection.stat("vol"),
    "list": lambda connection: connection.list(),
    "open": lambda connection: connection.open("vol"),
    "remove": lambda connection: connection.remove("vol"),
    "resize": lambda connection: connection.resize("vol", 2 * SIZE),
    "allocated": lambda connection: connection.stat("vol"),
}


@pytest.mark.parametrize("method", MANAGEMENT)
@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(0), OSError(errno.ENOSPC, "full")])
def test_management_that_raises_is_refused_with_the_reason(serve, path, method, error):
    class Raising(Everything):
        broken = True

    def fail(*words):
        if store.broken:
            raise type(error)(*error.args)
        return getattr(Everything, method)(store, *words)

    store = Raising()
    setattr(store, method, fail)
    serve(store)
    expected = errno.ENOSPC if isinstance(error, OSError) else errno.EIO
    with shmclient.connect(path) as connection:
        reason = r"full|ValueError: bad|SystemExit: 0|cannot (list|stat) volume"
        with pytest.raises(OSError, match=reason) as info:
            MANAGEMENT[method](connection)
        assert info.value.errno == expected
        store.broken = False
        with suppress(AttributeError):
            MANAGEMENT[method](connection).close()


def test_close_that_raises_does_not_matter(serve, path, caplog):
    class Raising(One):
        closed = threading.Event()

        def close(self, volume):
            self.closed.set()
            raise ValueError

    serve(Raising())
    for _ in range(2):
        with ExitStack() as stack:
            opened(path, stack).pread(512, 0)
        assert Raising.closed.wait(WAIT_S)
        Raising.closed.clear()


def test_long_list_arrives_whole(serve, path):
    class Many(One):
        def list(self):
            return (f"volume-{number:05}" for number in range(3000))

        def size(self, name):
            return 512

    serve(Many())
    with shmclient.connect(path) as connection:
        names = [info.name for info in connection.list()]
    assert names == [f"volume-{number:05}" for number in range(3000)]


def test_logging_that_fails_does_not_matter(serve, volume):
    class Broken(logging.Filter):
        def filter(self, record):
            raise RuntimeError

    class Raising(One):
        def pread(self, *_):
            raise ValueError

    serve(Raising())
    vol = volume()
    log = logging.getLogger("shmserver")
    broken = Broken()
    log.addFilter(broken)
    try:
        with pytest.raises(OSError, match="Input/output"):
            vol.pread(512, 0)
    finally:
        log.removeFilter(broken)
    assert vol.pwrite(b"on", 0) == 2


# ---- requests that do not end ----


class Holding(One):
    """Keeps requests for ever."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.arrived = threading.Semaphore(0)

    def submit(self, requests):
        self.held += requests
        self.arrived.release(len(requests))


@pytest.fixture
def background() -> Iterator[Callable[..., Any]]:
    """Runs a call in a thread; its future."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def test_deadline_gives_the_client_an_errno(serve, volume):
    store = Holding()
    serve(store, deadline_s=0.05)
    vol = volume()
    with pytest.raises(TimeoutError):
        vol.pread(512, 0)
    (late,) = store.held
    late.buffer[:] = b"l" * 512
    late.complete()
    with pytest.raises(TimeoutError):
        vol.pwrite(b"more", 0)
    store.held[1].complete()


def test_forgotten_request_is_an_error(serve, volume, caplog):
    class Forgetful(One):
        def submit(self, requests):
            pass

    serve(Forgetful())
    with pytest.raises(OSError, match="Input/output"):
        volume().pread(512, 0)
    assert "forgotten" in caplog.text


def test_request_ends_once(serve, volume):
    class Twice(One):
        def submit(self, requests):
            for request in requests:
                request.buffer[:] = b"1" * request.length_bytes
                request.complete()
                request.complete()
                request.fail(OSError(errno.ENOSPC, "full"))
                self.last = request

    store = Twice()
    serve(store)
    assert volume().pread(4, 0) == b"1111"
    assert store.last.ended
    with pytest.raises(ValueError, match="complete"):
        _ = store.last.buffer


def test_bad_extents_from_submit_are_eio(serve, volume):
    class Odd(One):
        can_block_status = True

        def submit(self, requests):
            for request in requests:
                request.complete([Extent(-1)])

    serve(Odd())
    with pytest.raises(OSError, match="Input/output"):
        list(volume().block_status(4096, 0))


def test_stop_drops_what_a_store_holds(serve, path, background):
    store = Holding()
    server = serve(store)
    client = shmclient.connect(path)
    vol = client.open("vol", writable=True)
    read = background(vol.pread, 4096, 0)
    assert store.arrived.acquire(timeout=WAIT_S)
    view = store.held[0].buffer
    assert server.stop(0.05) is False
    assert isinstance(read.exception(WAIT_S), OSError)
    vol.close()
    client.close()
    view[:] = b"x" * len(view)  # still there
    (request,) = store.held
    assert request.ended
    request.complete()
    request.fail(OSError())


def test_request_of_a_client_that_is_gone_can_be_completed(serve, path):
    store = Holding()
    server = serve(store)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import shmclient\n"
            f"volume = shmclient.connect({str(path)!r}).open('vol')\n"
            "volume.pread(4096, 0)\n",
        ]
    )
    try:
        assert store.arrived.acquire(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    (request,) = store.held
    request.buffer[:] = b"x" * 4096
    request.complete()
    wait_unused(server)


@pytest.mark.parametrize("kind", ["here", "pool"])
def test_store_that_blocks_does_not_keep_the_server(path, monkeypatch, background, kind, caplog):
    monkeypatch.setattr(shmserver._core, "STUCK_S", 0.2)
    arrived, go = threading.Event(), threading.Event()

    class Blocking(One):
        threads = 1 if kind == "pool" else 0

        def pread(self, volume, buffer, offset_bytes):
            arrived.set()
            go.wait(WAIT_S)

    before = set(threading.enumerate())
    server = Server(Blocking(), socket=path)
    server.start()
    with shmclient.connect(path) as client:
        vol = client.open("vol")
        read = background(vol.pread, 4096, 0)
        assert arrived.wait(WAIT_S)
        try:
            assert server.stop(0.05) is False
            assert "blocks" in caplog.text
            assert isinstance(read.exception(WAIT_S), OSError)
        finally:
            go.set()
        vol.close()
    for thread in set(threading.enumerate()) - before:
        if thread.daemon:
            thread.join(WAIT_S)


@pytest.mark.parametrize("method", ["create", "open", "list"])
def test_management_call_that_blocks_does_not_keep_the_server(
    path, monkeypatch, background, method
):
    monkeypatch.setattr(shmserver._core, "STUCK_S", 0.2)
    arrived, go = threading.Event(), threading.Event()

    class Blocking(Everything):
        pass

    def block(*_):
        arrived.set()
        go.wait(WAIT_S)
        return ()

    setattr(Blocking, method, block)
    before = set(threading.enumerate())
    server = Server(Blocking(), socket=path)
    server.start()
    with shmclient.connect(path) as client:
        call = background(MANAGEMENT[method], client)
        assert arrived.wait(WAIT_S)
        try:
            assert server.stop(0.05) is False
            assert isinstance(call.exception(WAIT_S), OSError)
        finally:
            go.set()
    for thread in set(threading.enumerate()) - before:
        if thread.daemon:
            thread.join(WAIT_S)


EXIT = """
import asyncio, sys, threading
import shmserver, shmserver._core
shmserver._core.STUCK_S = 0.5
arrived = threading.Event()

class Common(shmserver.Store):
    def size(self, name):
        return 1 << 20

class Here(Common):
    def pread(self, volume, buffer, offset_bytes):
        arrived.set()
        threading.Event().wait()

class Pool(Here):
    threads = 2

class Deadline(Here):
    deadline_s = 1000.0

class Loop(Common):
    async def pread(self, volume, buffer, offset_bytes):
        arrived.set()
        await asyncio.Event().wait()

class Submit(Common):
    def submit(self, requests):
        self.held = requests
        arrived.set()

class View(Common):
    def pread(self, volume, buffer, offset_bytes):
        self.kept = buffer
        arrived.set()

server = shmserver.Server(globals()[sys.argv[2]](), socket=sys.argv[1])
server.start()
print("ready", flush=True)
arrived.wait()
"""


@pytest.mark.parametrize("kind", ["Here", "Pool", "Deadline", "Loop", "Submit", "View"])
def test_interpreter_ends_with_requests_in_flight(path, background, kind):
    """Without closing anything; neither a hang nor a crash, and the client hears of it."""
    with subprocess.Popen(
        [sys.executable, "-c", EXIT, str(path), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with shmclient.connect(path) as client:
                vol = client.open("vol")
                read = background(vol.pread, 4096, 0)
                _, errors = process.communicate(timeout=WAIT_S)
                assert process.returncode == 0, errors
                assert ("blocks" in errors) == (kind in ("Here", "Pool", "Deadline")), errors
                if kind != "View":
                    assert isinstance(read.exception(WAIT_S), OSError)
                vol.close()
        finally:
            process.kill()


# ---- where stores come from ----


def test_class_is_made_with_the_options(path):
    class Named(One):
        def __init__(self, text):
            self.text = text

        def pread(self, volume, buffer, offset_bytes):
            buffer[:] = self.text.encode()[: len(buffer)]

    with Server(Named, options={"text": "abcd"}, socket=path), ExitStack() as stack:
        assert opened(path, stack).pread(4, 0) == b"abcd"


def test_text_names_a_class(path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOP / "examples"))
    with Server("memory_store:Memory", socket=path), shmclient.connect(path) as client:
        assert client.hello.store == "Memory"


@pytest.mark.parametrize(
    "store", [5, None, [], object, pytest.param(object(), id="instance")], ids=str
)
def test_what_is_no_store_is_refused(path, store):
    with pytest.raises(OSError, match="not a shmserver"):
        Server(store, socket=path)


def test_startup_that_raises_comes_through_and_leaves_nothing(path):
    class Failing(AsyncOne):
        async def startup(self):
            raise LookupError("nothing there")

    before = set(threading.enumerate())
    server = Server(Failing(), socket=path)
    with pytest.raises(LookupError):
        server.start()
    server.close()
    assert set(threading.enumerate()) == before
    assert not path.exists()


def test_startup_and_shutdown_surround_everything(serve, volume):
    events: list[str] = []

    class Noting(One):
        def startup(self):
            events.append("startup")

        def open(self, name):
            events.append("open")

        def close(self, volume):
            events.append("close")

        def shutdown(self):
            events.append("shutdown")

    server = serve(Noting())
    vol = volume()
    vol.pread(4, 0)
    vol.close()
    server.close()
    assert events == ["startup", "open", "close", "shutdown"]


def capsule(pointer: int, name: bytes) -> Any:
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make(pointer, name, None)


CAPSULE_NAME = b"ovsshm_store_type"


class FromC:
    def __init__(self, brought: Any) -> None:
        self.__ovsshm_store__ = brought


def test_object_may_bring_a_store_in_c(path, short_dir):
    plugin = short_dir / "gate.so"
    source = [f"-I{TOP}/csrc/include", TOP / "tests" / "gate_store.c"]
    subprocess.run(["cc", "-shared", "-fPIC", *source, "-o", plugin], check=True, timeout=60)
    options = {name: str(short_dir / name) for name in ("arrived", "gate")}
    for fifo in options.values():
        os.mkfifo(fifo)
    ctypes.CDLL(shmserver._core.__file__, mode=os.RTLD_GLOBAL | os.RTLD_NOLOAD | os.RTLD_NOW)
    kind = ctypes.addressof(ctypes.c_char.in_dll(ctypes.CDLL(str(plugin)), "ovsshm_store_plugin"))
    store = FromC(capsule(kind, CAPSULE_NAME))
    with Server(store, options=options, socket=path), shmclient.connect(path) as client:
        assert client.hello.store == "gate"
        assert [info.name for info in client.list()] == ["vol"]


def test_capsule_that_is_none_is_refused(path):
    old = ctypes.create_string_buffer(1024)
    for brought in (5, None, capsule(1, b"other")):
        with pytest.raises(OSError, match="no capsule"):
            Server(FromC(brought), socket=path)
    with pytest.raises(OSError, match="another version"):
        Server(FromC(capsule(ctypes.addressof(old), CAPSULE_NAME)), socket=path)
