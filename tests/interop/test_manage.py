# SPDX-License-Identifier: MIT
"""Volumes made, listed, resized and removed: the same names, sizes and refusals for every pair."""

from __future__ import annotations

import errno

import pytest

from interop.client import Info
from interop.conftest import MIB, refused

ODD_SIZES = [1, 511, 513, (1 << 40) + 1]


def test_a_volume_is_listed_from_its_creation_to_its_removal(connection, name):
    assert name not in connection.names()
    connection.create(name, MIB)
    assert connection.names().count(name) == 1
    connection.remove(name)
    assert name not in connection.names()


@pytest.mark.needs("describe")
def test_stat_and_list_say_the_same(connection, name, kind):
    connection.create(name, 3 * 512)
    info = connection.stat(name)
    assert info == Info(name, 3 * 512, kind.block_bytes, 0, 0, 0)
    assert info in connection.list()


@pytest.mark.needs("describe")
def test_the_server_says_what_it_can(connection, kind):
    hello = connection.hello()
    assert hello.store == kind.store
    assert hello.capabilities == kind.capabilities


def test_a_caller_naming_what_is_not_there_is_refused(connection, name, pair, kind):
    with refused(errno.ENOENT):
        connection.remove(name)
    with refused(errno.ENOENT if kind.can("resize") else errno.EOPNOTSUPP):
        connection.resize(name, MIB)
    with refused(pair.client.missing_errno):
        connection.open(name)


@pytest.mark.needs("describe")
def test_a_caller_asking_about_what_is_not_there_is_refused(connection, name):
    with refused(errno.ENOENT):
        connection.stat(name)


def test_a_caller_making_what_exists_is_refused(connection, name):
    connection.create(name, MIB)
    with refused(errno.EEXIST):
        connection.create(name, MIB)


BAD_NAMES = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/..",
    "./a",
    "a\nb",
    "a\x7f",
    ".openvstorage/x",
    "a/.openvstorage",
]


def test_a_caller_with_a_bad_name_is_refused(connection):
    before = connection.names()
    for bad in BAD_NAMES:
        with refused(errno.EINVAL):
            connection.create(bad, MIB)
        with refused(errno.EINVAL):
            connection.remove(bad)
        with refused(errno.EINVAL):
            connection.resize(bad, 2 * MIB)
        with refused(errno.EINVAL):
            connection.open(bad)
    assert connection.names() == before


def test_a_caller_with_too_long_a_name_is_refused(connection, pair):
    for long in ("n" * 255, "ü" * 128, "d/" * 127 + "x", "n" * 5000):
        with refused(pair.client.long_name_errno):
            connection.create(long, MIB)
        with refused(pair.client.long_name_errno):
            connection.remove(long)
        with refused(pair.client.long_name_errno):
            connection.open(long)


UNUSUAL_NAMES = [
    "n" * 254,
    "ü" * 127,
    "d/" * 20 + "x" * 214,
    "日本語/ディスク",
    "with space",
    "...",
    ".hidden",
    "a\\b*?'\"$`",
    "-",
    "\N{ZERO WIDTH SPACE}",
    "no UTF-8: \udce9",
]


def test_unusual_names_are_names(connection):
    for unusual in UNUSUAL_NAMES:
        connection.create(unusual, 512)
        try:
            assert unusual in connection.names()
            with connection.open(unusual, writable=True) as volume:
                assert volume.size() == 512
                assert volume.write(b"x" * 512, 0) == 512
        finally:
            connection.remove(unusual)
        assert unusual not in connection.names()


def test_names_are_listed_in_the_order_of_their_bytes(connection, name):
    parts = ["/b", "!", "0", "", "/b/c", "/a", "a", "ü", "\N{GRINNING FACE}", "\ufb01"]
    names = [name + "/x" + part for part in parts if not part.startswith("/")]
    names += [name + "/d" + part for part in parts if part.startswith("/") and part != "/b"]
    for one in names:
        connection.create(one, 512)
    found = [one for one in connection.names() if one.startswith(name + "/")]
    assert found == sorted(names, key=str.encode)


def test_more_volumes_than_fit_one_message_are_all_listed(connection, name):
    names = [f"{name}-{number}" for number in range(240)]
    try:
        for one in names:
            connection.create(one, 0)
        found = [one for one in connection.names() if one.startswith(name + "-")]
        assert found == sorted(names, key=str.encode)
    finally:
        for one in names:
            connection.remove(one)


@pytest.mark.needs("exact_sizes")
def test_a_caller_with_a_bad_size_is_refused(connection, name):
    for size in ODD_SIZES:
        with refused(errno.EINVAL):
            connection.create(name, size)
    assert name not in connection.names()


def test_a_caller_with_a_size_beyond_2_to_the_63_is_refused(connection, name, pair):
    for size in (1 << 63, (1 << 64) - 512):
        with pytest.raises((OSError, OverflowError)) as caught:
            connection.create(name, size)
        if isinstance(caught.value, OSError):
            assert caught.value.errno == pair.client.oversize_errno
    assert name not in connection.names()


def test_a_volume_of_no_bytes_is_a_volume(make, kind):
    volume = make(0)
    assert volume.size() == 0
    assert volume.read(4096, 0) == b""
    volume.flush()
    with refused(errno.EFBIG):
        volume.write(b"x" * 512, 0)


@pytest.mark.needs("ranges")
def test_ranges_of_a_volume_of_no_bytes(make, kind):
    volume = make(0)
    for op, call in (("discard", volume.discard), ("write-zeroes", volume.write_zeroes)):
        with refused(errno.EFBIG if kind.can(op) else errno.EOPNOTSUPP):
            call(512, 0)
    if kind.can("block-status"):
        assert volume.block_status(4096, 0) == []


def test_a_volume_of_one_sector_is_a_volume(make, kind):
    volume = make(512)
    assert volume.size() == 512
    assert volume.write(b"x" * 512, 0) == 512
    assert volume.read(4096, 0) == kind.kept(b"x" * 512)
    with refused(errno.EFBIG):
        volume.write(b"x" * 1024, 0)


# ---- resize ----


def test_a_volume_grows_and_keeps_its_data(connection, name, kind):
    connection.create(name, 4096)
    with connection.open(name, writable=True) as volume:
        volume.write(b"g" * 4096, 0)
    if not kind.can("resize"):
        with refused(errno.EOPNOTSUPP):
            connection.resize(name, MIB)
        return
    connection.resize(name, MIB)
    connection.resize(name, MIB)  # to the present size is success
    with connection.open(name, writable=True) as volume:
        assert volume.size() == MIB
        assert volume.read(MIB, 0) == kind.kept(b"g" * 4096) + bytes(MIB - 4096)
        assert volume.write(b"h" * 512, MIB - 512) == 512


def test_a_caller_shrinking_a_volume_is_refused(connection, name, kind):
    connection.create(name, MIB)
    with refused(errno.EPERM if kind.can("resize") else errno.EOPNOTSUPP):
        connection.resize(name, MIB - 512)
    with connection.open(name) as volume:
        assert volume.size() == MIB


@pytest.mark.needs("exact_sizes")
def test_a_caller_resizing_to_a_bad_size_is_refused(connection, name):
    connection.create(name, MIB)
    with refused(errno.EINVAL):
        connection.resize(name, MIB + 1)


# ---- in use ----


def test_a_volume_in_use_cannot_be_removed(connection, name):
    connection.create(name, MIB)
    for writable in (False, True):
        with connection.open(name, writable=writable), refused(errno.EBUSY):
            connection.remove(name)
    connection.remove(name)
    assert name not in connection.names()


@pytest.mark.needs("describe")
def test_stat_counts_readers_and_writers(connection, name):
    connection.create(name, MIB)
    with connection.open(name, writable=True), connection.open(name), connection.open(name):
        info = connection.stat(name)
        assert (info.writers, info.readers) == (1, 2)


def test_a_removed_name_can_be_used_again_and_reads_as_zeroes(connection, name):
    connection.create(name, MIB)
    with connection.open(name, writable=True) as volume:
        volume.write(b"old" * 1024 + bytes(1024), 0)
    connection.remove(name)
    connection.create(name, MIB)
    with connection.open(name) as volume:
        assert volume.read(MIB, 0) == bytes(MIB)
