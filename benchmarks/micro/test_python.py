# SPDX-License-Identifier: MIT
"""Python calls on a volume of the memory store, of 4 KiB unless they say otherwise."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shmclient
import shmclient.aio

BLOCK_BYTES = 4096
BATCH = 32
pytestmark = pytest.mark.benchmark(group="Python calls")


def test_pread(benchmark: Any, volume: shmclient.Volume) -> None:
    assert len(benchmark(volume.pread, BLOCK_BYTES, 0)) == BLOCK_BYTES


@pytest.mark.parametrize("memory", ["shared", "own"])
def test_preadinto(benchmark: Any, volume: shmclient.Volume, memory: str) -> None:
    buffer = volume.buffer(BLOCK_BYTES) if memory == "shared" else bytearray(BLOCK_BYTES)
    assert benchmark(volume.preadinto, buffer, 0) == BLOCK_BYTES


def test_pwrite(benchmark: Any, volume: shmclient.Volume) -> None:
    assert benchmark(volume.pwrite, bytes(BLOCK_BYTES), 0) == BLOCK_BYTES


def test_flush(benchmark: Any, volume: shmclient.Volume) -> None:
    benchmark(volume.flush)


@pytest.mark.parametrize("memory", ["shared", "own"])
def test_batch_of_32(benchmark: Any, volume: shmclient.Volume, memory: str) -> None:
    reads = [
        shmclient.Read(
            volume.buffer(BLOCK_BYTES) if memory == "shared" else bytearray(BLOCK_BYTES),
            number * BLOCK_BYTES,
        )
        for number in range(BATCH)
    ]
    assert benchmark(volume.batch, reads) == [BLOCK_BYTES] * BATCH


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_asyncio_32_preads(benchmark: Any, runner: asyncio.Runner, socket: Path) -> None:
    async def opened() -> tuple[shmclient.aio.Connection, shmclient.aio.Volume]:
        connection = await shmclient.aio.connect(socket)
        return connection, await connection.open("bench")

    async def read() -> list[bytes]:
        offsets = range(0, BATCH * BLOCK_BYTES, BLOCK_BYTES)
        return await asyncio.gather(*(volume.pread(BLOCK_BYTES, offset) for offset in offsets))

    connection, volume = runner.run(opened())
    found = benchmark(lambda: runner.run(read()))
    assert [len(one) for one in found] == [BLOCK_BYTES] * BATCH
    volume.close()
    connection.close()


def test_stat(benchmark: Any, connection: shmclient.Connection) -> None:
    """One round trip on the control socket."""
    assert benchmark(connection.stat, "bench").name == "bench"


def test_open_and_close(benchmark: Any, connection: shmclient.Connection) -> None:
    """A session: a connection, shared memory and doorbells, and their end."""
    benchmark(lambda: connection.open("bench").close())


def test_connect_and_close(benchmark: Any, socket: Path) -> None:
    benchmark(lambda: shmclient.connect(socket).close())
