# SPDX-License-Identifier: MIT
"""The two implementations of shmclient are one interface: names, records, and every bad argument.

What one raises for a mistake of its caller the other raises too: the type, and the errno if any.
"""

from __future__ import annotations

import array
import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import wait_until

import shmclient
import shmclient.aio
import shmclient.reference
import shmserver
from interop.client import WAIT_S
from interop.client_python import aio_as_plain
from interop.conftest import MIB

IMPLEMENTATIONS: dict[str, Any] = {"native": shmclient, "reference": shmclient.reference}
CLASSES = shmclient.reference.__all__
NATIVE_ONLY = {"LatencyHistogram", "Load", "__version__", "connect", "default_socket"}
RECORDS = [name for name in CLASSES if hasattr(getattr(shmclient, name), "_fields")]


def public(kind: type) -> set[str]:
    ours = {name for one in kind.__mro__ for name in vars(one) if one.__module__ != "builtins"}
    return {name for name in ours if not name.startswith("_")}


def test_both_have_the_same_classes() -> None:
    assert set(shmclient.__all__) - NATIVE_ONLY == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_public_names_are_the_same(name: str) -> None:
    native, reference = (getattr(module, name) for module in IMPLEMENTATIONS.values())
    of_mmap_and_tuples = {name for base in reference.__bases__ for name in dir(base)}
    assert public(native) == public(reference) - of_mmap_and_tuples


@pytest.mark.parametrize("name", RECORDS)
def test_records_have_the_same_members_in_the_same_order(name: str) -> None:
    native, reference = (getattr(module, name) for module in IMPLEMENTATIONS.values())
    assert native._fields == reference._fields


def connect(socket: str, name: str) -> Any:
    return aio_as_plain(socket) if name == "aio" else shmclient.connect(socket, implementation=name)


class Held:
    """A closed and an open volume, a reader, and the words of an implementation."""

    def __init__(self, name: str, socket: str, stack: Any) -> None:
        self.words = IMPLEMENTATIONS.get(name, shmclient)
        self.connection: Any = stack.enter_context(connect(socket, name))
        volume = f"surface-{name}"
        if volume not in [info.name for info in self.connection.list()]:
            self.connection.create(volume, MIB)
        self.name = volume
        self.volume = stack.enter_context(
            self.connection.open(volume, writable=True, arena_bytes=MIB)
        )
        self.reader = stack.enter_context(self.connection.open(volume))
        self.closed = self.connection.open(volume)
        self.closed.close()
        # Of asyncio on a loop that lives on.
        self.gone: Any = (
            aio_as_plain(socket, self.connection) if name == "aio" else connect(socket, name)
        )
        self.gone.close()


def read_beside(held: Held, buffer: Any) -> bytes:
    with buffer:
        return bytes(held.volume.pread(512, 0))


def released(buffer: Any) -> Any:
    buffer.release()
    buffer.release()
    assert buffer.released
    return buffer


SPARSE = memoryview(bytearray(64))[::2]
CALLS: dict[str, Callable[[Held], Any]] = {
    # numbers
    "negative offset": lambda h: h.volume.pread(512, -1),
    "negative length": lambda h: h.volume.pread(-1, 0),
    "negative offset of a write": lambda h: h.volume.pwrite(b"x", -512),
    "negative discard": lambda h: h.volume.discard(-512, 0),
    "negative zeroes": lambda h: h.volume.write_zeroes(512, -512),
    "negative extents": lambda h: list(h.volume.block_status(-512, 0)),
    "negative offset of extents": lambda h: list(h.volume.block_status(512, -1)),
    "offset of 2^63": lambda h: h.volume.pread(512, 1 << 63),
    "offset of 2^64": lambda h: h.volume.pread(512, 1 << 64),
    "offset of 2^80": lambda h: h.volume.pwrite(b"x", 1 << 80),
    "range up to 2^63": lambda h: h.volume.pread(1, (1 << 63) - 1),
    "range beyond 2^63": lambda h: h.volume.pread(2, (1 << 63) - 1),
    "write beyond 2^63": lambda h: h.volume.pwrite(b"xx", (1 << 63) - 1),
    "discard beyond 2^63": lambda h: h.volume.discard(2, (1 << 63) - 1),
    "read of 2^62": lambda h: len(h.volume.pread(1 << 62, 512)),
    "length of 2^63": lambda h: h.volume.discard(1 << 63, 0),
    "length of 2^64": lambda h: h.volume.write_zeroes(1 << 64, 0),
    "extents beyond 2^63": lambda h: list(h.volume.block_status(2, (1 << 63) - 1)),
    "float offset": lambda h: h.volume.pread(512, 0.0),
    "text offset": lambda h: h.volume.pread(512, "0"),
    "no offset": lambda h: h.volume.pread(512),
    "size below 0": lambda h: h.connection.create("surface", -512),
    "size of 2^63": lambda h: h.connection.create("surface", 1 << 63),
    "size of 2^64": lambda h: h.connection.create("surface", 1 << 64),
    "resize below 0": lambda h: h.connection.resize(h.name, -512),
    "resize to 2^64": lambda h: h.volume.resize(1 << 64),
    "odd size": lambda h: h.connection.create("surface", 1000),
    "depth below 0": lambda h: h.connection.open(h.name, depth=-1),
    "depth of 2^32": lambda h: h.connection.open(h.name, depth=1 << 32),
    "depth of 100000": lambda h: h.connection.open(h.name, depth=100000),
    "odd arena": lambda h: h.connection.open(h.name, arena_bytes=4097),
    "arena below 0": lambda h: h.connection.open(h.name, arena_bytes=-4096),
    "time limit of 2^63": lambda h: h.connection.snapshot_create(h.name, "s", timeout_s=1 << 63),
    "time limit below -2^63": lambda h: h.connection.snapshot_create(
        h.name, "s", timeout_s=-(1 << 63) - 1
    ),
    "time limit in text": lambda h: h.connection.snapshot_create(h.name, "s", timeout_s="1"),
    "time limit of half a second": lambda h: h.connection.snapshot_create(
        h.name, "s", timeout_s=0.5
    ),
    "arena of 2^62": lambda h: h.connection.open(h.name, arena_bytes=1 << 62),
    # nothing to do
    "no bytes": lambda h: h.volume.pread(0, 0),
    "no bytes beyond the end": lambda h: h.volume.pwrite(b"", 1 << 40),
    "no bytes by a reader": lambda h: h.reader.pwrite(b"", 0),
    "no buffers": lambda h: h.volume.preadv([], 0),
    "no data": lambda h: h.volume.pwritev([b"", b""], 0),
    "no range": lambda h: h.volume.discard(0, 0),
    "no range by a reader": lambda h: h.reader.discard(0, 0),
    "no extents": lambda h: list(h.volume.block_status(0, 0)),
    "no requests": lambda h: h.volume.batch([]),
    # buffers
    "read into bytes": lambda h: h.volume.preadinto(b"1234", 0),
    "read into a read-only view": lambda h: h.volume.preadinto(memoryview(b"1234"), 0),
    "read into text": lambda h: h.volume.preadinto("1234", 0),
    "read into nothing": lambda h: h.volume.preadinto(None, 0),
    "read into what is not contiguous": lambda h: h.volume.preadinto(SPARSE, 0),
    "write what is not contiguous": lambda h: h.volume.pwrite(SPARSE, 0),
    "write text": lambda h: h.volume.pwrite("text", 0),
    "write a number": lambda h: h.volume.pwrite(5, 0),
    "write a list": lambda h: h.volume.pwrite([1, 2], 0),
    "write an array": lambda h: h.volume.pwrite(array.array("Q", [1, 2]), 0),
    "read into an array": lambda h: h.volume.preadinto(array.array("Q", [1, 2]), 0),
    "vector of text": lambda h: h.volume.pwritev(["text"], 0),
    "vector that is none": lambda h: h.volume.preadv(5, 0),
    "vector of bytes to read into": lambda h: h.volume.preadv([bytearray(4), b"1234"], 0),
    "vector from a generator": lambda h: h.volume.pwritev((b"x" for _ in range(3)), 0),
    "buffer of no bytes": lambda h: h.volume.buffer(0),
    "buffer below 0": lambda h: h.volume.buffer(-1),
    "buffer longer than the arena": lambda h: h.volume.buffer(MIB + 1),
    "buffer of 2^64": lambda h: h.volume.buffer(1 << 64),
    "read with all of the arena in use": lambda h: read_beside(h, h.volume.buffer(MIB)),
    "read into the arena": lambda h: h.volume.preadinto(h.volume.buffer(5000), 0),
    "read into a part of the arena": lambda h: h.volume.preadinto(
        memoryview(h.volume.buffer(5000))[7:77], 0
    ),
    "released buffer": lambda h: h.volume.preadinto(released(h.volume.buffer(512)), 0),
    "length of a buffer": lambda h: len(h.volume.buffer(513)),
    # refusals
    "beyond the end": lambda h: h.volume.pwrite(b"xx", MIB - 1),
    "far beyond the end": lambda h: h.volume.pread(512, 1 << 62),
    "write by a reader": lambda h: h.reader.pwrite(b"x", 0),
    "discard by a reader": lambda h: h.reader.discard(512, 0),
    "second writer": lambda h: h.connection.open(h.name, writable=True),
    "becoming second writer": lambda h: h.reader.set_writable(True),
    "nothing there": lambda h: h.connection.open("surface/none"),
    "bad name": lambda h: h.connection.stat("a//b"),
    "name with a NUL": lambda h: h.connection.stat("a\0b"),
    "name of bytes": lambda h: h.connection.stat(b"a"),
    "name of a number": lambda h: h.connection.stat(5),
    "name that is no UTF-8": lambda h: h.connection.stat("\udcff"),
    "name with a lone surrogate": lambda h: h.connection.stat("\ud800"),
    "shrinking": lambda h: h.volume.resize(512),
    # batches
    "batch of what is no request": lambda h: h.volume.batch([5]),
    "batch that is none": lambda h: h.volume.batch(5),
    "batch that fails": lambda h: h.volume.batch([h.words.Discard(512, MIB)]),
    "batch that fails, not raised": lambda h: h.volume.batch(
        [h.words.Flush(), h.words.Discard(512, MIB), h.words.Write(b"x", 0)], check=False
    ),
    "batch with a bad offset": lambda h: h.volume.batch([h.words.Discard(512, -1)]),
    "batch with a bad offset, not raised": lambda h: h.volume.batch(
        [h.words.Discard(512, -1)], check=False
    ),
    "batch beyond 2^63": lambda h: h.volume.batch([h.words.Discard(2, (1 << 63) - 1)], check=False),
    "batch into bytes": lambda h: h.volume.batch([h.words.Read(b"1234", 0)]),
    "batch of text": lambda h: h.volume.batch([h.words.Write("text", 0)]),
    "batch of nothing to do": lambda h: h.volume.batch(
        [h.words.Write(b"", 1 << 40), h.words.Read(bytearray(), 0), h.words.Discard(0, 0)]
    ),
    "batch by a reader, not raised": lambda h: h.reader.batch(
        [h.words.Write(b"x", 0), h.words.Read(bytearray(4), 0)], check=False
    ),
    "batch from a generator": lambda h: h.volume.batch(h.words.Flush() for _ in range(3)),
    "batch in words of the package": lambda h: h.volume.batch(
        [shmclient.Write(b"x", 0), shmclient.Read(bytearray(1), 0), shmclient.Flush()]
    ),
    # what is closed
    "closed: read": lambda h: h.closed.pread(1, 0),
    "closed: nothing": lambda h: h.closed.pread(0, 0),
    "closed: flush": lambda h: h.closed.flush(),
    "closed: size": lambda h: h.closed.size_bytes,
    "closed: limits": lambda h: h.closed.limits,
    "closed: stat": lambda h: h.closed.stat(),
    "closed: events": lambda h: h.closed.events(),
    "closed: wait": lambda h: h.closed.wait_event(0),
    "closed: extents": lambda h: list(h.closed.block_status(512, 0)),
    "closed: batch": lambda h: h.closed.batch([h.words.Flush()]),
    "closed: empty batch": lambda h: h.closed.batch([]),
    "closed: buffer": lambda h: h.closed.buffer(512),
    "closed: mode": lambda h: h.closed.set_writable(True),
    "closed: enter": lambda h: h.closed.__enter__().pread(1, 0),
    "closed: again": lambda h: h.closed.close(),
    "closed connection: list": lambda h: h.gone.list(),
    "closed connection: hello": lambda h: h.gone.hello,
    "closed connection: open": lambda h: h.gone.open(h.name),
    "closed connection: again": lambda h: h.gone.close(),
    # no event comes
    "no event": lambda h: h.volume.wait_event(0),
    "no event in a negative time": lambda h: h.volume.wait_event(-1),
    "no events": lambda h: h.volume.events(),
}


def outcome(call: Callable[[Held], Any], held: Held) -> Any:
    """The value, or the type of the exception and its errno."""
    try:
        value = call(held)
    except Exception as error:
        return type(error), getattr(error, "errno", None)
    return value if isinstance(value, int | bytes | list | None) else type(value).__name__


@pytest.fixture(scope="module")
def held(running: Any) -> Any:
    from contextlib import ExitStack

    with ExitStack() as stack:
        socket = running("c-memory").socket
        yield {name: Held(name, socket, stack) for name in [*IMPLEMENTATIONS, "aio"]}


@pytest.mark.parametrize("other", ["reference", "aio"])
@pytest.mark.parametrize("what", CALLS)
def test_callers_get_the_same(held: dict[str, Held], what: str, other: str) -> None:
    assert outcome(CALLS[what], held[other]) == outcome(CALLS[what], held["native"])


@pytest.mark.parametrize("name", ["Connection", "Volume"])
def test_parameters_have_the_same_names(name: str) -> None:
    """Of the reference, against the text signatures or stub of the native one."""
    native, reference = (getattr(module, name) for module in IMPLEMENTATIONS.values())
    for method in public(reference):
        ours = inspect.getattr_static(reference, method)
        if not callable(ours):
            continue
        try:
            theirs = inspect.signature(getattr(native, method))
        except ValueError:
            continue
        assert list(theirs.parameters) == list(inspect.signature(ours).parameters), method


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_numbers_that_are_refused_are_named(running, implementation: str) -> None:
    with shmclient.connect(running("c-memory").socket, implementation=implementation) as connection:
        name = f"named-{implementation}"
        connection.create(name, MIB)
        with connection.open(name) as volume:
            for call, named in (
                (lambda: connection.open(name, depth=-1), "depth"),
                (lambda: connection.open(name, arena_bytes=-1), "arena_bytes"),
                (lambda: connection.create("x", -512), "size_bytes"),
                (lambda: volume.resize(-512), "size_bytes"),
                (lambda: volume.buffer(-1), "length_bytes"),
                (lambda: volume.pread(-1, 0), "length_bytes"),
                (lambda: volume.discard(512, -1), "offset_bytes"),
                (lambda: list(volume.block_status(512, -1)), "offset_bytes"),
            ):
                with pytest.raises(ValueError, match=f"^{named} must not be negative"):
                    call()


# ---- a connection that is closed while somebody waits ----


class Slow(shmserver.Store):
    """Makes a volume when it is told to; every other call is answered meanwhile."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.proceed = threading.Event()

    def create(self, name: str, size_bytes: int) -> None:
        self.entered.set()
        assert self.proceed.wait(WAIT_S)

    def size(self, name: str) -> int:
        raise KeyError(name)

    def pread(self, volume: object, buffer: memoryview, offset_bytes: int) -> None:
        raise AssertionError("nothing is opened")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_call_that_is_under_way_outlives_the_connection(short_dir, implementation: str) -> None:
    store = Slow()
    path = short_dir / "s"
    with shmserver.Server(store, socket=path), ThreadPoolExecutor(1) as threads:
        connection = shmclient.connect(path, implementation=implementation)
        creating = threads.submit(connection.create, "vol", MIB)
        assert store.entered.wait(WAIT_S)
        connection.close()
        with pytest.raises(ValueError, match="closed"):
            connection.list()
        assert not creating.done()
        store.proceed.set()
        assert creating.result(WAIT_S) is None
        # And it ends with its last call.
        with shmclient.connect(path) as other:
            wait_until(lambda: other.status().connections == 1)


# ---- a volume that becomes shorter while somebody looks at it ----


def ragged(connection: Any, name: str) -> None:
    """More extents than any client asks for at a time, of a volume that can go back to nothing."""
    connection.create(name, 512)
    connection.snapshot_create(name, "small")
    connection.resize(name, 16 * MIB)
    with connection.open(name, writable=True) as volume:
        volume.batch([shmclient.Write(b"x" * 4096, offset) for offset in range(0, 16 * MIB, 8192)])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_extents_end_with_a_volume_that_shrinks(running, implementation: str) -> None:
    with shmclient.connect(running("c-memory").socket, implementation=implementation) as connection:
        name = f"ragged-{implementation}"
        ragged(connection, name)
        with connection.open(name) as volume:
            extents = volume.block_status()
            first = next(extents)
            connection.snapshot_rollback(name, "small")
            rest = list(extents)
            assert first.length_bytes + sum(one.length_bytes for one in rest) < 16 * MIB
            assert list(volume.block_status()) == list(volume.block_status(512, 0))


def test_extents_end_with_a_volume_that_shrinks_asynchronously(running) -> None:
    socket = running("c-memory").socket
    with shmclient.connect(socket) as connection:
        ragged(connection, "ragged-aio")

    async def look() -> int:
        server = await shmclient.aio.connect(socket)
        async with server, await server.open("ragged-aio") as volume:
            extents = volume.block_status()
            total = (await anext(extents)).length_bytes
            await server.snapshot_rollback("ragged-aio", "small")
            async for one in extents:
                total += one.length_bytes
            return total

    assert asyncio.run(asyncio.wait_for(look(), WAIT_S)) < 16 * MIB
