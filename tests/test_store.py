# SPDX-License-Identifier: MIT
"""Stores in Python behind the C server, used by real clients.

What a method is called with is tested in test_store_dispatch.py; here it is the threads, and what a
store must not be able to break.
"""

import asyncio
import ctypes
import errno
import logging
import os
import subprocess
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import TOP
from python_stores import (
    MANAGEMENT,
    SIZE,
    WAIT_S,
    AsyncOne,
    Everything,
    One,
    ThreadedOne,
    opened,
    path,
    serve,
    volume,
)

import shmclient
import shmserver
from shmserver import Op, Server

__all__ = ["path", "serve", "volume"]

# ---- threads ----


def reads_at_once(path: Path, count: int, length: int = 4096) -> list[bytes]:
    """As many clients, each with one read in flight."""

    def read(_: int) -> bytes:
        with ExitStack() as stack:
            return opened(path, stack, writable=False).pread(length, 0)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(read, range(count), timeout=WAIT_S))


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
    assert not set(threading.enumerate()) - before
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
