# SPDX-License-Identifier: MIT
"""Requests that end with ETIMEDOUT when the store takes too long over them."""

import errno
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from shmserver.manage import Manager, OpenVolume
from shmserver.store import Extent, Op, Request


class ServerRequest(Request, Protocol):
    """What a server gives to Dispatcher.submit().

    Its complete() passes the extents of a block-status through Dispatcher.extents(), its fail() the
    error through Dispatcher.failed().
    """

    opened: OpenVolume  # volume is opened.handle

    @property
    def ended(self) -> bool:
        """complete() and fail() do nothing any more, or the server has dropped it."""


class Guarded:
    """A request in front of the server's: who is first ends that, store or clock.

    The store works on private memory, so that nothing it does late reaches memory of a client.
    """

    def __init__(self, request: ServerRequest, clock: "Clock", manage: Manager) -> None:
        self.op = request.op
        self.opened = request.opened
        self.volume = request.volume
        self.offset_bytes = request.offset_bytes
        self.length_bytes = request.length_bytes
        self.fua = request.fua
        self.may_unmap = request.may_unmap
        self.extents_max = request.extents_max
        self.on_expiry: Callable[[], Any] | None = None
        self.buffer: memoryview | None = None
        if request.op is Op.READ:
            self.buffer = memoryview(bytearray(request.length_bytes))
        elif request.buffer is not None:
            self.buffer = memoryview(bytes(request.buffer))
        self._request = request
        self._clock = clock
        self._manage = manage
        manage.enter(self, self.opened)
        clock.add(self)

    @property
    def ended(self) -> bool:
        return self not in self._clock or self._request.ended

    def complete(self, extents: Iterable[Extent] = ()) -> None:
        if self._clock.take(self):
            try:
                if self.op is Op.READ and self._request.buffer is not None and self.buffer:
                    self._request.buffer[:] = self.buffer
                self._request.complete(extents)
            except BaseException as error:  # dropped by the server meanwhile
                self._request.fail(error)
        self._manage.leave(self, self.opened)

    def fail(self, error: BaseException) -> None:
        if self._clock.take(self):
            self._request.fail(error)
        self._manage.leave(self, self.opened)

    def expire(self) -> None:
        text = f"not done within {self._clock.timeout_s:g} s"
        self._request.fail(TimeoutError(errno.ETIMEDOUT, text))
        if self.on_expiry is not None:
            self.on_expiry()


class Clock:
    """Ends requests in time.  All have the same time, so that the oldest is the first."""

    def __init__(self, timeout_s: float, name: str) -> None:
        self.timeout_s = timeout_s
        self._waiting: OrderedDict[Guarded, float] = OrderedDict()
        self._changed = threading.Condition()
        self._idle = False
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def add(self, request: Guarded) -> None:
        self._waiting[request] = time.monotonic() + self.timeout_s
        if self._idle:  # at most once per timeout_s
            with self._changed:
                self._changed.notify()

    def take(self, request: Guarded) -> bool:
        """True for one caller: the request is its to end."""
        return self._waiting.pop(request, None) is not None

    def __contains__(self, request: Guarded) -> bool:
        return request in self._waiting

    def _main(self) -> None:
        while not self._stopping:
            delay_s = self._expire_due()
            with self._changed:
                self._idle = delay_s is None
                # Once more, now that add() would notify.
                if not self._stopping and not (self._idle and self._waiting):
                    self._changed.wait(delay_s)
                self._idle = False

    def _expire_due(self) -> float | None:
        """Seconds until the next; None: there is none."""
        while self._waiting:
            try:
                request, deadline = next(iter(self._waiting.items()))
            except (StopIteration, RuntimeError):  # another thread took one
                continue
            delay_s = deadline - time.monotonic()
            if delay_s > 0:
                return delay_s
            if self.take(request):
                request.expire()
        return None

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
