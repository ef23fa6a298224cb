# SPDX-License-Identifier: MIT
"""The reference client: what is its own affair, on the C server and on servers that are broken.

What all clients have in common is tried by tests/interop.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import wire
from conftest import ServerProcess

import shmclient
from shmclient.reference import (
    Connection,
    Discard,
    Flush,
    Read,
    Volume,
    Write,
    WriteZeroes,
    control,
    region,
    tables,
)
from shmclient.reference.memory import Ranges, flat
from shmclient.reference.task import Task
from shmserver import Server

MIB = 1 << 20


@pytest.fixture
def path(short_dir: Path) -> Iterator[Path]:
    with Server("memory", socket=short_dir / "s.sock", request_bytes_max=65536):
        yield short_dir / "s.sock"


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    with Connection(path) as one:
        one.create("vol", 8 * MIB)
        yield one


@pytest.fixture
def volume(connection: Connection) -> Iterator[Volume]:
    with connection.open("vol", writable=True, depth=8, arena_bytes=256 * 1024) as one:
        yield one


def test_implementation_is_chosen_by_name(path: Path) -> None:
    with shmclient.connect(path, implementation="reference") as one:
        assert isinstance(one, Connection)
    with shmclient.connect(path, implementation="native") as one:
        assert isinstance(one, shmclient.Connection)
    with pytest.raises(ValueError, match='"fast" is neither'):
        shmclient.connect(path, implementation="fast")


@pytest.mark.parametrize("package", ["cffi"])
def test_missing_package_is_named_with_the_extra(package: str, path: Path) -> None:
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        "import shmclient\n"
        "shmclient.connect(sys.argv[1], implementation='reference')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert f"needs the Python package {package}" in result.stderr
    assert "openvstorage-shm[reference]" in result.stderr


# ---- memory of any kind ----


def test_requests_far_longer_than_the_arena_and_the_limit(volume: Volume) -> None:
    data = os.urandom(5 * MIB + 123)
    assert volume.pwrite(data, 1) == len(data)
    assert volume.pread(len(data), 1) == data


def test_memory_is_scattered_and_gathered(volume: Volume) -> None:
    data = os.urandom(200_000)
    view = memoryview(data)
    pieces = [view[:1], view[1:1], view[1:70_000], view[70_000:]]
    assert volume.pwritev(pieces, 512) == len(data)
    into = [bytearray(100_000), bytearray(99_999), bytearray(1)]
    assert volume.preadv(into, 512) == len(data)
    assert b"".join(into) == data


def test_elements_of_any_kind_are_bytes(volume: Volume) -> None:
    import array

    numbers = array.array("d", [1.5, -2.5])
    assert volume.pwrite(numbers, 0) == 16
    back = array.array("d", [0.0, 0.0])
    assert volume.preadinto(back, 0) == 16
    assert back == numbers


def test_buffers_of_the_arena_are_used_in_place(volume: Volume) -> None:
    with volume.buffer(4096) as buffer:
        buffer[:] = os.urandom(4096)
        volume.pwrite(buffer, 0)
        wanted = bytes(buffer)
        buffer[:] = bytes(4096)
        view = memoryview(buffer)[100:200]
        assert volume.preadinto(view, 100) == 100
        assert buffer[100:200] == wanted[100:200]
        assert buffer[200:] == bytes(4096 - 200)
        view.release()


def test_several_buffers_go_as_segments(volume: Volume) -> None:
    buffers = [volume.buffer(4096) for _ in range(3)]
    data = os.urandom(3 * 4096)
    for number, buffer in enumerate(buffers):
        buffer[:] = data[number * 4096 : (number + 1) * 4096]
    assert volume.pwritev(buffers, 4096) == len(data)
    assert volume.pread(len(data), 4096) == data
    for buffer in buffers:
        buffer[:] = bytes(4096)
    assert volume.preadv(list(reversed(buffers)), 4096) == len(data)
    assert b"".join(bytes(buffer) for buffer in reversed(buffers)) == data
    ranges = Ranges([flat(buffer, writable=False) for buffer in buffers])
    task = Task("write", 0, ranges.length_bytes, 0, ranges)
    piece = task.next_piece(volume.limits, volume._place, alone=True)
    assert piece is not None
    assert piece.entry["segment_count"] == 3
    assert piece.entry["flags"] == wire.SQE_SEGMENTS


def test_arena_that_is_full_is_an_error_until_a_buffer_goes(volume: Volume) -> None:
    held = volume.buffer(256 * 1024)
    with pytest.raises(OSError, match="arena is full") as caught:
        volume.buffer(1)
    assert caught.value.errno == errno.ENOMEM
    with pytest.raises(OSError, match="memory") as caught:
        volume.pread(512, 0)
    assert caught.value.errno == errno.ENOMEM
    assert volume.preadinto(held, 0) == 256 * 1024
    held.release()
    held.release()
    assert volume.pread(512, 0) == bytes(512)
    del held
    volume.buffer(4096)  # nobody keeps it, so it comes back
    volume.buffer(256 * 1024).release()


def test_buffer_outlives_its_volume(connection: Connection) -> None:
    with connection.open("vol", writable=True) as volume:
        buffer = volume.buffer(8192)
        buffer[:5] = b"alive"
        view = memoryview(buffer)
    assert view[:5] == b"alive"
    view[5:10] = b"still"
    with pytest.raises(ValueError, match="closed"):
        volume.pwrite(view, 0)
    with pytest.raises(BufferError):
        buffer.release()
    view.release()
    buffer.release()
    with pytest.raises(ValueError, match="closed"):
        memoryview(buffer)


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (BufferError, lambda v: v.preadinto(b"const", 0)),
        (BufferError, lambda v: v.preadinto(memoryview(bytearray(8))[::2], 0)),
        (BufferError, lambda v: v.pwrite(memoryview(b"12345678")[::2], 0)),
        (TypeError, lambda v: v.pwrite("text", 0)),
        (ValueError, lambda v: v.pread(-1, 0)),
        (ValueError, lambda v: v.pread(1, -1)),
        (ValueError, lambda v: v.discard(-512, 0)),
        (OSError, lambda v: v.pread(1, 2**63 - 1)),
        (OverflowError, lambda v: v.pread(1, 2**63)),
        (OverflowError, lambda v: v.write_zeroes(512, 2**64)),
        (ValueError, lambda v: v.buffer(0)),
        (TypeError, lambda v: v.batch(["read"])),
    ],
)
def test_bad_arguments_are_refused(
    volume: Volume, kind: type[Exception], call: Callable[[Volume], Any]
) -> None:
    with pytest.raises(kind):
        call(volume)
    assert volume.pread(1, 0) == b"\0"


# ---- batches ----


def test_batch_deeper_than_the_queue_has_its_results_in_order(volume: Volume) -> None:
    data = [os.urandom(4096) for _ in range(100)]
    writes = [Write(block, 4096 * number) for number, block in enumerate(data)]
    assert volume.batch([*writes, Flush()]) == [4096] * 100 + [0]
    into = [bytearray(4096) for _ in data]
    assert volume.batch([Read(b, 4096 * n) for n, b in enumerate(into)]) == [4096] * 100
    assert into == data
    assert volume.batch([Discard(4096, 0), WriteZeroes(4096, 4096, may_unmap=False, fua=True)]) == [
        0,
        0,
    ]
    assert volume.pread(4096, 4096) == bytes(4096)
    assert volume.batch([]) == []


def test_failures_of_a_batch_are_told_in_place_or_raised(volume: Volume) -> None:
    requests = [
        Write(b"x" * 512, 0),
        Write(b"x" * 512, 8 * MIB),
        Write(b"x" * 100_000, 8 * MIB - 4096),
        Read(bytearray(1024), 8 * MIB - 512),
    ]
    expected = [512, -errno.EFBIG, -errno.EFBIG, 512]
    assert volume.batch(requests, check=False) == expected
    with pytest.raises(OSError, match="vol") as caught:
        volume.batch(requests)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.results == expected
    assert volume.pread(4096, 8 * MIB - 4096) == bytes(4096), "a part of it was written"


# ---- ranges ----


def test_block_status_covers_the_whole_range_and_merges(volume: Volume) -> None:
    assert [one[1:] for one in volume.block_status()] == [(8 * MIB, True, True)]
    for number in range(4):
        volume.pwrite(b"x" * 65536, MIB + 65536 * number)
    found = list(volume.block_status())
    assert [one.offset_bytes for one in found] == [0, MIB, MIB + 262144]
    assert sum(one.length_bytes for one in found) == 8 * MIB
    assert [one.zero for one in found] == [True, False, True]
    (within,) = volume.block_status(1000, MIB + 10)
    assert within == (MIB + 10, 1000, False, False)
    assert list(volume.block_status(4096, 8 * MIB)) == []


# ---- events, sessions, the end ----


def test_events_tell_of_a_resize(volume: Volume, connection: Connection) -> None:
    assert volume.events() == []
    connection.resize("vol", 16 * MIB)
    event = volume.wait_event(20)
    assert event is not None
    assert (event.kind, event.value) == ("resized", 16 * MIB)
    assert volume.size_bytes == 16 * MIB
    assert volume.wait_event(0) is None


def test_sessions_are_told(volume: Volume, connection: Connection) -> None:
    volume.pwrite(b"x" * 4096, 0)
    (one,) = connection.sessions()
    assert (one.volume, one.mode, one.queues, one.pid) == ("vol", "write", 1, os.getpid())
    assert (one.writes, one.written_bytes) == (1, 4096)
    assert len(one.latency_counts) == wire.LATENCY_BUCKETS


def test_threads_share_a_volume(volume: Volume) -> None:
    failures = []

    def work(number: int) -> None:
        block = bytes([number]) * 4096
        for _ in range(50):
            volume.pwrite(block, number * 4096)
            if volume.pread(4096, number * 4096) != block:
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_server_that_stops_says_so(short_dir: Path) -> None:
    server = Server("memory", socket=short_dir / "t.sock")
    server.start()
    connection = Connection(short_dir / "t.sock")
    connection.create("vol", MIB)
    volume = connection.open("vol")
    server.stop()
    with pytest.raises(OSError, match="stopped") as caught:
        volume.pread(512, 0)
    assert caught.value.errno == errno.ENOTCONN
    assert [event.kind for event in volume.events()] == ["draining", "ended"]
    with pytest.raises(OSError, match="stopped"):
        volume.wait_event()
    assert volume.size_bytes == MIB
    volume.close()
    connection.close()


def test_requests_in_flight_end_when_the_server_is_killed(
    server: Callable[..., ServerProcess],
) -> None:
    process = server("--store", "fault", "--store-option", "never-op=flush,write")
    with Connection(process.socket) as connection:
        connection.create("vol", MIB)
        with connection.open("vol", writable=True) as volume:
            threading.Timer(0.2, process.kill).start()
            requests = [Read(bytearray(512), 0), Write(b"x", 0), Flush()]
            results = volume.batch(requests, check=False)
            assert results == [512, -errno.ENOTCONN, -errno.ENOTCONN]
            with pytest.raises(OSError, match="gone away"):
                volume.flush()
    process.wait()


def test_interrupted_caller_leaves_a_volume_that_works(
    server: Callable[..., ServerProcess],
) -> None:
    process = server(
        "--store", "fault", "--store-option", "delay-op=read", "--store-option", "delay-ms=700"
    )
    with Connection(process.socket) as connection:
        connection.create("vol", MIB)
        with connection.open("vol", writable=True) as volume:
            buffer = bytearray(b"untouched")
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                volume.preadinto(buffer, 0)
            timer.join()
            volume.pwrite(b"x", 0)
            assert volume.pread(1, 0) == b"x"
            assert buffer == b"untouched"


def test_child_after_fork_is_refused_and_the_parent_goes_on(volume: Volume) -> None:
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (lambda: volume.pread(1, 0), volume.stat, lambda: volume.size_bytes):
            try:
                call()
            except RuntimeError:
                refused += 1
        os._exit(refused)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert volume.pread(1, 0) == b"\0"


# ---- servers that are broken (section 11, last paragraph) ----


class FakeServer:
    """Plays a server by a script, in a thread."""

    def __init__(self, path: Path, script: Callable[[FakeServer], None]) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.settimeout(20)
        self.listener.bind(str(path))
        self.listener.listen()
        self.features = tables.FEATURES
        self.stack = ExitStack()
        self.script = script
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        try:
            self.script(self)
        except BaseException as error:
            self.failure = error

    def close(self) -> None:
        self.thread.join(30)
        self.stack.close()
        self.listener.close()
        assert self.failure is None, self.failure

    def accept(self) -> socket.socket:
        peer, _ = self.listener.accept()
        peer.settimeout(20)
        self.stack.callback(peer.close)
        return peer

    def hello(self, **changes: int) -> socket.socket:
        """A new connection, greeted."""
        peer = self.accept()
        request = control.receive(peer)
        limits = {
            "version": wire.VERSION,
            "queues_max": 1,
            "features": self.features,
            "depth_max": 8,
            "request_bytes_max": 65536,
            "range_bytes_max": 1 << 30,
            "segments_max": 8,
            "arena_bytes_max": MIB,
            "capabilities": 127,
            **changes,
        }
        self.reply(peer, request, wire.pack("msg_hello_reply", **limits))
        return peer

    def reply(
        self, peer: socket.socket, request: control.Packet, payload: bytes, fds: Any = ()
    ) -> None:
        packet = control.message(request.type, payload, ident=request.id, flags=wire.MSG_REPLY)
        control.send(peer, packet, fds)

    def opened(self, **changes: int) -> tuple[socket.socket, region.Region]:
        """A session with a volume of 1 MiB; changes: of the region's header."""
        peer = self.hello()
        request = control.receive(peer)
        asked = wire.unpack("msg_open", request.payload)
        layout = region.plan(asked.queues, asked.depth, asked.arena_bytes)
        layout |= {"features": self.features, "block_bytes": 1, "volume_bytes": MIB}
        made = region.create(layout)
        self.stack.callback(made.close)
        os.pwrite(made.fd, wire.pack("region_header", **(layout | changes)), 0)
        doorbells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        answer = wire.pack(
            "msg_open_reply",
            region_bytes=layout["region_bytes"],
            size_bytes=MIB,
            block_bytes=1,
            queues=1,
            depth=asked.depth,
        )
        self.reply(peer, request, answer, [made.fd, *doorbells])
        for fd in doorbells:
            os.close(fd)
        return peer, made


Script = Callable[[FakeServer], None]


@pytest.fixture
def fake(short_dir: Path) -> Iterator[Callable[[Script], Path]]:
    with ExitStack() as stack:

        def start(script: Script) -> Path:
            stack.callback(FakeServer(short_dir / "fake", script).close)
            return short_dir / "fake"

        yield start


@pytest.mark.parametrize(
    "changes",
    [
        {"queues_max": 0},
        {"depth_max": 4097},
        {"request_bytes_max": 2**31},
        {"features": 1 << 60},
        {"arena_bytes_max": 0},
        {"segments_max": 0},
    ],
)
def test_impossible_hello_is_a_broken_server(
    fake: Callable[[Script], Path], changes: dict[str, int]
) -> None:
    path = fake(lambda server: server.hello(**changes) and None)
    with pytest.raises(OSError, match="impossible limits") as caught:
        Connection(path)
    assert caught.value.errno == errno.EPROTO


def test_hello_of_another_version_is_refused(fake: Callable[[Script], Path]) -> None:
    path = fake(lambda server: server.hello(version=2) and None)
    with pytest.raises(OSError, match="version 2") as caught:
        Connection(path)
    assert caught.value.errno == errno.EPROTONOSUPPORT


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"nonsense", "no message"),
        (control.message(wire.MSG_LIST, bytes(112), ident=2, flags=1), "something else"),
        (control.message(wire.MSG_STATUS, bytes(112), ident=9, flags=1), "something else"),
        (control.message(wire.MSG_STATUS, bytes(112), ident=2), "something else"),
        (
            control.message(wire.MSG_STATUS, bytes(112), ident=2, flags=1, status=5),
            "something else",
        ),
        (control.message(wire.MSG_STATUS, bytes(8), ident=2, flags=1), "wrong size"),
        (control.message(wire.MSG_STATUS, bytes(8), ident=2, flags=1, status=-2), "bad refusal"),
        (
            control.message(wire.MSG_STATUS, b"x" * 256, ident=2, flags=1, status=-2),
            "bad refusal",
        ),
        (control.message(wire.MSG_EVENT, bytes(8)), "bad event"),
        (control.message(wire.MSG_EVENT, b"\xff" * 272), "bad event"),
    ],
)
def test_nonsense_for_a_reply_is_a_broken_server(
    fake: Callable[[Script], Path], answer: bytes, words: str
) -> None:
    def script(server: FakeServer) -> None:
        peer = server.hello()
        control.receive(peer)
        control.send(peer, answer)

    with Connection(fake(script)) as connection:
        for _ in range(2):
            with pytest.raises(OSError, match=words) as caught:
                connection.status()
            assert caught.value.errno == errno.EPROTO


def test_descriptors_that_come_with_an_event_are_closed(fake: Callable[[Script], Path]) -> None:
    ours, theirs = os.pipe()

    def script(server: FakeServer) -> None:
        server.hello()
        peer = server.hello()
        request = control.receive(peer)
        event = wire.pack("msg_event", event=77)
        control.send(peer, control.message(wire.MSG_EVENT, event), [theirs])
        os.close(theirs)
        control.send(peer, control.refusal(request.type, request.id, errno.ENOENT, "none"))

    with Connection(fake(script)) as connection, pytest.raises(FileNotFoundError):
        connection.open("vol")
    with os.fdopen(ours, "rb") as pipe:
        os.set_blocking(ours, False)
        assert pipe.read(1) == b"", "somebody still has the other end"


def test_unknown_events_are_ignored(fake: Callable[[Script], Path]) -> None:
    def script(server: FakeServer) -> None:
        peer = server.hello()
        request = control.receive(peer)
        control.send(peer, control.message(wire.MSG_EVENT, wire.pack("msg_event", event=77)))
        server.reply(peer, request, bytes(wire.sizeof("status")))

    with Connection(fake(script)) as connection:
        assert connection.status().pid == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 1},
        {"version": 2},
        {"entries": 1024},
        {"queue_count": 2},
        {"depth": 4},
        {"arena_offset": 0},
        {"arena_bytes": 4096},
        {"region_bytes": 0},
        {"sqes_offset": 2**63},
        {"features": 0},
        {"block_bytes": 512},
        {"resv0": [0, 0, 0, 1]},
    ],
)
def test_region_of_another_layout_is_a_broken_server(
    fake: Callable[[Script], Path], changes: dict[str, Any]
) -> None:
    def script(server: FakeServer) -> None:
        server.hello()
        server.opened(**changes)

    with Connection(fake(script)) as connection, pytest.raises(OSError, match="region") as caught:
        connection.open("vol", depth=8)
    assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize(
    ("result", "user_data", "resv", "tail"),
    [
        (513, 1, 0, 1),  # more than was asked for
        (-5000, 1, 0, 1),  # no errno
        (512, 2, 0, 1),  # nobody's
        (512, 1, 7, 1),
        (512, 1, 0, 9),  # an index that cannot be
        (512, 1, 0, 2**31),
    ],
)
def test_impossible_completion_is_a_broken_server(
    fake: Callable[[Script], Path], result: int, user_data: int, resv: int, tail: int
) -> None:
    done = threading.Event()

    def script(server: FakeServer) -> None:
        server.hello()
        _, made = server.opened()
        memory = made.queue(0)
        # The entry may come before or after the completion that is nobody's.
        memory.cqes[0].user_data = user_data
        memory.cqes[0].result = result
        memory.cqes[0].resv = resv
        memory.words.cq_tail = tail
        done.set()

    with (
        Connection(fake(script)) as connection,
        connection.open("vol", depth=8) as volume,
    ):
        assert done.wait(20)
        with pytest.raises(OSError, match="broke the protocol") as caught:
            volume.pread(512, 0)
        assert caught.value.errno == errno.EPROTO
        with pytest.raises(OSError, match="broke the protocol"):
            volume.pread(512, 0)
