# SPDX-License-Identifier: MIT
"""Clients and servers killed with SIGKILL at any point: what PROTOCOL.md section 12 promises holds.

A victim is a process that reports its progress on a pipe; it is killed after so many reports.
"""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import wire
from conftest import ServerProcess
from hostile import STAGES, VOLUME_BYTES, Stage, running_stage
from rawclient import RawClient

BLOCK = 4096
BLOCKS = VOLUME_BYTES // BLOCK
BOUNDED_S = 30

# A client of the C library: writes, flushes, reads; "." after each acknowledged write.
C_CLIENT = """
import itertools, os, sys, shmclient
with shmclient.connect(sys.argv[1]) as server:
    volume = server.open("target", writable=True, depth=64)
for n in itertools.count():
    volume.pwrite(bytes([n % 251 + 1]) * 4096, n % 256 * 4096)
    os.write(1, b".")
    if n % 7 == 0:
        volume.flush()
    if n % 3 == 0:
        volume.pread(65536, 0)
"""


@pytest.fixture(scope="module", params=[*STAGES, "asan-file"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with running_stage(request.param) as stage:
        yield stage


class Victim:
    """A process to be killed."""

    def __init__(self, pid: int, reports: int) -> None:
        self.pid = pid
        self.reports = reports

    def kill_after(self, count: int) -> int:
        """Kills it once it has reported so often; all that it reported, at least `count`."""
        seen = 0
        while seen < count:
            readable, _, _ = select.select([self.reports], [], [], BOUNDED_S)
            assert readable, "the victim does not get on"
            got = len(os.read(self.reports, count - seen))
            assert got, "the victim has died by itself"
            seen += got
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        while more := os.read(self.reports, 65536):
            seen += len(more)
        os.close(self.reports)
        return seen


def fork(act: Callable[[Callable[[], None]], None]) -> Victim:
    """A child that runs act(report), never to return."""
    reports, own = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            act(lambda: os.write(own, b".") and None)
            signal.pause()
        finally:
            os._exit(1)
    os.close(own)
    return Victim(pid, reports)


def check_contents(stage: Stage, acknowledged: int) -> None:
    """The victim wrote block n % BLOCKS with n % 251 + 1; what was acknowledged is there."""
    with RawClient(stage.server.socket) as client:
        volume = client.open("target")
        data = b"".join(
            volume.read(at, VOLUME_BYTES // 4) for at in range(0, VOLUME_BYTES, VOLUME_BYTES // 4)
        )
    for number in range(max(0, acknowledged - BLOCKS + 8), acknowledged):
        block = data[number % BLOCKS * BLOCK :][:BLOCK]
        assert block == bytes([number % 251 + 1]) * BLOCK, number


# ---- clients die (12.1) ----


@pytest.mark.parametrize("kills", range(12))
def test_killed_raw_client_leaves_its_volume_to_the_next(stage: Stage, kills: int) -> None:
    steps = random.Random(kills).randrange(4, 400)

    def write_for_ever(report: Callable[[], None]) -> None:
        client = RawClient(stage.server.socket)
        volume = client.open("target", depth=64)
        number = 0
        while True:
            volume.write(number % BLOCKS * BLOCK, bytes([number % 251 + 1]) * BLOCK)
            report()
            number += 1
            for _ in range(20):  # and these are in flight when it dies
                volume.queue.push(wire.pack("sqe", op=wire.OP_READ, length_bytes=65536))
            volume.queue.publish()
            volume.queue.wait(20)

    with stage.attack(violations=0):
        victim = fork(write_for_ever)
        check_contents(stage, victim.kill_after(steps))


@pytest.mark.parametrize("kills", range(8))
def test_killed_c_client_leaves_its_volume_to_the_next(stage: Stage, kills: int) -> None:
    steps = random.Random(kills).randrange(1, 3000)
    with stage.attack(violations=0), ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-c", C_CLIENT, str(stage.server.socket)], stdout=subprocess.PIPE
        )
        stack.enter_context(process)
        assert process.stdout is not None
        victim = Victim(process.pid, os.dup(process.stdout.fileno()))
        acknowledged = victim.kill_after(steps)
        process.returncode = -signal.SIGKILL  # has been waited for
        check_contents(stage, acknowledged)


@pytest.mark.parametrize(
    "step", ["connected", "hello-sent", "ready", "open-sent", "open", "published", "rung", "armed"]
)
def test_client_killed_at_each_step_is_forgotten(stage: Stage, step: str) -> None:
    def go_to(report: Callable[[], None]) -> None:
        def reached(name: str) -> None:
            if name == step:
                report()
                signal.pause()

        client = RawClient(stage.server.socket, hello=False)
        reached("connected")
        hello = wire.pack("msg_hello", version_min=1, version_max=1)
        client.send(wire.message(wire.MSG_HELLO, hello))
        reached("hello-sent")
        client.reply()
        reached("ready")
        if step == "open-sent":
            payload = wire.pack(
                "msg_open", name="target", mode=2, queues=1, depth=8, arena_bytes=4096
            )
            client.send(wire.message(wire.MSG_OPEN, payload))
        reached("open-sent")
        volume = client.open("target")
        reached("open")
        for number in range(8):
            volume.queue.push(
                wire.pack("sqe", op=wire.OP_WRITE, length_bytes=4096, user_data=number)
            )
        volume.queue.words.sq_tail = volume.queue.tail
        reached("published")
        volume.queue.ring()
        reached("rung")
        volume.queue.wait(8)
        volume.queue.words.client_armed = 1
        reached("armed")

    with stage.attack(violations=0):
        fork(go_to).kill_after(1)
        with RawClient(stage.server.socket) as client:
            client.open("target").write(0, b"mine now")


def test_many_clients_killed_at_once_are_forgotten(stage: Stage) -> None:
    def read_for_ever(report: Callable[[], None]) -> None:
        volume = RawClient(stage.server.socket).open("target", mode=wire.MODE_READ, queues=4)
        while True:
            for queue in volume.queues:
                assert queue.run(op=wire.OP_READ, length_bytes=65536) == 65536
            report()

    with stage.attack(violations=0):
        victims = [fork(read_for_ever) for _ in range(16)]
        for victim in victims:
            victim.kill_after(3)


def test_volume_of_a_killed_client_can_be_removed(stage: Stage) -> None:
    def write_for_ever(report: Callable[[], None]) -> None:
        volume = RawClient(stage.server.socket).open("doomed")
        while True:
            volume.write(0, bytes(65536))
            report()

    with stage.attack(violations=0):
        stage.witness.create("doomed", VOLUME_BYTES)
        fork(write_for_ever).kill_after(5)
        stage.witness.remove("doomed")


def test_writes_of_a_killed_client_end_before_the_next_writer_starts(
    server: Callable[..., ServerProcess],
) -> None:
    """The store holds the old session's writes for a while; the new writer's come after them."""
    options = ["inner=memory", "delay-op=write", "delay-ms=300"]
    process = server("--store", "fault", *(f"--store-option={option}" for option in options))
    with RawClient(process.socket) as client:
        client.create("target", VOLUME_BYTES)

    def write_once(report: Callable[[], None]) -> None:
        volume = RawClient(process.socket).open("target", depth=64)
        volume.put(0, b"old!" * 1024)
        for _ in range(64):
            volume.queue.push(wire.pack("sqe", op=wire.OP_WRITE, length_bytes=4096))
        volume.queue.publish()
        while volume.queue.words.sq_head != 64:
            volume.client.status()
        report()

    fork(write_once).kill_after(1)
    with RawClient(process.socket) as client:
        volume = client.open("target")  # waits, and is not refused
        volume.write(0, b"new!" * 1024)
        assert volume.read(0, 4096) == b"new!" * 1024


# ---- servers die (12.2) ----


def blocked_calls(path: Path) -> list[tuple[threading.Thread, list[OSError]]]:
    """Threads of the C library that wait for a server which never answers reads."""
    import shmclient

    calls = []
    for number in range(4):
        with shmclient.connect(path) as connection:
            volume = connection.open("target", writable=number == 0, depth=16)
        errors: list[OSError] = []

        def wait(volume: shmclient.Volume = volume, errors: list[OSError] = errors) -> None:
            try:
                volume.pread(4096, 0)
            except OSError as error:
                errors.append(error)
            try:
                volume.pwrite(b"after", 0)
            except OSError as error:
                errors.append(error)

        calls.append((threading.Thread(target=wait, daemon=True), errors))
        calls[-1][0].start()
    return calls


@pytest.mark.parametrize("spin", ["0", "100us"])
def test_killed_server_ends_every_waiting_call_of_c_clients(
    server: Callable[..., ServerProcess], spin: str
) -> None:
    process = server("--store", "fault", "--store-option=never-op=read", "--spin-max", spin)
    with RawClient(process.socket) as witness:
        witness.create("target", VOLUME_BYTES)
        calls = blocked_calls(process.socket)
        while witness.stat("target").readers < 3:
            pass
        volume = witness.open("target", mode=wire.MODE_READ, depth=64)
        process.kill()
        witness.wait_ended()
        assert volume.queue.reap() == []
    for thread, errors in calls:
        thread.join(BOUNDED_S)
        assert not thread.is_alive(), "a call hangs"
        assert [error.errno for error in errors] == [errno.ENOTCONN] * 2


def test_killed_server_ends_management_calls_that_wait(
    server: Callable[..., ServerProcess],
) -> None:
    import shmclient

    options = ["inner=memory", "delay-op=create", "delay-ms=600000"]
    process = server("--store", "fault", *(f"--store-option={option}" for option in options))
    errors: list[OSError] = []
    connection = shmclient.connect(process.socket)

    def create() -> None:
        try:
            connection.create("never", VOLUME_BYTES)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=create, daemon=True)
    thread.start()
    with RawClient(process.socket) as other:
        other.status()
        process.kill()
        other.wait_ended()
    thread.join(BOUNDED_S)
    assert not thread.is_alive(), "a call hangs"
    assert [error.errno for error in errors] == [errno.ENOTCONN]
    with pytest.raises(OSError, match=r"."):
        connection.status()


@pytest.mark.parametrize("kills", range(6))
def test_acknowledged_writes_survive_the_death_of_the_server(
    server: Callable[..., ServerProcess], pool: Path, short_dir: Path, kills: int
) -> None:
    """Also what was not flushed: the page cache outlives the process."""
    first = server("--pool", pool, socket=short_dir / "a.sock")
    steps = random.Random(kills).randrange(10, 1500)
    with RawClient(first.socket) as client:
        client.create("target", VOLUME_BYTES)
    with subprocess.Popen(
        [sys.executable, "-c", C_CLIENT, str(first.socket)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        acknowledged = len(process.stdout.read(steps))
        first.kill()
        acknowledged += len(process.stdout.read())
        assert process.wait(BOUNDED_S) == 1, "it ends with the error it got"
    second = server("--pool", pool, socket=short_dir / "a.sock")
    with RawClient(second.socket) as client:
        volume = client.open("target")
        for number in range(max(0, acknowledged - BLOCKS + 1), acknowledged):
            expected = bytes([number % 251 + 1]) * BLOCK
            assert volume.read(number % BLOCKS * BLOCK, BLOCK) == expected, number
