# SPDX-License-Identifier: MIT
"""The table of states in PROTOCOL.md section 10, cell by cell, against the real server."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import wire
from conftest import ServerProcess
from rawclient import Ended, RawClient, RawVolume

STATES = ["new", "ready", "open", "draining"]


def hello(version: int) -> bytes:
    payload = wire.pack("msg_hello", version_min=version, version_max=version, features=3)
    return wire.message(wire.MSG_HELLO, payload)


def opening(mode: int) -> bytes:
    payload = wire.pack(
        "msg_open", name="other", mode=mode, queues=1, depth=8, arena_bytes=wire.PAGE_BYTES
    )
    return wire.message(wire.MSG_OPEN, payload)


# Rows of the table that are one packet; the others are told by their own tests.
PACKETS = {
    "hello, common version": hello(wire.VERSION),
    "hello, no common version": hello(wire.VERSION + 1),
    "status, sessions, volume and snapshot messages": wire.message(wire.MSG_STATUS),
    "open, good": opening(wire.MODE_READ),
    "open, no such mode": opening(7),
    "set mode": wire.message(wire.MSG_SET_MODE, wire.pack("msg_set_mode", mode=wire.MODE_READ)),
    "malformed message": wire.message(wire.MSG_HELLO, b"short"),
    "unknown message": wire.message(wire.MSG_EVENT, wire.pack("msg_event")),
}
RING_ROWS = {"entries in a ring", "broken ring rule"}
OTHER_ROWS = {
    "client closes the socket, or dies": "test_crash, test_hostile_control",
    "server begins to stop": "test_server_that_stops_goes_through_draining",
    "server's drain is over": "test_server_that_stops_goes_through_draining",
}


def table() -> dict[str, dict[str, str]]:
    text = (wire.ROOT / "docs/PROTOCOL.md").read_text()
    section = text[text.index("## 10. ") : text.index("## 11. ")]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    header = next(i for i, row in enumerate(rows) if row[0] == "Input")
    assert rows[header][1:] == STATES
    return {row[0]: dict(zip(STATES, row[1:], strict=True)) for row in rows[header + 1 :]}


TABLE = table()


class Seat(NamedTuple):
    """A connection in a state, and how to see what the server counts."""

    client: RawClient
    volume: RawVolume | None
    observer: RawClient


class Fleet:
    """Connections made while the server was still willing, to be used up one by one."""

    def __init__(self, server: ServerProcess, cleanup: ExitStack) -> None:
        self.server = server
        self.cleanup = cleanup
        self.observer = self.connect()
        self.observer.create("target", 1 << 20)
        self.observer.create("other", 1 << 20)
        self.ready: list[RawClient] = []
        self.open: list[RawVolume] = []

    def connect(self, *, hello: bool = True) -> RawClient:
        client = RawClient(self.server.socket, hello=hello)
        self.cleanup.callback(client.close)
        return client

    def opened(self) -> RawVolume:
        return self.connect().open("target", mode=wire.MODE_READ)

    def drain(self) -> None:
        """From here on it cannot finish stopping: a flush never completes."""
        self.ready = [self.connect() for _ in PACKETS]
        self.open = [self.opened() for _ in range(len(RING_ROWS) + 2)]
        stuck = self.open.pop()
        stuck.queue.submit(op=wire.OP_FLUSH)
        os.kill(self.server.pid, signal.SIGTERM)
        message = stuck.client.receive()
        assert wire.unpack("msg_event", message.payload).event == wire.EVENT_DRAINING

    def seat(self, state: str, row: str) -> Seat:
        if state in ("new", "ready"):
            return Seat(self.connect(hello=state == "ready"), None, self.observer)
        if state == "draining" and row not in RING_ROWS | {"set mode"}:
            return Seat(self.ready.pop(), None, self.observer)
        volume = self.open.pop() if state == "draining" else self.opened()
        return Seat(volume.client, volume, self.observer)


# Servers whose stores never complete a flush, and such whose writes take a while.
IMPLEMENTATIONS = {
    "native": (
        ["--store=fault", "--store-option=never-op=flush"],
        ["--store=fault", "--store-option=delay-op=write", "--store-option=delay-ms=300"],
    ),
    "reference": (
        ["--implementation=reference", "--store=reference_stores:NeverFlush"],
        ["--implementation=reference", "--store=reference_stores:SlowWrite"],
    ),
}
FIND_STORES = {"PYTHONPATH": str(Path(__file__).parent)}


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def fleets(request: pytest.FixtureRequest) -> Iterator[dict[bool, Fleet]]:
    """A server as usual, and one that is draining, for ever."""
    with ExitStack() as cleanup:
        fleets = {}
        for draining in (False, True):
            directory = Path(tempfile.mkdtemp(prefix="ovsshm-"))
            cleanup.callback(shutil.rmtree, directory)
            options, _ = IMPLEMENTATIONS[request.param]
            server = ServerProcess(
                directory / "s",
                [*options, "--drain-timeout", "600s"],
                log=directory / "log",
                env=FIND_STORES,
            )
            cleanup.callback(server.kill)
            fleets[draining] = Fleet(server.start(), cleanup)
        fleets[True].drain()
        yield fleets


def expect(seat: Seat, cell: str, act: Callable[[], None]) -> None:
    """The server does to this connection what the cell says, and counts violations only."""
    before = seat.observer.status().violations
    act()
    outcome, _, state = cell.partition("; ")
    violation = re.fullmatch(r"V\d+", outcome)
    if not violation:
        wanted = 0 if outcome == "reply" else -getattr(errno, outcome.strip("`-"))
        assert seat.client.reply().status == wanted
    if state == "ended":
        seat.client.wait_ended()
        with pytest.raises((Ended, OSError)):
            seat.client.status()
    elif state or not violation:
        seat.client.send(wire.message(wire.MSG_STATUS))
        assert seat.client.reply().status == 0
    assert seat.observer.status().violations == before + (violation is not None)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("row", PACKETS)
def test_message_does_what_the_table_says(fleets: dict[bool, Fleet], row: str, state: str) -> None:
    seat = fleets[state == "draining"].seat(state, row)
    expect(seat, TABLE[row][state], lambda: seat.client.send(PACKETS[row]))


@pytest.mark.parametrize("state", ["open", "draining"])
def test_entries_are_served(fleets: dict[bool, Fleet], state: str) -> None:
    assert TABLE["entries in a ring"][state] == "served"
    seat = fleets[state == "draining"].seat(state, "entries in a ring")
    assert seat.volume is not None
    assert seat.volume.queue.run(op=wire.OP_READ, length_bytes=512) == 512


@pytest.mark.parametrize("state", ["open", "draining"])
def test_broken_ring_rule_ends_the_session(fleets: dict[bool, Fleet], state: str) -> None:
    row = "broken ring rule"
    seat = fleets[state == "draining"].seat(state, row)
    volume = seat.volume
    assert volume is not None
    expect(seat, TABLE[row][state], lambda: volume.queue.submit(op=200) and None)


def test_every_row_of_the_table_is_tried() -> None:
    assert TABLE.keys() == PACKETS.keys() | RING_ROWS | OTHER_ROWS.keys()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_server_that_stops_goes_through_draining(
    implementation: str, server: Callable[..., ServerProcess]
) -> None:
    """12.3: told, served to the end, told again, closed."""
    _, options = IMPLEMENTATIONS[implementation]
    process = server(*options, env=FIND_STORES)
    with RawClient(process.socket) as client:
        client.create("target", 1 << 20)
        volume = client.open("target")
        volume.queue.submit(op=wire.OP_WRITE, length_bytes=4096)
        while volume.queue.words.sq_head != 1:
            client.status()
        process.signal(signal.SIGTERM)
        assert client.wait_ended()
        assert [event.event for event in client.events] == [
            wire.EVENT_DRAINING,
            wire.EVENT_ENDED,
        ]
        assert client.events[-1].value == -errno.ESHUTDOWN
        assert [done.result for done in volume.queue.reap()] == [4096]
    assert process.wait() == 0
