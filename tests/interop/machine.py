# SPDX-License-Identifier: MIT
"""The same random operations on several sides, which must answer alike: results, data and errno.

A side is a client on a server.  Sides may share the server: each keeps to names of its own.
Two answers are compared after normalising what the protocol leaves open: after a discard each byte
is zero or as before, and of block-status that it covers the range and calls zero what is.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from interop.client import Connection, Flush, Info, Read, Volume, Write, WriteZeroes

SECTOR = 512
SLOT = 16384  # of a batch: its requests do not overlap
NAMES = st.sampled_from(["a", "a", "a", "dir/ü"])
SNAPSHOTS = st.sampled_from(["one", "two", "three"])
BAD_NAMES = ["", "a/", "a//b", "..", "a\nb", ".openvstorage", "n" * 255]
BAD_SNAPSHOTS = ["", ".", "no/good", "n" * 255, "fine"]
SIZES = st.integers(0, 600).map(lambda sectors: sectors * SECTOR)
ANY_SIZES = st.one_of(SIZES, SIZES.map(lambda size: size + 100))
SEEDS = st.integers(1, 1 << 30)


def described(info: Info) -> tuple[int, int, int]:
    """Not how often it is open: that a client has closed arrives when it arrives."""
    return info.size_bytes, info.block_bytes, info.snapshots


MANAGEMENT: dict[str, Callable[[Connection, str, int], Any]] = {
    "create": lambda connection, name, size: connection.create(name, size),
    "remove": lambda connection, name, _: connection.remove(name),
    "resize": lambda connection, name, size: connection.resize(name, size),
    "stat": lambda connection, name, _: described(connection.stat(name)),
}
SNAPSHOT_CALLS: dict[str, Callable[[Connection, str, str], Any]] = {
    "create": lambda connection, name, snapshot: connection.snapshot_create(name, snapshot),
    "rollback": lambda connection, name, snapshot: connection.snapshot_rollback(name, snapshot),
    "remove": lambda connection, name, snapshot: connection.snapshot_remove(name, snapshot),
    "synced": lambda connection, name, snapshot: connection.snapshot_is_synced(name, snapshot),
    "list": lambda connection, name, _: connection.snapshots(name),
}


class Side(NamedTuple):
    name: str
    connect: Callable[[], Connection]


class Answer(NamedTuple):
    """What a call returned, or the errno it failed with, and whether it said why."""

    value: Any = None
    errno: int = 0
    reason: bool = False


def answer(call: Callable[[], Any]) -> Answer:
    try:
        return Answer(call())
    except OSError as error:
        return Answer(errno=error.errno or 0, reason=bool(error.strerror))


def lengths(unit: int) -> st.SearchStrategy[int]:
    few = st.integers(1, 20000).map(lambda n: (n + unit - 1) // unit * unit)
    many = st.integers(1, 400).map(lambda n: n * SECTOR)
    return st.one_of(few, many)


def offsets(unit: int) -> st.SearchStrategy[int]:
    any_place = st.integers(0, 320000).map(lambda n: n // unit * unit)
    return st.one_of(st.integers(0, 600).map(lambda n: n * SECTOR), any_place)


class Machine(RuleBasedStateMachine):
    """Subclass with `sides`, of which the first is the one the others are compared with."""

    sides: ClassVar[Sequence[Side]]
    examples: ClassVar[Any] = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.prefix = f"m{next(self.examples)}"
        self.connections = [self.stack.enter_context(side.connect()) for side in self.sides]
        self.handles: list[tuple[list[Volume], ExitStack]] = []

    def teardown(self) -> None:
        """Contents and sizes once more, then nothing is left."""
        try:
            for _, handle in self.handles:
                handle.close()
            self.compare_all()
        finally:
            for number, connection in enumerate(self.connections):
                for name in self.own(number, connection):
                    connection.remove(self.full(number, name))
            self.stack.close()

    # ---- the same on all sides ----

    def full(self, number: int, name: str) -> str:
        """Sides on one server do not meet.  A name that is too long stays just that."""
        return f"{self.prefix}-{number}/{name}"

    def own(self, number: int, connection: Connection) -> list[str]:
        start = self.full(number, "")
        return [name.removeprefix(start) for name in connection.names() if name.startswith(start)]

    def alike(self, answers: list[Answer]) -> Answer:
        assert all(bool(one.errno) == one.reason for one in answers), answers
        for side, other in zip(self.sides[1:], answers[1:], strict=True):
            assert other == answers[0], f"{side.name}: {other}; {self.sides[0].name}: {answers[0]}"
        return answers[0]

    def on_each(self, call: Callable[[Connection, Callable[[str], str]], Any]) -> Answer:
        """call(connection, full) on each side."""
        return self.alike(
            [
                answer(lambda c=connection, n=number: call(c, lambda name: self.full(n, name)))
                for number, connection in enumerate(self.connections)
            ]
        )

    def volumes(self, pick: int) -> list[Volume]:
        return self.handles[pick % len(self.handles)][0]

    def on_volumes(self, pick: int, call: Callable[[Volume], Any]) -> Answer:
        return self.alike([answer(lambda v=volume: call(v)) for volume in self.volumes(pick)])

    def compare_all(self) -> None:
        names = self.alike(
            [Answer(self.own(number, c)) for number, c in enumerate(self.connections)]
        ).value
        for name in names:

            def contents(connection: Connection, full: Callable[[str], str], name=name) -> Any:
                with connection.open(full(name)) as volume:
                    return volume.size(), volume.read(volume.size() + SECTOR, 0)

            self.on_each(contents)
            self.on_each(lambda c, full, name=name: c.snapshots(full(name)))

    # ---- management and snapshots: one rule each, so that most steps are about data ----

    @initialize(size=st.integers(100, 600).map(lambda sectors: sectors * SECTOR))
    def begin(self, size: int) -> None:
        self.on_each(lambda c, full: c.create(full("a"), size))
        self.opened("a", writable=True)

    @rule(op=st.sampled_from(sorted(MANAGEMENT)), name=NAMES, size=ANY_SIZES)
    def manage(self, op: str, name: str, size: int) -> None:
        self.on_each(lambda c, full: MANAGEMENT[op](c, full(name), size))

    @rule()
    def list(self) -> None:
        def listed(connection: Connection, full: Callable[[str], str]) -> Any:
            found = [info for info in connection.list() if info.name.startswith(full(""))]
            return [(info.name.removeprefix(full("")), *described(info)) for info in found]

        self.on_each(listed)

    @rule(op=st.sampled_from(sorted(SNAPSHOT_CALLS)), name=NAMES, snapshot=SNAPSHOTS)
    def snapshots(self, op: str, name: str, snapshot: str) -> None:
        self.on_each(lambda c, full: SNAPSHOT_CALLS[op](c, full(name), snapshot))

    @rule(snapshot=SNAPSHOTS)
    def keep(self, snapshot: str) -> None:
        self.on_each(lambda c, full: c.snapshot_create(full("a"), snapshot))

    @rule(pick=st.integers(0, 2))
    def rewind(self, pick: int) -> None:
        """To a snapshot there is."""
        found = self.on_each(lambda c, full: c.snapshots(full("a"))).value
        if found:
            snapshot = found[pick % len(found)].name
            self.on_each(lambda c, full: c.snapshot_rollback(full("a"), snapshot))

    @rule(
        op=st.sampled_from(sorted(MANAGEMENT) + sorted(SNAPSHOT_CALLS)),
        name=st.sampled_from(["a", *BAD_NAMES]),
        snapshot=st.sampled_from(BAD_SNAPSHOTS),
    )
    def bad_names(self, op: str, name: str, snapshot: str) -> None:
        if op in SNAPSHOT_CALLS:
            self.on_each(lambda c, full: SNAPSHOT_CALLS[op](c, full(name), snapshot))
        elif name in BAD_NAMES:
            self.on_each(lambda c, full: MANAGEMENT[op](c, full(name), SECTOR))

    # ---- sessions ----

    @precondition(lambda self: len(self.handles) < 4)
    @rule(name=NAMES, writable=st.booleans())
    def open(self, name: str, writable: bool) -> None:
        self.opened(name, writable)

    def opened(self, name: str, writable: bool) -> None:
        handle = ExitStack()
        volumes: list[Volume] = []

        def one(connection: Connection, full: Callable[[str], str]) -> None:
            volumes.append(handle.enter_context(connection.open(full(name), writable=writable)))

        if self.on_each(one).errno == 0:
            self.handles.append((volumes, handle))

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3))
    def close(self, pick: int) -> None:
        self.handles.pop(pick % len(self.handles))[1].close()

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), writable=st.booleans())
    def set_writable(self, pick: int, writable: bool) -> None:
        self.on_volumes(pick, lambda volume: volume.set_writable(writable))

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), sectors=st.integers(0, 9))
    def grow(self, pick: int, sectors: int) -> None:
        self.on_volumes(pick, lambda volume: volume.resize(volume.size() + sectors * SECTOR))

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3))
    def size_and_events(self, pick: int) -> None:
        """An event is sent before the reply to what caused it, so it is there."""
        self.on_volumes(pick, lambda volume: volume.size())
        self.on_volumes(pick, lambda volume: volume.pending_events())

    # ---- data ----

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), data=st.data())
    def read(self, pick: int, data: Any) -> None:
        length, offset = data.draw(lengths(self.unit)), data.draw(offsets(self.unit))
        self.on_volumes(pick, lambda volume: volume.read(length, offset))

    unit: ClassVar[int] = 1

    def draw_write(self, data: Any) -> tuple[bytes, int]:
        content = random.Random(data.draw(SEEDS)).randbytes(data.draw(lengths(self.unit)))
        return content, data.draw(offsets(self.unit))

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), fua=st.booleans(), data=st.data())
    def write(self, pick: int, fua: bool, data: Any) -> None:
        content, offset = self.draw_write(data)
        self.on_volumes(pick, lambda volume: volume.write(content, offset, fua=fua))

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), cuts=st.lists(st.integers(1, 9000), max_size=4), data=st.data())
    def vectored(self, pick: int, cuts: list[int], data: Any) -> None:
        content, offset = self.draw_write(data)
        places = [0, *sorted({cut for cut in cuts if cut < len(content)}), len(content)]
        chunks = [content[start:end] for start, end in itertools.pairwise(places)]
        written = self.on_volumes(pick, lambda volume: volume.writev(chunks, offset))
        if written.errno == 0:
            parts = [len(chunk) for chunk in chunks]
            self.on_volumes(pick, lambda volume: volume.readv(parts, offset))

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3))
    def flush(self, pick: int) -> None:
        self.on_volumes(pick, lambda volume: volume.flush())

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), may_unmap=st.booleans(), fua=st.booleans(), data=st.data())
    def write_zeroes(self, pick: int, may_unmap: bool, fua: bool, data: Any) -> None:
        length, offset = data.draw(lengths(self.unit)), data.draw(offsets(self.unit))
        self.on_volumes(
            pick, lambda v: v.write_zeroes(length, offset, may_unmap=may_unmap, fua=fua)
        )

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), data=st.data())
    def discard(self, pick: int, data: Any) -> None:
        length, offset = data.draw(lengths(self.unit)), data.draw(offsets(self.unit))
        before = self.on_volumes(pick, lambda volume: volume.read(length, offset))
        if self.on_volumes(pick, lambda volume: volume.discard(length, offset)).errno:
            return
        for side, volume in zip(self.sides, self.volumes(pick), strict=True):
            after = volume.read(length, offset)
            assert len(after) == length
            wrong = any(new not in (0, old) for new, old in zip(after, before.value, strict=True))
            assert not wrong, f"{side.name}: discard made something up"
        self.on_volumes(pick, lambda volume: volume.write_zeroes(length, offset))

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 3), data=st.data())
    def block_status(self, pick: int, data: Any) -> None:
        length, offset = data.draw(lengths(self.unit)), data.draw(offsets(self.unit))
        # Some clients cut the range to the volume before they ask, some leave that to the server.
        length = min(length, self.volumes(pick)[0].size() - offset)
        if length <= 0:
            return

        def covered(volume: Volume) -> int:
            at = offset
            for extent in volume.block_status(length, offset):
                if extent.zero:
                    content = volume.read(extent.length_bytes, at)
                    assert content == bytes(extent.length_bytes), "said to be zero"
                at += extent.length_bytes
            return at

        self.on_volumes(pick, covered)

    @precondition(lambda self: self.handles)
    @rule(
        pick=st.integers(0, 3),
        slots=st.lists(
            st.tuples(st.integers(0, 21), st.sampled_from("rwzf"), SEEDS),
            unique_by=lambda slot: slot[0],
            min_size=1,
            max_size=20,
        ),
    )
    def batch(self, pick: int, slots: list[tuple[int, str, int]]) -> None:
        requests: list[Any] = []
        for slot, kind, seed in slots:
            length = (seed % (SLOT // SECTOR) + 1) * SECTOR
            match kind:
                case "r":
                    requests.append(Read(length, slot * SLOT))
                case "w":
                    content = random.Random(seed).randbytes(length)
                    requests.append(Write(content, slot * SLOT, fua=seed % 2 == 0))
                case "z":
                    requests.append(WriteZeroes(length, slot * SLOT))
                case "f":
                    requests.append(Flush())
        self.on_volumes(pick, lambda volume: volume.batch(requests))
