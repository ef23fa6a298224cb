# SPDX-License-Identifier: MIT
"""What the stores of examples/ have in common, called as a server calls them.

Each is compared with a bytearray.  What takes a server or QEMU is in test_examples_served.py.
"""

import random
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from example_stores import UNITS, Place, read, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3_service import S3Service

from shmserver.store import Store

SECTOR = 512


@pytest.fixture(params=UNITS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return Place("s3", Path(uuid.uuid4().hex), request.getfixturevalue("s3_service"))
    return Place(request.param, tmp_path)


# ---- operations --------------------------------------------------------------------------------

OPS = ["write", "write", "write_zeroes", "discard", "flush", "resize", "reopen"]
SIZE = 8  # units; what is written may reach behind it, once the volume was resized


def scripts(unit: int) -> st.SearchStrategy[list[tuple[str, int, int, int]]]:
    """Of tuples: operation, offset, length, what to write."""
    near = st.integers(-2, 2).map(lambda sectors: sectors * SECTOR)
    edge = st.builds(lambda n, d: max(0, n * unit + d), st.integers(0, SIZE), near)
    length = st.builds(lambda n, d: max(SECTOR, n * unit + d), st.integers(0, 3), near)
    return st.lists(
        st.tuples(st.sampled_from(OPS), edge, length, st.integers(1, 255)), min_size=4, max_size=24
    )


def check(store: Store, volume: object, model: bytearray) -> None:
    assert read(store, volume, len(model)) == model
    at = 0
    for extent in store.block_status(volume, len(model), 0):
        assert extent.length_bytes > 0
        part = model[at : at + extent.length_bytes]
        assert not extent.zero or not any(part)
        at += extent.length_bytes
    assert at >= len(model)


@pytest.mark.parametrize("kind", UNITS)
def test_operations_agree_with_a_bytearray(
    kind: str, tmp_path_factory: pytest.TempPathFactory, s3_service: S3Service
) -> None:
    @settings(
        max_examples=8 if kind == "s3" else 40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
    )
    @given(scripts(UNITS[kind]))
    def agree(script: list[tuple[str, int, int, int]]) -> None:
        directory = tmp_path_factory.mktemp(kind)
        place = Place(kind, directory, s3_service if kind == "s3" else None)
        run_script(place, script)

    agree()


def run_script(place: Place, script: list[tuple[str, int, int, int]]) -> None:
    model = place.new(SIZE * place.unit - SECTOR)
    with place.store() as store:
        store.create("vol", len(model))
    remaining = iter(script)
    reopen = True
    while reopen:
        reopen = False
        with place.store() as store:
            assert store.size("vol") == len(model)
            volume = store.open("vol")
            check(store, volume, model)
            for op, offset, length, byte in remaining:
                if op == "reopen":
                    reopen = True
                    break
                step(store, volume, model, op, offset, length, byte)
                check(store, volume, model)
            store.close(volume)


def step(
    store: Store, volume: object, model: bytearray, op: str, offset: int, length: int, byte: int
) -> None:
    end = min(len(model), offset + length)
    length = end - offset
    if op == "flush":
        store.flush(volume)
    elif op == "resize":
        model.extend(bytes(byte * SECTOR))
        store.resize("vol", len(model))
    elif length <= 0:
        return
    elif op == "write":
        model[offset:end] = bytes([byte]) * length
        write(store, volume, model[offset:end], offset)
    elif op == "write_zeroes":
        model[offset:end] = bytes(length)
        store.write_zeroes(volume, length, offset, may_unmap=bool(byte % 2))
    elif op == "discard":
        store.discard(volume, length, offset)
        now = read(store, volume, length, offset)
        assert all(new in (0, old) for new, old in zip(now, model[offset:end], strict=True))
        model[offset:end] = now


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_that_write_side_by_side_do_not_disturb_each_other(
    place: Place, restless: None
) -> None:
    count, rounds = 8, 4
    length = 2 * place.unit // count
    together = Barrier(count, timeout=60)

    def write_piece(number: int) -> None:
        for at in range(0, rounds * 2 * place.unit, 2 * place.unit):
            together.wait()
            write(store, volume, bytes([number + 1]) * length, at + number * length)

    with place.store() as store, ThreadPoolExecutor(count) as threads:
        store.create("vol", rounds * 2 * place.unit)
        volume = store.open("vol")
        list(threads.map(write_piece, range(count)))
        expected = rounds * b"".join(bytes([n + 1]) * length for n in range(count))
        assert read(store, volume, len(expected)) == expected
        store.close(volume)


# ---- volumes -----------------------------------------------------------------------------------

NAMES = ["vol", "vol/inner", "spaces and %2f", "Größe", "x" * 254]


def test_volumes_are_there_again_after_a_restart_and_gone_once_removed(place: Place) -> None:
    with place.store() as store:
        for number, name in enumerate(NAMES, 1):
            store.create(name, number * SECTOR)
    with place.store() as store:
        assert sorted(store.list()) == sorted(NAMES)
        assert [store.size(name) for name in NAMES] == [n * SECTOR for n in range(1, 6)]
        for name in NAMES[1:]:
            store.remove(name)
    with place.store() as store:
        assert list(store.list()) == ["vol"]
        for call in (store.size, store.remove, store.open):
            with pytest.raises(KeyError):
                call("Größe")


def test_volumes_do_not_share_their_contents(place: Place) -> None:
    with place.store() as store:
        for name in ("one", "two"):
            store.create(name, place.unit)
            volume = store.open(name)
            write(store, volume, name[:1].encode() * SECTOR)
            store.close(volume)
        store.remove("one")
        store.create("one", place.unit)
        for name, expected in (("one", bytes(place.new(SECTOR))), ("two", b"t" * SECTOR)):
            volume = store.open(name)
            assert read(store, volume, SECTOR) == expected
            store.close(volume)


def test_allocated_is_what_was_written_and_discard_gives_it_back(place: Place) -> None:
    with place.store() as store:
        store.create("vol", 64 * place.unit)
        assert store.allocated("vol") == 0
        volume = store.open("vol")
        write(store, volume, random.Random(3).randbytes(2 * place.unit), 8 * place.unit)
        store.flush(volume)
        taken = store.allocated("vol")
        assert 2 * place.unit <= taken <= 2 * place.unit * 1.01
        store.discard(volume, place.unit, 8 * place.unit)
        assert store.allocated("vol") == pytest.approx(taken / 2, rel=0.01)
        store.write_zeroes(volume, place.unit, 9 * place.unit, may_unmap=True)
        assert store.allocated("vol") == 0
        store.close(volume)


def test_block_status_joins_neighbours(place: Place) -> None:
    unit = place.unit
    with place.store() as store:
        store.create("vol", 64 * unit)
        volume = store.open("vol")
        for number in (10, 11, 12, 20):
            write(store, volume, b"x" * SECTOR, number * unit)
        *found, last = map(tuple, store.block_status(volume, 40 * unit, 9 * unit + SECTOR))
        assert found == [
            (unit - SECTOR, True, True),
            (3 * unit, False, False),
            (7 * unit, True, True),
            (unit, False, False),
        ]
        assert last[0] >= 28 * unit + SECTOR
        assert last[1:] == (True, True)
        store.close(volume)


def test_second_server_on_a_pool_is_refused(tmp_path: Path) -> None:
    for kind in ("zstd", "overlay"):
        (tmp_path / kind).mkdir()
        place = Place(kind, tmp_path / kind)
        with place.store(), pytest.raises(OSError, match="another server"), place.store():
            pass
        with place.store():
            pass
