# SPDX-License-Identifier: MIT
"""The arithmetic of a transfer: ranges, how they are cut into requests, and rates.

Method: properties of random ranges, checked byte by byte against the plain meaning.
"""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmclient.cli import ranges
from shmclient.cli.endpoints import REQUEST_BYTES, REQUESTS_MAX, placed, portions, sectors
from shmclient.cli.ranges import GRAIN_BYTES, Range
from shmclient.display import Rate
from shmclient.units import format_count, format_latency, format_rate

# Lengths and kinds of neighbouring ranges, in sectors.
kinds = st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=30)


def layout(lengths: list[tuple[int, bool]]) -> list[Range]:
    found, offset = [], 0
    for length, zero in lengths:
        found.append(Range(offset, length * 512, zero))
        offset += length * 512
    return found


def data_sectors(found: list[Range]) -> set[int]:
    return {
        sector
        for one in found
        if not one.zero
        for sector in range(one.offset_bytes // 512, sectors(one.end_bytes) // 512)
    }


@given(kinds, st.sampled_from([512, 1024, 4096, 65536]))
def test_widened_ranges_are_aligned_and_cover_the_same(lengths, grain):
    found = layout(lengths)
    end = found[-1].end_bytes
    wide = list(ranges.widened(found, 0, end, grain))
    assert wide[0].offset_bytes == 0
    for one, behind in pairwise(wide):
        assert one.end_bytes == behind.offset_bytes
    assert wide[-1].end_bytes == end
    assert data_sectors(wide) >= data_sectors(found)
    for one in wide:
        assert one.offset_bytes % grain == 0
        assert one.end_bytes % grain == 0 or one.end_bytes == end
    # Nothing is made data that has no data within its grain.
    grains = {sector * 512 // grain for sector in data_sectors(found)}
    assert {sector * 512 // grain for sector in data_sectors(wide)} == grains


@given(
    st.lists(st.tuples(st.integers(1, 4 << 20), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([GRAIN_BYTES, 1 << 16, 4 << 20]),
)
def test_portions_fit_their_slot_and_lose_nothing(lengths, slot_bytes):
    found, offset = [], 0
    for length, zero in lengths:
        found.append(Range(offset, length, zero))
        offset += length
    slot = memoryview(bytearray(slot_bytes))
    position = 0
    for portion in portions(found, slot_bytes):
        assert portion
        assert sum(not one.zero for one in portion) <= REQUESTS_MAX
        pieces = placed(portion, slot)
        taken = 0
        for one, piece in zip(portion, pieces, strict=True):
            assert one.offset_bytes == piece.offset_bytes == position
            position = piece.end_bytes
            if piece.data is None:
                assert one.zero
                continue
            assert len(piece.data) == piece.length_bytes <= REQUEST_BYTES
            taken += piece.length_bytes + -piece.length_bytes % GRAIN_BYTES
        assert taken <= slot_bytes
    assert position == offset


def test_pieces_of_a_portion_do_not_share_memory():
    slot = memoryview(bytearray(1 << 16))
    portion = next(portions([Range(0, 100, False), Range(100, 8000, False)], len(slot)))
    for i, piece in enumerate(placed(portion, slot), 1):
        assert piece.data is not None
        piece.data[:] = bytes([i]) * piece.length_bytes
    assert slot.tobytes().count(1) == 100
    assert slot.tobytes().count(2) == 8000


@given(st.lists(st.tuples(st.integers(1, 3 * GRAIN_BYTES), st.booleans()), min_size=1, max_size=12))
def test_zero_runs_are_zero_and_cover_everything(parts):
    data = memoryview(b"".join(bytes(n) if zero else b"\1" * n for n, zero in parts))
    position = 1000
    for run in ranges.zero_runs(1000, data, GRAIN_BYTES):
        assert run.offset_bytes == position
        position = run.end_bytes
        content = data[run.offset_bytes - 1000 : run.end_bytes - 1000]
        assert run.zero == (not any(content))
    assert position == 1000 + len(data)


@given(st.integers(0, 3 << 20), st.integers(0, 3 << 20))
def test_zeroes_are_recognized_at_any_length(length, at):
    data = bytearray(length)
    assert ranges.is_zero(memoryview(data))
    if at < length:
        data[at] = 1
        assert not ranges.is_zero(memoryview(data))


def test_ranges_of_a_file_are_those_of_its_file_system(tmp_path: Path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(16 << 20)
        file.seek(4 << 20)
        file.write(b"x" * (1 << 20))
    fd = os.open(path, os.O_RDONLY)
    try:
        found = list(ranges.of_file(fd, 16 << 20))
        beyond = list(ranges.of_file(fd, 5 << 20))
    finally:
        os.close(fd)
    if found == [Range(0, 16 << 20, False)]:
        pytest.skip("this file system does not tell where data is")
    assert found == [
        Range(0, 4 << 20, True),
        Range(4 << 20, 1 << 20, False),
        Range(5 << 20, 11 << 20, True),
    ]
    assert beyond == found[:2]


def test_rate_is_that_of_the_last_seconds():
    rate = Rate()
    assert rate.update(0, 10.0) == 0
    assert rate.update(100, 11.0) == 100
    for second in range(12, 30):
        last = rate.update(100, second)
    assert last == 0


@pytest.mark.parametrize(
    ("latency_ns", "text"),
    [
        (0, "0 ns"),
        (999.4, "999 ns"),
        (999.6, "1.00 us"),
        (12_345, "12.3 us"),
        (99_960, "100 us"),
        (1_204_000, "1.20 ms"),
        (999_600_000, "1.00 s"),
        (75_000_000_000, "75.00 s"),
    ],
)
def test_latencies_have_three_digits(latency_ns, text):
    assert format_latency(latency_ns) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (12_345, "12.3 k"),
        (2.5e6, "2.50 M"),
        (3e9, "3.00 G"),
    ],
)
def test_counts_have_three_digits(number, text):
    assert format_count(number) == text


@pytest.mark.parametrize(
    ("bytes_per_s", "text"),
    [
        (0, "0 B/s"),
        (999.6, "0.98 KiB/s"),
        (1 << 20, "1.00 MiB/s"),
        (12.34 * (1 << 20), "12.3 MiB/s"),
        (1000 << 20, "0.98 GiB/s"),
        (5 << 60, "5.00 EiB/s"),
    ],
)
def test_rates_have_three_digits(bytes_per_s, text):
    assert format_rate(bytes_per_s) == text
