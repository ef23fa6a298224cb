# SPDX-License-Identifier: MIT
"""shmclient used wrongly, interrupted, closed in between: an exception, never a hang or a crash.

Where requests must be in flight, a `fault` store never completes reads; that they are there is seen
from the server's count.
"""

import array
import errno
import gc
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
from conftest import ServerProcess, wait_until

import shmclient
from shmclient import Discard, Flush, Read, Write
from shmserver import Server

MIB = 1 << 20
WAIT_S = 60


@pytest.fixture
def connection(short_dir: Path) -> Iterator[shmclient.Connection]:
    with (
        Server("memory", socket=short_dir / "m.sock"),
        shmclient.connect(short_dir / "m.sock") as connection,
    ):
        connection.create("vol", MIB)
        yield connection


@pytest.fixture
def volume(connection: shmclient.Connection) -> Iterator[shmclient.Volume]:
    with connection.open("vol", writable=True) as volume:
        yield volume


@pytest.fixture
def never(server: Callable[..., ServerProcess]) -> Iterator[ServerProcess]:
    """A server with a volume; it completes writes and no reads."""
    process = server("--store", "fault", "--store-option", "never-op=read")
    with shmclient.connect(process.socket) as connection:
        connection.create("vol", MIB)
    yield process
    process.kill()  # asked to stop, it would wait for the reads


def wait_in_flight(socket: Path, count: int) -> None:
    with shmclient.connect(socket) as connection:
        wait_until(lambda: sum(one.in_flight for one in connection.sessions()) == count)


# ---- wrong arguments ----


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda v: v.preadinto(b"read-only", 0), BufferError, "not writable"),
        (lambda v: v.preadinto("text", 0), TypeError, "buffer|bytes-like"),
        (lambda v: v.preadinto(memoryview(bytearray(10))[::2], 0), BufferError, "contiguous"),
        (lambda v: v.preadinto(numpy.zeros((4, 4))[:, 1], 0), ValueError, "contiguous"),
        (lambda v: v.preadv([bytearray(4), b"read-only"], 0), BufferError, "not writable"),
        (lambda v: v.preadv(5, 0), TypeError, "iterable"),
        (lambda v: v.preadv([5], 0), TypeError, "buffer|bytes-like"),
        (lambda v: v.pwrite(memoryview(bytes(10))[::-1], 0), BufferError, "contiguous"),
        (lambda v: v.pwrite("text", 0), TypeError, "buffer|bytes-like"),
        (lambda v: v.pwrite(None, 0), TypeError, "buffer|bytes-like"),
        (lambda v: v.pread(-1, 0), ValueError, "length_bytes must not be negative"),
        (lambda v: v.pread(1, -1), ValueError, "offset_bytes must not be negative"),
        (lambda v: v.pread(2**63, 0), OverflowError, "length_bytes must be less"),
        (lambda v: v.pread(1, 2**64), OverflowError, "offset_bytes must be less"),
        (lambda v: v.pread(1, 2**63 - 1), OSError, "beyond"),
        (lambda v: v.pread(1.0, 0), TypeError, "float"),
        (lambda v: v.pread(None, 0), TypeError, "NoneType"),
        (lambda v: v.pread(1), TypeError, "missing required argument 'offset_bytes'"),
        (lambda v: v.pread(1, 0, 0), TypeError, "at most 2"),
        (lambda v: v.pwrite(b"x", 0, True), TypeError, "at most 2"),
        (lambda v: v.pwrite(b"x", 0, fau=True), TypeError, "unexpected keyword argument 'fau'"),
        (lambda v: v.discard(-1, 0), ValueError, "negative"),
        (lambda v: v.write_zeroes(1, -1), ValueError, "negative"),
        (lambda v: v.block_status(-1), ValueError, "negative"),
        (lambda v: v.block_status(1, -1), ValueError, "negative"),
        (lambda v: v.resize(-512), ValueError, "negative"),
        (lambda v: v.resize(1000), OSError, "512"),
        (lambda v: v.flush(1), TypeError, "at most 0"),
        (lambda v: type(v).__new__(type(v)), TypeError, "safe|cannot"),
        (lambda v: type(v)(), TypeError, "cannot create"),
        (lambda v: type(v).pread(5, 1, 0), TypeError, "descriptor"),
    ],
)
def test_caller_with_wrong_arguments_is_refused(volume, call, kind, text):
    with pytest.raises(kind, match=text):
        call(volume)
    assert volume.pread(1, 0) == b"\0"


def test_anything_that_is_contiguous_bytes_will_do(volume):
    numbers = numpy.arange(64, dtype="<u4").reshape(8, 8)
    assert volume.pwrite(numbers, 0) == 256
    found = numpy.zeros((8, 8), dtype="<u4")
    assert volume.preadinto(found, numpy.int64(0)) == 256
    assert (found == numbers).all()
    words = array.array("H", [0] * 10)
    assert volume.preadinto(words, 0) == 20
    assert words[2] == 1


def test_caller_with_parts_of_blocks_is_told_their_size(short_dir):
    with (
        Server("fault", socket=short_dir / "b.sock", options={"block-bytes": "4096"}),
        shmclient.connect(short_dir / "b.sock") as connection,
    ):
        connection.create("vol", MIB)
        with connection.open("vol", writable=True) as volume:
            for call in (
                lambda: volume.preadinto(bytearray(100), 0),
                lambda: volume.pread(4096, 512),
                lambda: volume.pwrite(b"x", 0),
                lambda: volume.discard(4096, 1),
            ):
                with pytest.raises(OSError, match="blocks are of 4096 bytes") as caught:
                    call()
                assert caught.value.errno == errno.EINVAL


def test_names_of_implementations_are_kept():
    with pytest.raises(ValueError, match="implementation"):
        shmclient.connect("/nowhere", implementation="rust")


# ---- used after close ----


def test_caller_using_what_is_closed_gets_a_value_error(connection):
    volume = connection.open("vol", writable=True)
    file = volume.file()
    volume.close()
    volume.close()
    for call in (
        lambda: volume.pread(1, 0),
        lambda: volume.preadinto(bytearray(1), 0),
        lambda: volume.preadv([bytearray(1)], 0),
        lambda: volume.pwrite(b"x", 0),
        lambda: volume.pwritev([b"x"], 0),
        volume.flush,
        lambda: volume.discard(1, 0),
        lambda: volume.write_zeroes(1, 0),
        volume.block_status,
        lambda: volume.batch([Flush()]),
        lambda: volume.buffer(1),
        lambda: volume.size_bytes,
        lambda: volume.limits,
        lambda: volume.name,
        lambda: volume.writable,
        volume.stat,
        lambda: volume.resize(2 * MIB),
        lambda: volume.set_writable(False),
        volume.events,
        lambda: volume.wait_event(0),
        volume.file,
        lambda: file.read(1),
        volume.__enter__().flush,
    ):
        with pytest.raises(ValueError, match="closed"):
            call()
    connection.close()
    connection.close()
    for call in (
        lambda: connection.hello,
        connection.status,
        connection.sessions,
        connection.list,
        lambda: connection.create("x", MIB),
        lambda: connection.remove("x"),
        lambda: connection.resize("x", MIB),
        lambda: connection.stat("x"),
        lambda: connection.open("vol"),
        lambda: connection.snapshot_list("vol"),
        lambda: connection.snapshot_create("vol", "s"),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


# ---- threads ----


def test_requests_of_all_threads_are_in_flight_together(never):
    with (
        shmclient.connect(never.socket) as connection,
        connection.open("vol", writable=True) as volume,
        ThreadPoolExecutor(8) as threads,
    ):
        waiting = [threads.submit(volume.pread, 512, 0) for _ in range(7)]
        waiting.append(threads.submit(volume.batch, [Read(bytearray(512), 0)] * 5))
        wait_in_flight(never.socket, 12)
        assert volume.pwrite(b"x", 0) == 1
        volume.close()
        for one in waiting:
            with pytest.raises(OSError, match="closed") as caught:
                one.result(WAIT_S)
            assert caught.value.errno == errno.ENOTCONN


def test_volume_closed_by_another_thread_ends_every_kind_of_wait(never):
    """Also that of a full queue, and of events; what they used is free afterwards."""
    with shmclient.connect(never.socket) as connection, ThreadPoolExecutor(8) as threads:
        volume = connection.open("vol", writable=True, depth=2)
        buffer = volume.buffer(4096)
        target = bytearray(4096)
        waiting = [
            threads.submit(volume.preadinto, buffer, 0),
            threads.submit(volume.preadinto, target, 0),
        ]
        wait_in_flight(never.socket, 2)
        waiting += [
            threads.submit(volume.pwrite, b"no room", 0),
            threads.submit(volume.batch, [Write(b"no room", 0), Discard(1, 0)]),
            threads.submit(volume.wait_event),
        ]
        volume.close()
        for one in waiting:
            with pytest.raises((OSError, ValueError), match="closed"):
                one.result(WAIT_S)
        buffer.release()
        target.extend(b"resized")


def test_threads_close_and_use_a_volume_at_random(connection):
    def use(volume: shmclient.Volume) -> None:
        buffers = []
        try:
            while True:
                buffers = [volume.buffer(4096)]
                volume.preadinto(buffers[0], 0)
                volume.batch([Read(bytearray(512), 0), Write(b"x" * 512, 512), Flush()])
                assert len(volume.pread(512, 1024)) == 512
        except (ValueError, OSError) as error:
            assert "closed" in str(error)  # noqa: PT017
        for buffer in buffers:
            memoryview(buffer)[:5] = b"valid"

    with ThreadPoolExecutor(6) as threads:
        for _ in range(40):
            wait_until(lambda: connection.sessions() == [])
            volume = connection.open("vol", writable=True, depth=4)
            using = [threads.submit(use, volume) for _ in range(5)]
            wait_until(lambda: connection.sessions()[0].reads > 20)
            volume.close()
            for one in using:
                one.result(WAIT_S)


def test_threads_with_batches_and_single_requests_all_get_their_turn(connection):
    blocks = 64
    failures = []
    with connection.open("vol", writable=True, depth=16) as volume:

        def work(number: int) -> None:
            start = number * blocks * 512
            data = [bytes([number, i]) * 256 for i in range(blocks)]
            for _ in range(30):
                volume.batch([Write(one, start + 512 * i) for i, one in enumerate(data)])
                into = [bytearray(512) for _ in range(blocks)]
                volume.batch([Read(one, start + 512 * i) for i, one in enumerate(into)])
                if into != data or volume.pread(512, start) != data[0]:
                    failures.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    assert failures == []


# ---- the server goes ----


def test_server_killed_with_requests_in_flight(never):
    with (
        shmclient.connect(never.socket) as connection,
        connection.open("vol", writable=True) as volume,
        ThreadPoolExecutor(4) as threads,
    ):
        waiting = [
            threads.submit(volume.pread, 512, 0),
            threads.submit(volume.batch, [Read(bytearray(512), 0) for _ in range(3)]),
            threads.submit(volume.wait_event),
        ]
        wait_in_flight(never.socket, 4)
        never.kill()
        for one in waiting:
            with pytest.raises(OSError, match="gone") as caught:
                one.result(WAIT_S)
            assert caught.value.errno == errno.ENOTCONN
        for call in (
            lambda: volume.pread(1, 0),
            lambda: volume.batch([Flush()]),
            volume.stat,
            connection.list,
        ):
            with pytest.raises(OSError, match="gone") as caught:
                call()
            assert caught.value.errno == errno.ENOTCONN


# ---- Ctrl-C ----


class InterruptedOnce:
    """SIGINT to this process as soon as so many requests are in flight."""

    def __init__(self, socket: Path, count: int) -> None:
        self._thread = threading.Thread(target=self._interrupt, args=(socket, count))

    def _interrupt(self, socket: Path, count: int) -> None:
        wait_in_flight(socket, count)
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(WAIT_S)


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (lambda volume: volume.pread(512, 0), 1),
        (lambda volume: volume.batch([Read(bytearray(512), 0) for _ in range(100)]), 8),
        (lambda volume: volume.wait_event(), 0),
    ],
    ids=["pread", "batch", "wait_event"],
)
def test_ctrl_c_ends_a_wait(never, call, count):
    with (
        shmclient.connect(never.socket) as connection,
        connection.open("vol", writable=True, depth=8) as volume,
    ):
        with InterruptedOnce(never.socket, count), pytest.raises(KeyboardInterrupt):
            call(volume)
        assert volume.size_bytes == MIB
        if count < 8:
            assert volume.pwrite(b"x", 0) == 1


def test_ctrl_c_ends_a_wait_while_another_thread_waits_too(never):
    with (
        shmclient.connect(never.socket) as connection,
        connection.open("vol") as volume,
        ThreadPoolExecutor(1) as threads,
    ):
        other = threads.submit(volume.pread, 512, 0)
        wait_in_flight(never.socket, 1)
        with InterruptedOnce(never.socket, 2), pytest.raises(KeyboardInterrupt):
            volume.pread(512, 0)
        volume.close()
        with pytest.raises(OSError, match="closed"):
            other.result(WAIT_S)


def test_ctrl_c_leaves_the_memory_in_use_until_the_server_has_answered(server):
    slow = server("--store", "fault", "--store-option", "delay-ms=500")
    with shmclient.connect(slow.socket) as connection:
        connection.create("vol", MIB)
        with connection.open("vol", writable=True) as volume:
            buffer = volume.buffer(4096)
            target = bytearray(4096)
            with InterruptedOnce(slow.socket, 1), pytest.raises(KeyboardInterrupt):
                volume.preadinto(buffer, 0)
            with InterruptedOnce(slow.socket, 2), pytest.raises(KeyboardInterrupt):
                volume.preadv([target], 0)
            with pytest.raises(BufferError, match="in use"):
                buffer.release()
            with pytest.raises(BufferError):
                target.extend(b"x")
            volume.pread(1, 0)  # comes after the two, and settles them
            buffer.release()
            target.extend(b"x")


def test_ctrl_c_ends_a_wait_for_a_server_that_does_not_answer(server):
    """Stopped as by a debugger: calls about volumes wait for it too."""
    process = server("--store", "memory")
    with shmclient.connect(process.socket) as connection:
        connection.create("vol", MIB)
        with connection.open("vol") as volume:
            for call in (connection.list, volume.stat, lambda: connection.open("vol")):
                process.signal(signal.SIGSTOP)
                try:
                    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
                    timer.start()
                    with pytest.raises(KeyboardInterrupt):
                        call()
                finally:
                    process.signal(signal.SIGCONT)
                timer.join(WAIT_S)
                assert volume.stat().size_bytes == MIB
                assert [one.name for one in connection.list()] == ["vol"]


def test_signal_handler_may_close_the_volume_it_interrupts(never):
    with shmclient.connect(never.socket) as connection, connection.open("vol") as volume:
        before = signal.signal(signal.SIGINT, lambda *_: volume.close())
        try:
            with InterruptedOnce(never.socket, 1), pytest.raises(OSError, match="closed"):
                volume.pread(512, 0)
        finally:
            signal.signal(signal.SIGINT, before)


# ---- leftovers ----


def test_nothing_is_left_of_what_was_opened(connection):
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:")

    def use() -> None:
        volume = connection.open("vol")
        buffer = volume.buffer(4096)
        volume.preadinto(buffer, 0)
        io.BufferedReader(volume.file("r")).read(10)
        list(volume.block_status())
        volume.close()
        del volume
        assert bytes(buffer) == bytes(4096)

    use()
    gc.collect()
    before = descriptors(), mappings()
    for _ in range(20):
        use()
    gc.collect()
    wait_until(lambda: (descriptors(), mappings()) == before)
