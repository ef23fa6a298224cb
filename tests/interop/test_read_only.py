# SPDX-License-Identifier: MIT
"""Stores that cannot write, and clients that want to."""

from __future__ import annotations

import errno

import pytest

from interop.conftest import refused
from interop.pairs import CLIENTS
from interop.servers import STORE_SERVERS, Place
from interop.stores import ReadOnly

CONTENT = bytes(range(256)) * 16


@pytest.fixture(params=STORE_SERVERS)
def socket(request, short_dir, cleanup):
    """A server on a store in Python that has one volume, "image"."""
    place = Place(short_dir / "sock", short_dir)
    cleanup.enter_context(STORE_SERVERS[request.param](ReadOnly(), place))
    return str(place.socket)


@pytest.fixture(params=CLIENTS)
def client(request):
    return CLIENTS[request.param]


@pytest.fixture
def connection(client, socket, cleanup):
    return cleanup.enter_context(client.connect(socket))


def test_what_is_there_can_be_read_by_many(connection):
    assert connection.names() == ["image"]
    with connection.open("image") as one, connection.open("image") as two:
        assert one.read(4096, 0) == two.read(4096, 0) == CONTENT
        assert one.read(8192, 4000) == CONTENT[4000:]
        one.flush()


def test_nobody_can_open_it_for_writing(connection):
    with refused(errno.EROFS):
        connection.open("image", writable=True)


def test_nobody_can_change_what_there_is(connection):
    for call in (
        lambda: connection.create("another", 512),
        lambda: connection.remove("image"),
        lambda: connection.resize("image", 1 << 20),
    ):
        with refused(errno.EOPNOTSUPP):
            call()
    assert connection.names() == ["image"]


def test_a_write_is_refused(connection):
    """By the client, which knows its mode, or by the server: section 8.7 asks the store first."""
    with connection.open("image") as volume:
        with refused((errno.EBADF, errno.EOPNOTSUPP)):
            volume.write(b"x", 0)
        assert volume.read(4096, 0) == CONTENT


def test_nobody_becomes_the_writer(client, connection):
    if "set_mode" in client.lacks:
        return  # it has no such call
    with connection.open("image") as volume:
        with refused(errno.EROFS):
            volume.set_writable(True)
        volume.set_writable(False)
        assert volume.read(16, 0) == CONTENT[:16]
