# SPDX-License-Identifier: MIT
"""Runs the requests of a server on a Python store, whichever way the store wants them.

    where       when
    here        plain methods: in the thread that calls submit()
    pool        plain methods of a store with threads, or with a deadline
    loop        async def methods

A server gives requests (ServerRequest) and gets each of them ended, now or later, from any thread.
The C server calls plain pread and pwrite itself and leaves the rest to this file; the reference
server leaves it everything.
"""

import enum
import errno
import inspect
import operator
from collections.abc import Iterable
from itertools import islice
from typing import Any

from shmserver.complaints import Complaints
from shmserver.deadline import Clock, Guarded, ServerRequest
from shmserver.manage import Manager, OpenVolume
from shmserver.store import Extent, Op, Store, abilities, errno_of, implements
from shmserver.workers import Loop, Pool

THREADS_MAX = 1024
BLOCK_BYTES_MAX = 1 << 30
DEADLINE_S_MAX = 86400
STOP_S = 5.0  # for what a store has under way when its server is gone

METHODS = {
    Op.READ: "pread",
    Op.WRITE: "pwrite",
    Op.FLUSH: "flush",
    Op.DISCARD: "discard",
    Op.WRITE_ZEROES: "write_zeroes",
    Op.BLOCK_STATUS: "block_status",
}


class Where(enum.Enum):
    HERE = 1
    POOL = 2
    LOOP = 3


class Dispatcher:
    """A store at work: start(), then the rest from any thread, stop() when the server has ended.

    manage: the management calls.
    """

    def __init__(self, store: Store, deadline_s: float | None = None) -> None:
        """deadline_s: goes over what the store declares.  ValueError: it declares nonsense."""
        self._store: Any = store  # what it returns is checked, whatever its types promise
        self.name = type(store).__name__
        self.ability = abilities(store)
        self.block_bytes = _checked_block_bytes(store.block_bytes)
        self.threads = _checked_threads(store.threads)
        self.deadline_s = _checked_deadline(store.deadline_s if deadline_s is None else deadline_s)
        self._vectorised = implements(store, "submit")
        self._where = {(op, fua): self._choose(op, fua) for op in METHODS for fua in (False, True)}
        self._complaints = Complaints(self.name)
        methods = [getattr(store, name) for name in vars(Store) if not name.startswith("_")]
        self._loop = (
            Loop(f"{self.name}-loop") if any(map(inspect.iscoroutinefunction, methods)) else None
        )
        self._pool: Pool | None = None
        self._clock: Clock | None = None
        self.manage = Manager(store, self.ability, self._loop, self._complaints)
        self._started = False

    def _choose(self, op: Op, fua: bool) -> Where:
        methods = ["submit"] if self._vectorised else [METHODS[op]]
        if fua and not self._vectorised and not self._store.can_fua:
            methods.append("flush")
        if any(inspect.iscoroutinefunction(getattr(self._store, name)) for name in methods):
            return Where.LOOP
        return Where.POOL if self.threads or self.deadline_s is not None else Where.HERE

    def start(self) -> None:
        """Raises what the store's startup() raises."""
        self._started = True
        if self._loop is not None:
            self._loop.begin()
        if Where.POOL in self._where.values():
            run = self._run_batch if self._vectorised else self._run_tracked
            self._pool = Pool(self.threads or 1, run, self.name)
        if self.deadline_s is not None:
            self._clock = Clock(self.deadline_s, f"{self.name}-clock")
        try:
            self.manage.call("startup")
        except BaseException:
            self._started = False
            self._end_threads(STOP_S)
            raise

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """End the store's threads.  False: some of its methods do not return; they are left."""
        if not self._started:
            return True
        self._started = False
        if self._loop is not None:
            self._loop.cancel_started()
        closed = self.manage.wait_all_closed(timeout_s)
        try:
            self.manage.call("shutdown")
        except BaseException as error:
            self._complaints.tell("shutdown()", error)
        return self._end_threads(timeout_s if closed else 0) and closed

    def _end_threads(self, timeout_s: float) -> bool:
        clean = True
        if self._clock is not None:
            self._clock.stop()
        if self._pool is not None:
            clean &= self._pool.stop(timeout_s)
        if self._loop is not None:
            clean &= self._loop.stop(timeout_s)
        return clean

    # ---- for servers ----

    def plain(self, op: Op) -> Any:
        """The method for op if a server may call it itself, instead of submit(); else None."""
        here = self._where[op, False] is Where.HERE and not self._vectorised
        return getattr(self._store, METHODS[op]) if here else None

    @property
    def in_reactor(self) -> bool:
        """Some of the store's data methods run where submit() is called."""
        return any(
            where is Where.HERE and (self._vectorised or implements(self._store, METHODS[op]))
            for (op, _), where in self._where.items()
        )

    def failed(self, op: Op, opened: OpenVolume, error: BaseException) -> int:
        """The errno of a request that ended so, and the line in the log."""
        self._complaints.tell(f"{METHODS[op]} of {opened.name!r}", error)
        return errno_of(error)

    def extents(self, found: Iterable[Any], length_bytes: int, most: int) -> list[Extent]:
        """What a client can be told of a range.  OSError: the store has told nonsense."""
        kept: list[Extent] = []
        left = length_bytes
        for item in islice(found, most):
            extent = Extent(*item)
            length = operator.index(extent.length_bytes)
            if length <= 0:
                raise OSError(errno.EIO, f"block_status() told an extent of {length} bytes")
            kept.append(Extent(min(length, left), bool(extent.hole), bool(extent.zero)))
            left -= length
            if left <= 0:
                break
        if not kept:
            raise OSError(errno.EIO, "block_status() told no extent")
        return kept

    def submit(self, requests: list[ServerRequest]) -> None:
        """Start them all.  They are ended here or later, in any case and from any thread."""
        guarded = requests if self._clock is None else self._guard(self._clock, requests)
        try:
            if self._vectorised:
                self._submit_batch(guarded)
            else:
                self._submit_each(guarded)
        except BaseException as error:  # no memory, no threads
            for request in guarded:
                request.fail(error)

    # ---- requests one by one ----

    def _submit_each(self, requests: list[ServerRequest]) -> None:
        for_loop = []
        for request in requests:
            where = self._where[request.op, request.fua]
            if where is Where.HERE:
                self._run(request)
                continue
            self.manage.enter(request, request.opened)
            if where is Where.LOOP:
                for_loop.append(request)
            elif self._pool is not None:
                self._pool.put(request)
        if for_loop and self._loop is not None:
            self._loop.start(self._run_async, for_loop)

    def _call(self, request: ServerRequest) -> Any:
        r, store = request, self._store
        fua: dict[str, Any] = {"fua": True} if r.fua and store.can_fua else {}
        match r.op:
            case Op.READ:
                return store.pread(r.volume, r.buffer, r.offset_bytes)
            case Op.WRITE:
                return store.pwrite(r.volume, r.buffer, r.offset_bytes, **fua)
            case Op.FLUSH:
                return store.flush(r.volume)
            case Op.DISCARD:
                return store.discard(r.volume, r.length_bytes, r.offset_bytes)
            case Op.WRITE_ZEROES:
                return store.write_zeroes(
                    r.volume, r.length_bytes, r.offset_bytes, r.may_unmap, **fua
                )
            case Op.BLOCK_STATUS:
                return store.block_status(r.volume, r.length_bytes, r.offset_bytes)

    def _flushes_after(self, request: ServerRequest) -> bool:
        return request.fua and not self._store.can_fua

    def _run(self, request: ServerRequest) -> None:
        try:
            result = _value(self._call(request))
            if self._flushes_after(request):
                _value(self._store.flush(request.volume))
            _complete(request, result)
        except BaseException as error:
            request.fail(error)

    def _run_tracked(self, request: ServerRequest) -> None:
        if not request.ended:
            self._run(request)
        self.manage.leave(request, request.opened)

    async def _run_async(self, request: ServerRequest) -> None:
        try:
            if request.ended:
                return
            if isinstance(request, Guarded) and self._loop is not None:
                request.on_expiry = self._loop.canceller()
            result = await _awaited(self._call(request))
            if self._flushes_after(request):
                await _awaited(self._store.flush(request.volume))
            _complete(request, result)
        except BaseException as error:
            request.fail(error)
        finally:
            self.manage.leave(request, request.opened)

    # ---- requests for the store's submit() ----

    def _submit_batch(self, requests: list[ServerRequest]) -> None:
        where = self._where[Op.FLUSH, False]
        if where is Where.LOOP and self._loop is not None:
            self._loop.start(self._run_batch_async, [requests])
        elif where is Where.POOL and self._pool is not None:
            self._pool.put(requests)
        else:
            self._run_batch(requests)

    def _run_batch(self, requests: list[ServerRequest]) -> None:
        try:
            _value(self._store.submit(list(requests)))
        except BaseException as error:
            for request in requests:
                request.fail(error)

    async def _run_batch_async(self, requests: list[ServerRequest]) -> None:
        try:
            await _awaited(self._store.submit(list(requests)))
        except BaseException as error:
            for request in requests:
                request.fail(error)

    # ---- deadlines ----

    def _guard(self, clock: Clock, requests: list[ServerRequest]) -> list[ServerRequest]:
        guarded: list[ServerRequest] = []
        for request in requests:
            try:
                guarded.append(Guarded(request, clock, self.manage))
            except BaseException as error:  # no memory
                request.fail(error)
        return guarded


def check_count(returned: Any, length_bytes: int) -> None:
    """OSError, unless pread or pwrite says that it has done all of it."""
    if _value(returned) is None or returned == length_bytes:
        return
    if not isinstance(returned, int):
        advice = "what is read goes into the buffer, and None is returned"
        raise OSError(errno.EIO, f"returned {type(returned).__name__}; {advice}")
    raise OSError(errno.EIO, f"returned {returned} for {length_bytes} bytes")


def _complete(request: ServerRequest, result: Any) -> None:
    if request.op is Op.BLOCK_STATUS:
        request.complete(result)
        return
    if request.op in (Op.READ, Op.WRITE):
        check_count(result, request.length_bytes)
    request.complete()


def _value(result: Any) -> Any:
    """What a plain method returned."""
    if hasattr(result, "__await__"):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("it returned an awaitable and is not async def")
    return result


async def _awaited(result: Any) -> Any:
    """On the loop methods of both kinds are fine."""
    return await result if hasattr(result, "__await__") else result


def _checked_block_bytes(value: Any) -> int:
    number = operator.index(value)
    if not 0 < number <= BLOCK_BYTES_MAX or number & (number - 1):
        raise ValueError(f"block_bytes is {number}, it must be a power of two")
    return number


def _checked_threads(value: Any) -> int:
    number = operator.index(value)
    if not 0 <= number <= THREADS_MAX:
        raise ValueError(f"threads is {number}, it must be 0 to {THREADS_MAX}")
    return number


def _checked_deadline(value: Any) -> float | None:
    if value is None:
        return None
    seconds = float(value)
    if not 0 < seconds <= DEADLINE_S_MAX:
        raise ValueError(
            f"the deadline is {seconds:g} s, it must be above 0 and at most {DEADLINE_S_MAX}"
        )
    return seconds
