# SPDX-License-Identifier: MIT
"""Requests that a server holds: answered out of order, drained, or dropped; for every client.

The store says when a request has arrived and is told when to answer, so nothing waits for a clock.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from interop.client import WAIT_S, Connection, Event, Read, Request, Volume
from interop.conftest import MIB, refused
from interop.pairs import CLIENTS, Client
from interop.servers import STORE_SERVERS, Place
from interop.stores import Gate

DRAINING_ERRNOS = (errno.ECONNREFUSED, errno.ENOTCONN, errno.ESHUTDOWN)
EVENTS = [name for name, client in CLIENTS.items() if "events" not in client.lacks]


class Held(NamedTuple):
    """A server on a Gate, with a volume whose byte n is n modulo 256, open for reading."""

    store: Gate
    server: Any
    client: Client
    connection: Connection
    volume: Volume
    threads: ThreadPoolExecutor

    def start(self, requests: list[Request]) -> Future[list[bytes | int]]:
        """A batch in a thread; returns when all of it has arrived."""
        future = self.threads.submit(self.volume.batch, requests)
        for _ in requests:
            assert self.store.arrived.acquire(timeout=WAIT_S)
        return future


@pytest.fixture(params=STORE_SERVERS)
def serve(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return STORE_SERVERS[request.param]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]


@pytest.fixture
def held(serve: Callable[..., Any], client: Client, short_dir: Path) -> Iterator[Held]:
    place = Place(short_dir / "sock", short_dir)
    store = Gate()
    with ExitStack() as stack:
        server = stack.enter_context(serve(store, place))
        connection = stack.enter_context(client.connect(str(place.socket)))
        connection.create("v", MIB)
        store.volumes["v"][:] = bytes(range(256)) * (MIB // 256)
        volume = stack.enter_context(connection.open("v"))
        threads = stack.enter_context(ThreadPoolExecutor())  # ends before the volume is closed
        stack.callback(store.release)  # what still waits may finish
        yield Held(store, server, client, connection, volume, threads)


def test_answers_in_another_order_reach_their_requests(held):
    reads = [Read(number + 1, number * 7) for number in range(40)]
    future = held.start(list(reads))
    held.store.release()
    whole = bytes(range(256)) * 2
    assert future.result(WAIT_S) == [whole[at : at + length] for length, at in reads]


def test_a_server_that_drains_lets_requests_finish(held):
    future = held.start([Read(4, 252)])
    stopped = held.threads.submit(held.server.stop, WAIT_S)
    wait_until_draining(held)
    assert not future.done()
    held.store.release()
    assert future.result(WAIT_S) == [b"\xfc\xfd\xfe\xff"]
    assert stopped.result(WAIT_S) is True


def wait_until_draining(held: Held) -> None:
    """It opens no volume any more: a client, which connects for that, cannot even do so."""
    number = 0
    while not number:
        try:
            held.connection.open("v").close()
        except OSError as error:
            number = error.errno or 0
    assert number in DRAINING_ERRNOS


@pytest.mark.parametrize("client", [CLIENTS[name] for name in EVENTS], ids=EVENTS)
def test_clients_hear_that_the_server_drains_and_ends(held):
    future = held.start([Read(1, 7)])
    with held.connection.open("v") as watcher:
        stopped = held.threads.submit(held.server.stop, WAIT_S)
        assert watcher.next_event() == Event("draining", 0)
        with refused(DRAINING_ERRNOS):
            held.connection.open("v")
        held.store.release()
        assert future.result(WAIT_S) == [b"\7"]
        assert stopped.result(WAIT_S) is True
        assert watcher.next_event() == Event("ended", -errno.ESHUTDOWN)
    events = []
    while event := held.volume.next_event():
        events.append(event.kind)
    assert events == ["draining", "ended"]


def test_requests_that_are_dropped_end_with_enotconn(held):
    future = held.start([Read(1, 7), Read(2, 8)])
    assert held.server.stop(0) is False
    assert future.result(WAIT_S) == [-errno.ENOTCONN] * 2
    with refused(errno.ENOTCONN):
        held.volume.read(1, 0)
    held.store.release()  # its answers come too late, and hurt nobody
