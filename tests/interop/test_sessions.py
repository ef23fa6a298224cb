# SPDX-License-Identifier: MIT
"""Several sessions on one volume: who may write, who sees what, and what happens meanwhile."""

from __future__ import annotations

import errno

import pytest

from interop.client import Event
from interop.conftest import MIB, refused


def test_readers_see_what_the_writer_has_written(connection, name, connect, kind):
    connection.create(name, MIB)
    with (
        connection.open(name, writable=True) as writer,
        connect().open(name) as one,
        connection.open(name) as two,
    ):
        for number in range(1, 20):
            data = bytes([number]) * 4096
            writer.write(data, number * 4096)
            assert one.read(4096, number * 4096) == kind.kept(data)
            assert two.read(4096, number * 4096) == kind.kept(data)


def test_a_second_writer_waits_for_the_first_to_close(connection, name):
    connection.create(name, MIB)
    with connection.open(name), connection.open(name, writable=True):
        with refused(errno.EBUSY):
            connection.open(name, writable=True)
        with connection.open(name) as reader:
            assert reader.read(512, 0) == bytes(512)
    with connection.open(name, writable=True) as volume:
        assert volume.write(b"x" * 512, 0) == 512


def test_a_reader_that_writes_is_refused(connection, name):
    connection.create(name, MIB)
    with connection.open(name) as volume:
        with refused(errno.EBADF):
            volume.write(b"x" * 512, 0)
        volume.flush()
        assert volume.read(512, 0) == bytes(512)


@pytest.mark.needs("ranges")
def test_a_reader_that_discards_or_zeroes_is_refused(connection, name, kind):
    """Either by its client, which knows its mode, or by the server in the order of section 8.7."""
    connection.create(name, MIB)
    with connection.open(name) as volume:
        for op, call in (("discard", volume.discard), ("write-zeroes", volume.write_zeroes)):
            with refused(errno.EBADF if kind.can(op) else (errno.EBADF, errno.EOPNOTSUPP)):
                call(512, 0)


def test_sessions_outlive_the_connection_that_opened_them(pair, socket, name, kind):
    with pair.client.connect(socket) as connection:
        connection.create(name, MIB)
        volume = connection.open(name, writable=True)
    with volume:
        volume.write(b"x" * 512, 0)
        assert volume.read(512, 0) == kind.kept(b"x" * 512)


# ---- the writer's role ----


@pytest.mark.needs("set_mode")
def test_the_writers_role_can_be_handed_over(connection, name, kind):
    connection.create(name, MIB)
    with connection.open(name, writable=True) as first, connection.open(name) as second:
        with refused(errno.EBUSY):
            second.set_writable(True)
        first.write(b"1" * 512, 0)
        first.set_writable(False)
        with refused(errno.EBADF):
            first.write(b"x" * 512, 0)
        second.set_writable(True)
        second.write(b"2" * 512, 512)
        with refused(errno.EBUSY):
            first.set_writable(True)
        with refused(errno.EBUSY):
            connection.open(name, writable=True)
        assert first.read(1024, 0) == kind.kept(b"1" * 512 + b"2" * 512)
        second.set_writable(True)  # it has it already
        second.set_writable(False)
        first.set_writable(True)
        first.write(b"3" * 512, 0)
        assert second.read(512, 0) == kind.kept(b"3" * 512)


@pytest.mark.needs("set_mode", "describe")
def test_stat_follows_the_writers_role(connection, name):
    connection.create(name, MIB)
    with connection.open(name) as volume:
        assert connection.stat(name)[3:5] == (0, 1)
        volume.set_writable(True)
        assert connection.stat(name)[3:5] == (1, 0)
        volume.set_writable(False)
        assert connection.stat(name)[3:5] == (0, 1)


# ---- resize ----


def test_open_volumes_follow_a_resize(connection, name, kind):
    connection.create(name, MIB)
    with connection.open(name, writable=True) as writer, connection.open(name) as reader:
        if not kind.can("resize"):
            with refused(errno.EOPNOTSUPP):
                connection.resize(name, 2 * MIB)
            assert writer.size() == reader.size() == MIB
            return
        with refused(errno.EFBIG):
            writer.write(b"x" * 512, MIB)
        connection.resize(name, 2 * MIB)
        assert writer.size() == reader.size() == 2 * MIB
        assert reader.read(MIB, MIB) == bytes(MIB)
        writer.write(b"x" * 4096, 2 * MIB - 4096)
        assert reader.read(8192, 2 * MIB - 4096) == kind.kept(b"x" * 4096)


@pytest.mark.needs("events")
def test_a_resize_is_an_event_for_all_who_have_it_open(connection, name, kind):
    connection.create(name, MIB)
    with connection.open(name, writable=True) as writer, connection.open(name) as reader:
        if not kind.can("resize"):
            with refused(errno.EOPNOTSUPP):
                writer.resize(2 * MIB)
            return
        connection.resize(name, 2 * MIB)
        writer.resize(3 * MIB)
        for volume in (writer, reader):
            assert volume.next_event() == Event("resized", 2 * MIB)
            assert volume.next_event() == Event("resized", 3 * MIB)
            assert volume.size() == 3 * MIB


@pytest.mark.needs("events")
def test_the_event_of_a_resize_is_there_before_the_reply(connection, name, kind):
    """PROTOCOL.md, section 12.4; for those who resize and for those who watch."""
    connection.create(name, 512)
    with connection.open(name, writable=True) as writer, connection.open(name) as reader:
        for size in range(1024, 32 * 512, 512) if kind.can("resize") else ():
            writer.resize(size)
            expected = [Event("resized", size)]
            assert writer.pending_events() == reader.pending_events() == expected


@pytest.mark.needs("events")
def test_a_resize_to_the_present_size_is_no_event(connection, name, kind):
    connection.create(name, MIB)
    with connection.open(name) as volume:
        if not kind.can("resize"):
            with refused(errno.EOPNOTSUPP):
                connection.resize(name, MIB)
            return
        connection.resize(name, MIB)
        connection.resize(name, 2 * MIB)
        assert volume.next_event() == Event("resized", 2 * MIB)
