# SPDX-License-Identifier: MIT
"""shmclient in processes that fork or end while volumes are open and requests in flight."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ServerProcess, wait_until

import shmclient

WAIT_S = 60
MIB = 1 << 20


@pytest.fixture
def memory(server: Callable[..., ServerProcess]) -> Path:
    return with_volume(server("--store", "memory")).socket


@pytest.fixture
def never(server: Callable[..., ServerProcess]) -> Iterator[Path]:
    """The socket of a server that completes no reads."""
    process = with_volume(server("--store", "fault", "--store-option", "never-op=read"))
    yield process.socket
    process.kill()  # asked to stop, it would wait for the reads


def with_volume(process: ServerProcess) -> ServerProcess:
    with shmclient.connect(process.socket) as connection:
        connection.create("vol", MIB)
    return process


def python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a program, which must end by itself, with 0 and nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done


FORK = """
    import asyncio, contextlib, gc, os, sys, threading
    import shmclient, shmclient.aio

    connection = shmclient.connect(sys.argv[1])
    volume = connection.open("vol", writable=True)
    buffer = volume.buffer(4096)
    file = volume.file()
    extents = volume.block_status()

    def listen():
        with contextlib.suppress(OSError):  # closed at the end
            volume.wait_event()

    threading.Thread(target=listen, daemon=True).start()

    async def aio_volume():
        server = await shmclient.aio.connect(sys.argv[1])
        return await server.open("vol")

    loop = asyncio.new_event_loop()
    awaited = loop.run_until_complete(aio_volume())

    calls = {
        "pread": lambda: volume.pread(1, 0),
        "pwrite": lambda: volume.pwrite(b"x", 0),
        "batch": lambda: volume.batch([shmclient.Flush()]),
        "flush": volume.flush,
        "block_status": volume.block_status,
        "size_bytes": lambda: volume.size_bytes,
        "limits": lambda: volume.limits,
        "stat": volume.stat,
        "resize": lambda: volume.resize(1 << 30),
        "set_writable": lambda: volume.set_writable(False),
        "events": volume.events,
        "wait_event": lambda: volume.wait_event(0),
        "buffer": lambda: volume.buffer(1),
        "memoryview": lambda: memoryview(buffer),
        "file": lambda: file.read(1),
        "list": connection.list,
        "hello": lambda: connection.hello,
        "open": lambda: connection.open("vol"),
        "create": lambda: connection.create("x", 512),
        "aio pread": lambda: awaited.pread(1, 0),
        "aio size": lambda: awaited.size_bytes,
    }
    pid = os.fork()
    if pid == 0:
        for name, call in calls.items():
            try:
                call()
                print(name, "worked")
            except RuntimeError as error:
                if "fork" not in str(error):
                    print(name, error)
        with shmclient.connect(sys.argv[1]) as own, own.open("vol") as fresh:
            print(len(fresh.pread(100, 0)))
        how = sys.argv[2]
        if how == "close":
            volume.close(), connection.close(), awaited.close(), buffer.release()
            assert volume.closed and connection.closed and buffer.released
        elif how == "forget":
            del volume, connection, buffer, file, extents, awaited, calls
            gc.collect()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert volume.pwrite(b"after", 0, fua=True) == 5
    assert volume.pread(5, 0) == b"after"
    assert volume.preadinto(buffer, 0) == 4096
    assert [one.name for one in connection.list()] == ["vol"]
    assert loop.run_until_complete(asyncio.wait_for(awaited.pread(5, 0), 60)) == b"after"
    assert sum(one.length_bytes for one in extents) == volume.size_bytes
    awaited.close()
    loop.close()
    volume.close()
    connection.close()
    print("parent fine")
"""


@pytest.mark.parametrize("how", ["exit", "close", "forget"])
def test_child_after_fork_is_refused_and_harms_nobody(memory, how):
    done = python(FORK, memory, how)
    assert done.stdout.splitlines() == ["100", "parent fine"]


EXIT = """
    import asyncio, os, sys, threading
    import shmclient, shmclient.aio

    socket, how = sys.argv[1:]
    connection = shmclient.connect(socket)

    def in_flight(count):
        while sum(one.in_flight for one in connection.sessions()) != count:
            pass

    def start(call, *args):
        threading.Thread(target=call, args=args, daemon=True).start()

    if how == "asyncio":
        async def main():
            server = await shmclient.aio.connect(socket)
            volume = await server.open("vol")
            tasks = [asyncio.ensure_future(read(volume)) for _ in range(10)]
            await asyncio.sleep(0)
            await asyncio.to_thread(in_flight, 10)

        async def read(volume):
            await volume.pread(512, 0)

        asyncio.run(main())
    elif how == "asyncio, not closed":
        loop = asyncio.new_event_loop()

        async def main():
            global volume, futures
            server = await shmclient.aio.connect(socket)
            volume = await server.open("vol")
            futures = [volume.pread(512, 0) for _ in range(10)]

        loop.run_until_complete(main())
    else:
        volume = connection.open("vol")
        buffer = volume.buffer(512)
        if how == "sync":
            for _ in range(5):
                start(volume.preadinto, buffer, 0)
                start(volume.pread, 512, 0)
        elif how == "batch":
            start(volume.batch, [shmclient.Read(bytearray(512), 0) for _ in range(10)])
        in_flight(10)
    print("leaving")
"""


@pytest.mark.parametrize("how", ["sync", "batch", "asyncio", "asyncio, not closed"])
def test_interpreter_exits_with_requests_in_flight(never, how):
    assert python(EXIT, never, how).stdout == "leaving\n"


BUSY_EXIT = """
    import sys, threading
    import shmclient

    connection = shmclient.connect(sys.argv[1])
    volume = connection.open("vol")

    def read():
        while True:
            volume.pread(512, 0)
            volume.batch([shmclient.Read(bytearray(512), 0)] * 3)
            volume.stat()

    for _ in range(6):
        threading.Thread(target=read, daemon=True).start()
    while connection.sessions()[0].reads < 1000:
        pass
"""


def test_interpreter_exits_while_threads_come_back_from_their_requests(memory):
    """Python ends such threads where they ask for the GIL: again and again, to meet it."""
    for _ in range(8):
        python(BUSY_EXIT, memory)


def test_ctrl_c_ends_a_program_that_waits(never):
    code = "import shmclient, sys\nshmclient.connect(sys.argv[1]).open('vol').pread(1, 0)"
    process = subprocess.Popen([sys.executable, "-c", code, never], stderr=subprocess.PIPE)
    with process:
        with shmclient.connect(never) as connection:
            wait_until(lambda: sum(one.in_flight for one in connection.sessions()) == 1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == -signal.SIGINT
    assert stderr.endswith(b"KeyboardInterrupt\n")
