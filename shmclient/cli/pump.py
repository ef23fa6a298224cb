# SPDX-License-Identifier: MIT
"""Moves bytes from a source to a target; what is zero is told, not moved.

In each round a source fills a slot of memory, all its requests in flight together, while the pieces
of the round before are written from another slot.  Both work in threads of the background, one call
at a time, so that the main thread can always be interrupted.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, TypeVar

SLOT_BYTES = 4 << 20
SETTLE_S = 60  # how long to wait for what is still under way when the rest has failed

Result = TypeVar("Result")


class Piece(NamedTuple):
    offset_bytes: int
    length_bytes: int
    data: memoryview | None  # None: zeroes

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes

    def within(self, start_bytes: int, end_bytes: int) -> "Piece":
        """What of it lies there."""
        start, end = max(start_bytes, self.offset_bytes), min(end_bytes, self.end_bytes)
        at = start - self.offset_bytes
        return Piece(start, end - start, self.data and self.data[at : at + end - start])


class Source(Protocol):
    def next(self, slot: memoryview) -> list[Piece]:
        """The pieces behind those of the last call, data in the slot; none at the end."""

    def stop(self) -> None:
        """Let a running next() end soon; any thread."""


class Target(Protocol):
    def write(self, pieces: Sequence[Piece]) -> int:
        """Write them; how many bytes of data that took."""

    def finish(self) -> None:
        """Make it safe."""

    def stop(self) -> None:
        """Let a running call end soon; any thread."""


class Background(Future[Result]):
    """A call in a thread of its own, which does not keep the program from ending."""

    def __init__(self, call: Callable[[], Result]) -> None:
        super().__init__()
        self._call = call

    def start(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def _run(self) -> None:
        try:
            self.set_result(self._call())
        except BaseException as error:
            self.set_exception(error)


def pump(
    source: Source,
    target: Target,
    slots: tuple[memoryview, memoryview],
    moved: Callable[[int, int], None],
) -> None:
    """Move everything.

    moved(data_bytes, end_bytes) is told after each round how much data it has written, and where
    the source has got to.
    """
    ready: list[Piece] = []
    while True:
        slots = slots[1], slots[0]
        filling = Background(partial(source.next, slots[0])).start()
        writing = Background(partial(target.write, ready)).start()
        calls: list[Future[Any]] = [filling, writing]
        try:
            wait(calls, return_when=FIRST_EXCEPTION)
            for call in calls:
                if call.done():
                    call.result()
        except BaseException:
            source.stop()
            target.stop()
            wait(calls, SETTLE_S)
            raise
        if ready:
            moved(writing.result(), ready[-1].end_bytes)
        ready = filling.result()
        if not ready:
            break
    Background(target.finish).start().result()
