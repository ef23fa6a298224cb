# SPDX-License-Identifier: MIT
"""Discard, write-zeroes and block-status: done where the store can, refused where it cannot."""

from __future__ import annotations

import errno
import itertools

import pytest

from interop.client import Extent
from interop.conftest import MIB, refused

pytestmark = pytest.mark.needs("ranges")
BLOCK = 65536


def check_extents(volume, extents: list[Extent], offset: int) -> None:
    """They differ from each other, and what is said to read as zeroes does."""
    for before, after in itertools.pairwise(extents):
        assert before[1:] != after[1:], "neighbours are alike"
    for extent in extents:
        if extent.zero:
            data = volume.read(extent.length_bytes, offset)
            assert data == bytes(extent.length_bytes)
        offset += extent.length_bytes


def test_discard_forgets_its_range_or_leaves_it(volume, kind):
    data = b"d" * (3 * BLOCK)
    volume.write(data, 0)
    if not kind.can("discard"):
        with refused(errno.EOPNOTSUPP):
            volume.discard(BLOCK, BLOCK)
        return
    volume.discard(BLOCK, BLOCK)
    after = volume.read(3 * BLOCK, 0)
    kept = kind.kept(data)
    assert after[:BLOCK] == kept[:BLOCK]
    assert set(after[BLOCK : 2 * BLOCK]) <= {0, kept[0]}
    assert after[2 * BLOCK :] == kept[2 * BLOCK :]


def test_write_zeroes_zeroes_its_range(volume, kind):
    for may_unmap, fua in itertools.product([True, False], repeat=2):
        data = b"z" * (3 * BLOCK)
        volume.write(data, 0)
        kept = kind.kept(data)
        if kind.can("write-zeroes"):
            volume.write_zeroes(BLOCK + 512, BLOCK - 512, may_unmap=may_unmap, fua=fua)
            kept = kept[: BLOCK - 512] + bytes(BLOCK + 512) + kept[2 * BLOCK :]
        else:
            with refused(errno.EOPNOTSUPP):
                volume.write_zeroes(BLOCK, BLOCK, may_unmap=may_unmap, fua=fua)
        assert volume.read(3 * BLOCK, 0) == kept


def test_block_status_covers_the_range_and_tells_the_truth(volume, kind):
    volume.write(b"s" * BLOCK, 4 * BLOCK)
    if not kind.can("block-status"):
        with refused(errno.EOPNOTSUPP):
            volume.block_status(MIB, 0)
        return
    extents = volume.block_status(MIB, 0)
    assert sum(extent.length_bytes for extent in extents) == MIB
    check_extents(volume, extents, 0)
    if kind.keeps and kind.sees_holes:
        assert extents == [
            Extent(4 * BLOCK, hole=True, zero=True),
            Extent(BLOCK, hole=False, zero=False),
            Extent(11 * BLOCK, hole=True, zero=True),
        ]
    part = volume.block_status(2 * BLOCK, 3 * BLOCK + 512)
    assert sum(extent.length_bytes for extent in part) == 2 * BLOCK
    check_extents(volume, part, 3 * BLOCK + 512)


def test_block_status_of_many_extents_comes_in_several_answers(volume, kind):
    """Every second page is data: more extents than fit one request of any client."""
    if not kind.can("block-status"):
        with refused(errno.EOPNOTSUPP):
            volume.block_status(512, 0)
        return
    for offset in range(0, MIB, 8192):
        volume.write(b"p" * 4096, offset)
    extents = volume.block_status(MIB, 0)
    assert sum(extent.length_bytes for extent in extents) == MIB
    check_extents(volume, extents, 0)
    if kind.keeps and kind.sees_holes:
        assert len(extents) == MIB // 4096
        assert {extent.length_bytes for extent in extents} == {4096}


def test_block_status_ends_with_the_volume(volume, kind):
    if not kind.can("block-status"):
        with refused(errno.EOPNOTSUPP):
            volume.block_status(512, 0)
        return
    assert volume.block_status(512, MIB) == []
    beyond = volume.block_status(2 * MIB, MIB - 1024)
    assert sum(extent.length_bytes for extent in beyond) == 1024


def test_a_caller_with_a_range_beyond_the_end_is_refused(volume, kind):
    volume.write(b"e" * 512, MIB - 512)
    for op, call in (("discard", volume.discard), ("write-zeroes", volume.write_zeroes)):
        for length, offset in ((1024, MIB - 512), (512, MIB), (512, 1 << 40), (2 * MIB, 0)):
            with refused(errno.EFBIG if kind.can(op) else errno.EOPNOTSUPP):
                call(length, offset)
    assert volume.read(512, MIB - 512) == kind.kept(b"e" * 512)


def test_a_caller_off_the_blocks_is_refused_where_there_are_blocks(volume, kind):
    calls = {
        "discard": volume.discard,
        "write-zeroes": volume.write_zeroes,
        "block-status": volume.block_status,
    }
    for (op, call), (length, offset) in itertools.product(calls.items(), ((512, 1), (100, 512))):
        if not kind.can(op):
            with refused(errno.EOPNOTSUPP):
                call(length, offset)
        elif kind.block_bytes > 1:
            with refused(errno.EINVAL):
                call(length, offset)
        else:
            call(length, offset)


@pytest.mark.servers("huge")
def test_ranges_longer_than_one_request_are_split(make, kind):
    """3 GiB and a bit, with requests of at most 1 GiB."""
    size = (3 << 30) + 4096
    volume = make(size)
    volume.write(b"a" * 4096, 0)
    volume.write(b"z" * 4096, size - 4096)
    if kind.can("block-status"):
        extents = volume.block_status(size, 0)
        assert sum(extent.length_bytes for extent in extents) == size
    volume.discard(size, 0)
    volume.write_zeroes(size, 0)
    assert volume.read(4096, 0) == volume.read(4096, size - 4096) == bytes(4096)
