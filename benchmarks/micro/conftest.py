# SPDX-License-Identifier: MIT
"""A server, a written volume, and the library's C parts as functions."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cffi
import pytest

import shmclient
from benchmarks import TOP
from benchmarks.peers import running

VOLUME_BYTES = 64 << 20
HERE = Path(__file__).parent
PARTS = ["client/arena.c", "shared/copy.c", "shared/doorbell.c"]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The functions of shim.h."""
    library = tmp_path_factory.mktemp("micro") / "shim.so"
    sources = [HERE / "shim.c", *(TOP / "csrc" / part for part in PARTS)]
    flags = ["-std=c11", "-O2", "-fPIC", "-shared", "-pthread", f"-I{TOP}/csrc"]
    flags += [f"-I{TOP}/csrc/include"]
    subprocess.run(["gcc", *flags, *sources, "-o", library], check=True, timeout=120)
    ffi = cffi.FFI()
    ffi.cdef((HERE / "shim.h").read_text())
    return ffi.dlopen(str(library))


@pytest.fixture
def pair(parts: Any) -> Iterator[Callable[[bool], Any]]:
    """Factory of round trips between the first CPU, where this thread is then, and the last."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("round trips between CPUs need two")
    started = []

    def start(polls: bool) -> Any:
        found = parts.micro_pair_start(polls)
        assert found, "no thread"
        started.append(found)
        os.sched_setaffinity(0, {min(allowed)})
        return found

    yield start
    for one in started:
        parts.micro_pair_stop(one)
    os.sched_setaffinity(0, allowed)


@pytest.fixture(scope="session")
def socket() -> Iterator[Path]:
    """Of a memory store with the volume "bench", which is written: holes would cost nothing."""
    with TemporaryDirectory(prefix="ovs-bench-") as name:
        path, ready = Path(name) / "shm.sock", Path(name) / "ready"
        argv = [sys.executable, "-m", "shmserver", "--store", "memory", "--socket", str(path)]
        argv += ["--ready-file", str(ready), "--log-level", "error"]
        with running(argv, ready.exists):
            with shmclient.connect(path) as connection:
                connection.create("bench", VOLUME_BYTES)
                with connection.open("bench", writable=True) as volume:
                    volume.pwrite(b"x" * VOLUME_BYTES, 0)
            yield path


@pytest.fixture
def connection(socket: Path) -> Iterator[shmclient.Connection]:
    with shmclient.connect(socket) as connection:
        yield connection


@pytest.fixture
def volume(connection: shmclient.Connection) -> Iterator[shmclient.Volume]:
    with connection.open("bench", writable=True) as volume:
        yield volume
