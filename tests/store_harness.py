# SPDX-License-Identifier: MIT
"""Python stores under the dispatcher without a server: what asks them, and some that answer."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from shmserver.dispatch import Dispatcher
from shmserver.manage import OpenVolume
from shmserver.store import Extent, Op, Store

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
