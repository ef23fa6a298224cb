# SPDX-License-Identifier: MIT
"""Snapshots of closed and of open volumes; every call is refused where the store has none."""

from __future__ import annotations

import errno

import pytest

from interop.client import Event, Snapshot
from interop.conftest import MIB, refused

A, B, C = (letter * 4096 for letter in (b"a", b"b", b"c"))


@pytest.fixture
def snapshots(kind, connection, name):
    """Ends the test where there are none, once every call has been refused."""
    connection.create(name, MIB)
    if kind.can("snapshot"):
        return True
    for call in (
        lambda: connection.snapshot_create(name, "one"),
        lambda: connection.snapshot_rollback(name, "one"),
        lambda: connection.snapshot_remove(name, "one"),
        lambda: connection.snapshot_is_synced(name, "one"),
        lambda: connection.snapshots(name),
    ):
        with refused(errno.EOPNOTSUPP):
            call()
    return False


def test_snapshots_are_listed_oldest_first_with_the_size_they_had(
    snapshots, connection, name, kind
):
    if not snapshots:
        return
    for number, snapshot in enumerate(["z", "m", "a", "ünïcode", "n" * 254]):
        if kind.can("resize"):
            connection.resize(name, MIB + 512 * number)
        connection.snapshot_create(name, snapshot)
    assert connection.snapshots(name) == [
        Snapshot("z", MIB),
        Snapshot("m", MIB + 512),
        Snapshot("a", MIB + 1024),
        Snapshot("ünïcode", MIB + 1536),
        Snapshot("n" * 254, MIB + 2048),
    ]


@pytest.mark.needs("describe")
def test_stat_counts_snapshots(snapshots, connection, name):
    if not snapshots:
        assert connection.stat(name).snapshots == 0
        return
    connection.snapshot_create(name, "one")
    connection.snapshot_create(name, "two")
    assert connection.stat(name).snapshots == 2
    connection.snapshot_remove(name, "one")
    assert connection.stat(name).snapshots == 1
    assert [info.snapshots for info in connection.list() if info.name == name] == [1]


def test_a_snapshot_is_synced_sooner_or_later(snapshots, connection, name):
    """Our stores are never later than the reply, whatever the caller says about waiting."""
    for timeout_s in (-1, 0, 60) if snapshots else ():
        connection.snapshot_create(name, f"after {timeout_s}", timeout_s)
        assert connection.snapshot_is_synced(name, f"after {timeout_s}") is True


def test_rollback_puts_contents_back_and_drops_newer_snapshots(snapshots, connection, name):
    if not snapshots:
        return
    with connection.open(name, writable=True) as volume:
        volume.write(A, 0)
        connection.snapshot_create(name, "a")
        volume.write(B, 4096)
        connection.snapshot_create(name, "b")
        volume.write(C, 0)
        connection.snapshot_create(name, "c")
    connection.snapshot_rollback(name, "b")
    assert [snapshot.name for snapshot in connection.snapshots(name)] == ["a", "b"]
    with connection.open(name) as volume:
        assert volume.read(12288, 0) == A + B + bytes(4096)
    connection.snapshot_rollback(name, "a")
    connection.snapshot_rollback(name, "a")
    with connection.open(name) as volume:
        assert volume.read(12288, 0) == A + bytes(8192)
    assert [snapshot.name for snapshot in connection.snapshots(name)] == ["a"]


def test_rollback_of_an_open_volume_is_seen_by_all_who_have_it_open(snapshots, connection, name):
    if not snapshots:
        return
    with (
        connection.open(name, writable=True) as writer,
        connection.open(name) as reader,
    ):
        writer.write(A, 0)
        connection.snapshot_create(name, "a")
        writer.write(B * 2, 0)
        assert reader.read(8192, 0) == B * 2
        connection.snapshot_rollback(name, "a")
        assert reader.read(8192, 0) == writer.read(8192, 0) == A + bytes(4096)
        writer.write(C, 4096)
        assert reader.read(8192, 0) == A + C


@pytest.mark.needs("events")
def test_rollback_of_an_open_volume_that_grew_makes_it_small_again(
    snapshots, connection, name, kind
):
    if not snapshots or not kind.can("resize"):
        return
    with connection.open(name, writable=True) as volume:
        connection.snapshot_create(name, "small")
        connection.resize(name, 2 * MIB)
        assert volume.next_event() == Event("resized", 2 * MIB)
        volume.write(C, 2 * MIB - 4096)
        connection.snapshot_rollback(name, "small")
        assert volume.next_event() == Event("resized", MIB)
        assert volume.size() == MIB
        with refused(errno.EFBIG):
            volume.write(C, MIB)
        assert volume.read(4096, MIB) == b""
        connection.resize(name, 2 * MIB)
        assert volume.read(MIB, MIB) == bytes(MIB)


def test_a_snapshot_does_not_follow_the_volume(snapshots, connection, name):
    if not snapshots:
        return
    with connection.open(name, writable=True) as volume:
        volume.write(A, 0)
        connection.snapshot_create(name, "one")
        for data in (B, C):
            volume.write(data, 0)
            connection.snapshot_rollback(name, "one")
            assert volume.read(4096, 0) == A


def test_callers_naming_no_volume_or_no_snapshot_are_refused(snapshots, connection, name):
    if not snapshots:
        return
    for volume in (name, name + "-missing"):
        with refused(errno.ENOENT):
            connection.snapshot_rollback(volume, "none")
        with refused(errno.ENOENT):
            connection.snapshot_remove(volume, "none")
        with refused(errno.ENOENT):
            connection.snapshot_is_synced(volume, "none")
    with refused(errno.ENOENT):
        connection.snapshot_create(name + "-missing", "one")
    with refused(errno.ENOENT):
        connection.snapshots(name + "-missing")


def test_a_caller_making_a_snapshot_twice_is_refused(snapshots, connection, name):
    if not snapshots:
        return
    connection.snapshot_create(name, "one")
    with refused(errno.EEXIST):
        connection.snapshot_create(name, "one")
    connection.snapshot_remove(name, "one")
    connection.snapshot_create(name, "one")
    assert [snapshot.name for snapshot in connection.snapshots(name)] == ["one"]


def test_a_caller_with_a_bad_snapshot_name_is_refused(connection, name, kind):
    connection.create(name, MIB)
    for bad in ("", "a/b", ".", "..", "a\tb", "n" * 255):
        number = errno.ENAMETOOLONG if len(bad) > 254 else errno.EINVAL
        expected = number if kind.can("snapshot") else (number, errno.EOPNOTSUPP)
        with refused(expected):
            connection.snapshot_create(name, bad)
        with refused(expected):
            connection.snapshot_rollback(name, bad)
        with refused(expected):
            connection.snapshot_remove(name, bad)


def test_snapshots_go_with_their_volume(snapshots, connection, name):
    if not snapshots:
        return
    connection.snapshot_create(name, "one")
    connection.remove(name)
    connection.create(name, MIB)
    assert connection.snapshots(name) == []
