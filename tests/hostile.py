# SPDX-License-Identifier: MIT
"""What the hostile-client tests share: a server under attack and a witness that must not notice."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import wire
from conftest import ServerProcess
from rawclient import RawClient, RawVolume

TESTS = Path(__file__).parent
VOLUME_BYTES = 1 << 20
SETTLE_S = 20
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


class BareServer(ServerProcess):
    """tests/bare_server.c under ASan and UBSan instead of the daemon; same options, same log."""

    def __init__(self, socket: Path, options: list[str], *, log: Path, program: Path) -> None:
        super().__init__(socket, options, log=log, env=SANITIZERS)
        self._command = [str(program), "--socket", str(socket), *options]


def build_bare_server(directory: Path) -> Path:
    archive = wire.ROOT / "build/asan/libovsshm.a"
    assert archive.exists(), f"{archive} is missing: make lib-tests"
    program = directory / "bare_server"
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-g"]
    command += ["-fsanitize=address,undefined", f"-I{wire.ROOT}/csrc/include", "-o", str(program)]
    command += [str(TESTS / "bare_server.c"), str(archive), "-luring", "-ldl", "-pthread"]
    subprocess.run(command, check=True, timeout=120)
    return program


class Usage(NamedTuple):
    """What a session costs the server; back to the former when it has ended."""

    descriptors: int
    regions: int
    connections: int
    sessions: int


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")  # without shared pages


class Stage:
    """A server, a witness with a volume of its own, and attackers who use volume "target"."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.random = random.Random(1)
        self.witness = RawClient(server.socket)
        self.witness.create("witness", VOLUME_BYTES)
        self.witness.create("target", VOLUME_BYTES)
        self.volume = self.witness.open("witness")
        self.model = bytearray(VOLUME_BYTES)

    def close(self) -> None:
        self.witness.close()

    def check_witness(self) -> None:
        """Writes something new, reads everything, compares."""
        length = self.random.randrange(1, 8192)
        offset = self.random.randrange(VOLUME_BYTES - length)
        data = self.random.randbytes(length)
        self.volume.write(offset, data)
        self.model[offset : offset + length] = data
        self.volume.flush()
        half = VOLUME_BYTES // 2
        assert self.volume.read(0, half) + self.volume.read(half, half) == self.model

    def usage(self) -> Usage:
        status = self.witness.status()
        pid = self.server.pid
        maps = Path(f"/proc/{pid}/maps").read_text()
        return Usage(
            len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208
            len(re.findall(r"memfd:ovsshm ", maps)),
            status.connections,
            status.sessions,
        )

    def wait_usage(self, expected: Usage) -> None:
        """Sessions end a moment after their socket; a round trip to the server passes the time."""
        deadline = time.monotonic() + SETTLE_S
        while (usage := self.usage()) != expected:
            assert time.monotonic() < deadline, f"{usage} is left of {expected}"

    @contextmanager
    def attack(self, violations: int | None = 1, reason: str = "") -> Iterator[Attack]:
        """After the block: attackers gone without a trace, witness unharmed, violations counted."""
        assert self.server.running, self.server.log
        before = self.usage()
        counted = self.witness.status().violations
        logged = len(self.server.log)
        attack = Attack(self)
        with attack.stack:
            yield attack
        gc.collect()
        self.wait_usage(before)
        self.check_witness()
        log = self.server.log[logged:]
        if violations is not None:
            assert self.witness.status().violations == counted + violations, log
        assert re.search(reason, log), log
        with RawClient(self.server.socket) as other:
            volume = other.open("target")
            volume.write(0, b"usable")
            assert volume.read(0, 6) == b"usable"
        self.wait_usage(before)


STAGES = ["daemon", "asan", "reference"]


@contextmanager
def running_stage(kind: str) -> Iterator[Stage]:
    """daemon: what users run; asan: the bare server with sanitizers; asan-file: on files.

    reference: the daemon with the reference implementation.
    """
    directory = Path(tempfile.mkdtemp(prefix="ovsshm-"))
    path, log = directory / "s.sock", directory / "log"
    options = ["--store", "memory"]
    if kind.endswith("-file"):
        (directory / "pool").mkdir()
        options = ["--store", "file", "--pool", str(directory / "pool")]
    if kind in ("daemon", "reference"):
        if kind == "reference":
            options += ["--implementation", "reference"]
        server = ServerProcess(path, [*options, "--log-level", "debug"], log=log)
    else:
        server = BareServer(path, options, log=log, program=build_bare_server(directory))
    try:
        stage = Stage(server.start())
        yield stage
        stage.close()
        server.stop()
    finally:
        server.kill()
        shutil.rmtree(directory)


class Attack:
    """One attack; its clients are closed at its end."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.stack = ExitStack()

    def connect(self, **options: Any) -> RawClient:
        client = RawClient(self.stage.server.socket, **options)
        self.stack.callback(client.close)
        return client

    def open(self, **options: Any) -> RawVolume:
        return self.connect().open("target", **options)
