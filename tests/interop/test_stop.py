# SPDX-License-Identifier: MIT
"""A server that stops under clients with open volumes: PROTOCOL.md, sections 12.2 and 12.3."""

from __future__ import annotations

import errno

import pytest

from interop.client import Event, Read
from interop.conftest import MIB, refused


@pytest.fixture
def stopped(pair, fresh, cleanup, name):
    """A connection and an open volume of a server that has stopped since."""
    running = fresh(pair.server_name)
    connection = cleanup.enter_context(pair.client.connect(running.socket))
    connection.create(name, MIB)
    volume = cleanup.enter_context(connection.open(name, writable=True))
    volume.write(b"x" * 512, 0)
    assert running.server.stop(30) is True
    return running.socket, connection, volume


def test_clients_of_a_stopped_server_get_enotconn(stopped, pair, name):
    socket, connection, volume = stopped
    for call in (
        lambda: volume.read(512, 0),
        lambda: volume.write(b"y" * 512, 0),
        volume.flush,
    ):
        with refused(errno.ENOTCONN):
            call()
    assert volume.batch([Read(512, 0), Read(512, 512)]) == [-errno.ENOTCONN] * 2
    for manage in (
        lambda: connection.create(name + "-more", MIB),
        lambda: connection.remove(name),
        lambda: connection.open(name),
        connection.names,
    ):
        with refused(pair.client.gone_errno):
            manage()
    with refused((errno.ENOENT, errno.ECONNREFUSED)), pair.client.connect(socket) as other:
        other.names()


@pytest.mark.needs("events")
def test_a_server_says_that_it_stops(stopped):
    _, _, volume = stopped
    assert volume.next_event() == Event("draining", 0)
    assert volume.next_event() == Event("ended", -errno.ESHUTDOWN)
    assert volume.next_event() is None
    assert volume.size() == MIB
