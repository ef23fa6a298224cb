# SPDX-License-Identifier: MIT
"""Implementations answer alike: random operations, the same on each side, see interop/machine.py.

Bounded and the same in every run; OVS_DIFFERENTIAL_EXAMPLES=2000 for a long night, at random.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import run_state_machine_as_test
from interop import client_c, client_python
from interop.client import Event, Extent, Request, Snapshot
from interop.conftest import Running
from interop.machine import Machine, Side

LONG = int(os.environ.get("OVS_DIFFERENTIAL_EXAMPLES", "0"))
EXAMPLES = 100
STEPS = 40


def profile(examples: int, **more: object) -> settings:
    return settings(
        max_examples=LONG or examples,
        stateful_step_count=STEPS,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def compare(*sides: Side, unit: int = 1, config: settings | None = None) -> None:
    made = type("Compared", (Machine,), {"sides": sides, "unit": unit})
    run_state_machine_as_test(made, settings=config or profile(EXAMPLES))


@pytest.fixture(scope="module")
def sockets() -> Iterator[dict[str, str]]:
    """Kind of server -> its socket, started when asked for."""
    with ExitStack() as stack:

        class Sockets(dict[str, str]):
            def __missing__(self, name: str) -> str:
                self[name] = Running(name, stack).socket
                return self[name]

        yield Sockets()


# The second answers as the first; both have blocks of the same size.
SERVERS = [
    ("c-memory", "c-file"),
    ("c-memory", "cpp"),
    ("c-memory", "ref-memory"),
    ("c-file", "ref-file"),
    ("c-fault", "py-full"),
    ("py-full", "ref-full"),
]


@pytest.mark.parametrize("names", SERVERS, ids="-as-".join)
def test_servers_answer_alike(sockets, names):
    """To the same client: what they do is what differs."""
    sides = [Side(name, lambda socket=sockets[name]: client_c.Connection(socket)) for name in names]
    on_disk = any(name.endswith("file") for name in names)
    compare(*sides, config=profile(EXAMPLES // 3 if on_disk else EXAMPLES))


def test_the_clients_answer_alike(sockets):
    """On one server: what they send is what differs."""
    socket = sockets["c-memory"]
    compare(
        Side("c", lambda: client_c.Connection(socket)),
        Side("native", lambda: client_python.Connection(socket)),
        Side("reference", lambda: client_python.Connection(socket, "reference")),
    )


# ---- the machine finds what is wrong ----


class DropsSomeWrites(client_c.Volume):
    def write(self, data: bytes, offset_bytes: int, *, fua: bool = False) -> int:
        return len(data) if fua and len(data) < 4096 else super().write(data, offset_bytes, fua=fua)


class WritesOneByteTooFar(client_c.Volume):
    def write(self, data: bytes, offset_bytes: int, *, fua: bool = False) -> int:
        count = super().write(data, offset_bytes, fua=fua)
        if offset_bytes + count < self.size():
            super().write(b"\1", offset_bytes + count)
        return count


class ReadsOneByteShort(client_c.Volume):
    def read(self, length_bytes: int, offset_bytes: int) -> bytes:
        data = super().read(length_bytes, offset_bytes)
        return data if len(data) == length_bytes else data[:-1]


class SaysTheWrongErrno(client_c.Volume):
    def discard(self, length_bytes: int, offset_bytes: int) -> None:
        if offset_bytes + length_bytes > self.size():
            raise OSError(errno.EINVAL, "beyond the end")
        super().discard(length_bytes, offset_bytes)


class MixesUpABatch(client_c.Volume):
    def batch(self, requests: Sequence[Request]) -> list[bytes | int]:
        return super().batch(requests)[::-1]


class LosesEvents(client_c.Volume):
    def pending_events(self) -> list[Event]:
        return super().pending_events()[:1]


class CallsDataZero(client_c.Volume):
    def block_status(self, length_bytes: int, offset_bytes: int) -> list[Extent]:
        found = super().block_status(length_bytes, offset_bytes)
        return [extent._replace(zero=True) for extent in found]


class MakesUpDiscardedData(client_c.Volume):
    def discard(self, length_bytes: int, offset_bytes: int) -> None:
        super().discard(length_bytes, offset_bytes)
        super().write(b"\xaa", offset_bytes)


class OffByOneSector(client_c.Connection):
    def resize(self, name: str, size_bytes: int) -> None:
        super().resize(name, size_bytes + 512 if size_bytes > 65536 else size_bytes)


class ForgetsToRollBack(client_c.Connection):
    def snapshot_rollback(self, volume: str, snapshot: str) -> None:
        if snapshot not in [one.name for one in self.snapshots(volume)]:
            super().snapshot_rollback(volume, snapshot)


class KeepsNewerSnapshots(client_c.Connection):
    def snapshots(self, volume: str) -> list[Snapshot]:
        return super().snapshots(volume)[::-1]


BUGS = [
    DropsSomeWrites,
    WritesOneByteTooFar,
    ReadsOneByteShort,
    SaysTheWrongErrno,
    MixesUpABatch,
    LosesEvents,
    CallsDataZero,
    MakesUpDiscardedData,
    OffByOneSector,
    ForgetsToRollBack,
    KeepsNewerSnapshots,
]


def spoiled(bug: type) -> type[client_c.Connection]:
    """A client with the bug, in its volumes or itself."""
    if issubclass(bug, client_c.Connection):
        return bug

    class Spoiled(client_c.Connection):
        volume_type = bug

    return Spoiled


def test_the_machine_finds_nothing_where_nothing_is_wrong(sockets):
    right = Side("right", lambda: client_c.Connection(sockets["c-memory"]))
    compare(right, right._replace(name="right too"))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_the_machine_finds_a_side_that(sockets, bug):
    """It stops at the first find, which is not reduced as nobody reads it."""
    found = settings(profile(6 * EXAMPLES), phases=[Phase.generate], print_blob=False)
    with pytest.raises((AssertionError, FlakyFailure)):
        compare(
            Side("right", lambda: client_c.Connection(sockets["c-memory"])),
            Side("wrong", lambda: spoiled(bug)(sockets["c-memory"])),
            config=found,
        )
