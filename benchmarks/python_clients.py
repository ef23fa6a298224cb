# SPDX-License-Identifier: MIT
"""What python_bench.py compares: 4 KiB reads by several clients, of one server each.

A row is a context manager that yields a function: seconds -> Sample.  Ours are all of one
`shmserver --store memory`; the peers' of one `nbdkit memory`.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import shmclient
import shmclient.aio
from benchmarks import TOP
from benchmarks.measure import cpu_ns
from benchmarks.peers import PeerUnavailable, nbdkit, running

BLOCK_BYTES = 4096
SIZE_BYTES = 256 << 20
OFFSETS = range(0, SIZE_BYTES, BLOCK_BYTES)
BATCH = 32
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Sample:
    """One run. CPU in microseconds per request, user and system."""

    iops: float
    client_us: float
    server_us: float


Sampler = Callable[[float], Sample]


@dataclass(frozen=True)
class Servers:
    """Where the clients find them; the volume is "bench", and written."""

    shm_socket: Path
    shm_pid: int
    nbd_socket: Path
    nbd_pid: int


RowMaker = Callable[[Servers], AbstractContextManager[Sampler]]


# ---- servers ----


@contextmanager
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="ovs-bench-") as name:
        scratch = Path(name)
        socket, ready = scratch / "shm.sock", scratch / "ready"
        argv = [sys.executable, "-m", "shmserver", "--store", "memory", "--socket", str(socket)]
        argv += ["--ready-file", str(ready), "--log-level", "error"]
        with (
            running(argv, ready.exists) as shm,
            nbdkit("memory", 1, SIZE_BYTES, scratch) as nbd,
        ):
            fill(socket)
            disk = nbd.disks[0].qemu
            assert disk is not None
            nbd_socket = Path(disk.filename.partition("?socket=")[2])
            yield Servers(socket, shm.pid, nbd_socket, nbd.server_pids[0])


def fill(socket: Path) -> None:
    """What was never written is answered without looking."""
    with shmclient.connect(socket) as connection:
        connection.create("bench", SIZE_BYTES)
        with connection.open("bench", writable=True) as volume:
            for offset in range(0, SIZE_BYTES, 1 << 20):
                volume.pwrite(b"x" * (1 << 20), offset)


# ---- sampling ----


def sampler(run: Callable[[float], int], server_pid: int) -> Sampler:
    """Of a function that reads for so many seconds in this process, and returns how often."""

    def sample(seconds: float) -> Sample:
        run(seconds / 10)  # warm
        server, client, start = cpu_ns((server_pid,)), time.process_time(), time.monotonic()
        count = run(seconds)
        elapsed = time.monotonic() - start
        client_s = time.process_time() - client
        server_us = (cpu_ns((server_pid,)) - server) / 1e3 / count
        return Sample(count / elapsed, client_s * 1e6 / count, server_us)

    return sample


def for_seconds(seconds: float, through: Callable[[range], int]) -> int:
    """Again and again through parts of the volume, between two looks at the clock."""
    parts = [OFFSETS[i : i + 1024] for i in range(0, len(OFFSETS), 1024)]
    end = time.monotonic() + seconds
    count = 0
    while True:
        for part in parts:
            count += through(part)
            if time.monotonic() > end:
                return count


@contextmanager
def opened(servers: Servers) -> Iterator[shmclient.Volume]:
    with (
        shmclient.connect(servers.shm_socket) as connection,
        connection.open("bench") as volume,
    ):
        yield volume


# ---- rows: C ----


def ring_bench() -> Path:
    """The C client, built from its source and the library of the Python extension."""
    program, source = TOP / "build/ring_bench", TOP / "benchmarks/ring_bench.c"
    archive = TOP / "build/python/libovsshm.a"
    if not archive.exists():
        raise PeerUnavailable(f"{archive} has not been built")
    newest = max(source.stat().st_mtime, archive.stat().st_mtime)
    if not program.exists() or program.stat().st_mtime < newest:
        build = ["gcc", "-std=gnu11", "-O2", "-pthread", f"-I{TOP}/csrc/include", str(source)]
        libraries = [str(archive), "-luring", "-ldl"]
        subprocess.run([*build, "-o", str(program), *libraries], check=True, timeout=120)
    return program


def c_client(case: str) -> RowMaker:
    @contextmanager
    def row(servers: Servers) -> Iterator[Sampler]:
        program = ring_bench()

        def sample(seconds: float) -> Sample:
            argv = [str(program), "-u", str(servers.shm_socket), "-r", "1", "-f", case]
            done = subprocess.run(
                [*argv, "-s", str(seconds)], check=True, capture_output=True, text=True, timeout=60
            )
            found = re.search(
                rf"^{re.escape(case)} +(\d+) +\d+-\d+ +([\d.]+) +([\d.]+)", done.stdout, re.M
            )
            assert found, done.stdout
            return Sample(float(found[1]), float(found[2]), float(found[3]))

        yield sample

    return row


# ---- rows: Python, one at a time and in batches ----


@contextmanager
def pread(servers: Servers) -> Iterator[Sampler]:
    with opened(servers) as volume:

        def through(offsets: range) -> int:
            read = volume.pread
            for offset in offsets:
                read(BLOCK_BYTES, offset)
            return len(offsets)

        yield sampler(lambda seconds: for_seconds(seconds, through), servers.shm_pid)


def preadinto(make_buffer: Callable[[shmclient.Volume], bytearray | shmclient.Buffer]) -> RowMaker:
    @contextmanager
    def row(servers: Servers) -> Iterator[Sampler]:
        with opened(servers) as volume:
            buffer = make_buffer(volume)

            def through(offsets: range) -> int:
                read = volume.preadinto
                for offset in offsets:
                    read(buffer, offset)
                return len(offsets)

            yield sampler(lambda seconds: for_seconds(seconds, through), servers.shm_pid)

    return row


def batch(make_buffer: Callable[[shmclient.Volume], bytearray | shmclient.Buffer]) -> RowMaker:
    @contextmanager
    def row(servers: Servers) -> Iterator[Sampler]:
        with opened(servers) as volume:
            buffers = [make_buffer(volume) for _ in range(BATCH)]

            def through(offsets: range) -> int:
                run, read = volume.batch, shmclient.Read
                for i in range(0, len(offsets), BATCH):
                    run(list(map(read, buffers, offsets[i : i + BATCH])))
                return len(offsets)

            yield sampler(lambda seconds: for_seconds(seconds, through), servers.shm_pid)

    return row


# ---- rows: Python, asyncio ----


def awaited(run: Callable[[shmclient.aio.Volume, float], object]) -> RowMaker:
    """Of a coroutine function as sampler() takes it."""

    @contextmanager
    def row(servers: Servers) -> Iterator[Sampler]:
        with asyncio.Runner() as runner:

            async def open_volume() -> shmclient.aio.Volume:
                async with shmclient.aio.connect(servers.shm_socket) as server:
                    return await server.open("bench")

            volume = runner.run(open_volume())
            try:
                yield sampler(lambda seconds: runner.run(run(volume, seconds)), servers.shm_pid)
            finally:
                runner.run(close(volume))

    return row


async def close(volume: shmclient.aio.Volume) -> None:
    volume.close()


async def tasks_pread(volume: shmclient.aio.Volume, seconds: float) -> int:
    """32 tasks, each with a request on its way at all times."""
    end = time.monotonic() + seconds

    async def task(number: int) -> int:
        read, count = volume.pread, 0
        while time.monotonic() < end:
            for offset in OFFSETS[number * 100 : number * 100 + 64]:
                await read(BLOCK_BYTES, offset)
            count += 64
        return count

    return sum(await asyncio.gather(*map(task, range(BATCH))))


async def tasks_preadinto(volume: shmclient.aio.Volume, seconds: float) -> int:
    end = time.monotonic() + seconds

    async def task(number: int) -> int:
        read, buffer, count = volume.preadinto, bytearray(BLOCK_BYTES), 0
        while time.monotonic() < end:
            for offset in OFFSETS[number * 100 : number * 100 + 64]:
                await read(buffer, offset)
            count += 64
        return count

    return sum(await asyncio.gather(*map(task, range(BATCH))))


async def gathered(volume: shmclient.aio.Volume, seconds: float) -> int:
    """32 requests at a time, then the next 32."""
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        offsets = OFFSETS[count % 32768 : count % 32768 + BATCH]
        await asyncio.gather(*(volume.pread(BLOCK_BYTES, offset) for offset in offsets))
        count += BATCH
    return count


# ---- rows: libnbd ----


def libnbd(mode: str, depth: int) -> RowMaker:
    @contextmanager
    def row(servers: Servers) -> Iterator[Sampler]:
        if subprocess.run([SYSTEM_PYTHON, "-c", "import nbd"], capture_output=True).returncode:
            raise PeerUnavailable("python3-libnbd is not installed")
        argv = [SYSTEM_PYTHON, str(TOP / "benchmarks/nbd_client.py"), str(servers.nbd_socket)]

        def sample(seconds: float) -> Sample:
            server = cpu_ns((servers.nbd_pid,))
            done = subprocess.run(
                [*argv, mode, str(depth), str(seconds)],
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
            )
            rate, client_us = map(float, done.stdout.split())
            server_us = (cpu_ns((servers.nbd_pid,)) - server) / 1e3 / (rate * seconds * 1.1)
            return Sample(rate, client_us, server_us)

        yield sample

    return row


def own(_: shmclient.Volume) -> bytearray:
    return bytearray(BLOCK_BYTES)


def shared(volume: shmclient.Volume) -> shmclient.Buffer:
    return volume.buffer(BLOCK_BYTES)


ROWS: dict[str, RowMaker] = {
    "C, shared memory": c_client("4k read  shared  qd1"),
    "C, own memory": c_client("4k read  bounced qd1"),
    "preadinto, Buffer": preadinto(shared),
    "preadinto, own memory": preadinto(own),
    "pread": pread,
    "batch of 32, Buffers": batch(shared),
    "batch of 32, own memory": batch(own),
    "asyncio, 32 tasks, pread": awaited(tasks_pread),
    "asyncio, 32 tasks, preadinto": awaited(tasks_preadinto),
    "asyncio, gather of 32": awaited(gathered),
    "libnbd, 32, its own loop": libnbd("loop", 32),
    "libnbd, 32, asyncio": libnbd("asyncio", 32),
}
