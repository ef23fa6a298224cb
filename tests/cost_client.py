# SPDX-License-Identifier: MIT
"""4 KiB reads at depth 32 for test_costs.py: each line of input is a number of batches to read."""

import asyncio
import sys

import shmclient
import shmclient.aio

DEPTH = 32
BLOCK_BYTES = 4096
OFFSETS = range(0, DEPTH * BLOCK_BYTES, BLOCK_BYTES)


def read_batches(socket: str) -> None:
    with shmclient.connect(socket) as connection, connection.open("a") as volume:
        reads = [shmclient.Read(volume.buffer(BLOCK_BYTES), offset) for offset in OFFSETS]
        print("ready", flush=True)
        for line in sys.stdin:
            for _ in range(int(line)):
                volume.batch(reads)
            print("done", flush=True)


async def read_tasks(socket: str) -> None:
    async with (
        shmclient.aio.connect(socket) as connection,
        await connection.open("a") as volume,
    ):
        buffers = [volume.buffer(BLOCK_BYTES) for _ in OFFSETS]

        async def read(number: int, count: int) -> None:
            for _ in range(count):
                await volume.preadinto(buffers[number], OFFSETS[number])

        print("ready", flush=True)
        for line in sys.stdin:
            await asyncio.gather(*(read(number, int(line)) for number in range(DEPTH)))
            print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "batch":
        read_batches(sys.argv[2])
    else:
        asyncio.run(read_tasks(sys.argv[2]))
